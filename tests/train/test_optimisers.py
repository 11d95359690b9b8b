"""An optimiser's rate, and that of compressors beside it."""

import jax
import jax.numpy as jnp
import optax
import pytest

from sc_jax.train.optimisers import Optimiser

PARAMS = {"encoder": {"w": jnp.ones(3)}, "split@encoder": {"w": jnp.ones(3)}}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_compressors_move_by_their_own_rate(name):
    slopes = jax.tree.map(lambda p: 0.5 * p, PARAMS)

    def moved(factor):
        built = Optimiser(name, 0.1, split_factor=factor).build(10)
        return built.update(slopes, built.init(PARAMS), PARAMS)[0]

    plain, own = moved(1.0), moved(30.0)
    assert (plain["encoder"]["w"] < 0).all()
    assert (own["encoder"]["w"] == plain["encoder"]["w"]).all()
    assert own["split@encoder"]["w"] == pytest.approx(30 * plain["encoder"]["w"])


def test_states_of_one_rate_are_those_of_runs_from_before():
    before = jax.tree.structure(Optimiser().build(10).init(PARAMS))
    assert before == jax.tree.structure(
        optax.adam(optax.constant_schedule(1e-3)).init(PARAMS)
    )
