"""Stages that are the teacher's own are computed once in a step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.compressors import FactorizedPrior, Image
from sc_jax.losses.distillation import Hint
from sc_jax.losses.rate import Rate
from sc_jax.losses.terms import Term
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.nets.net import INPUT, cut_at, insert
from sc_jax.nets.run import Variables
from sc_jax.recipes import build
from sc_jax.train.loop import first_variables
from sc_jax.train.recipe import Phase
from sc_jax.train.step import begin, divide, in_common, make_step

EXAMPLE = np.zeros((1, 16, 16, 1), np.uint8)
KEPT = "layer1"  # and the stages before it


@pytest.fixture(scope="module")
def recipe():
    teacher = build("classifier", {"data": "little", "batch_size": 8})
    pair = PAIRS["projection"](4, 64, (1, 1), False)
    net = insert(teacher.net, KEPT, pair, FactorizedPrior())
    terms = (
        Term(Hint("decoder", KEPT, "mean"), name="cut"),
        Term(Hint(KEPT, KEPT, "mean"), name="kept"),  # of a stage that is not run
        Term(Hint("layer3", "layer3", "mean"), name="later"),
        Term(Rate(), weight=1e-4, name="bits"),
    )
    phase = Phase("pair", 2, terms, ("encoder", "split@encoder", "decoder"))
    return replace(teacher, net=net, teacher=teacher, phases=(phase,))


@pytest.fixture(scope="module")
def variables(recipe):
    """(student's, teacher's), the first with the second's parts."""
    taught = first_variables(recipe.teacher, None, EXAMPLE)
    return first_variables(recipe, taught, EXAMPLE), taught


def common(recipe, variables, phase=None):
    phase = phase or recipe.phases[0]
    cold = divide(recipe, phase, variables[0])[1]
    return in_common(recipe, phase, cold, variables[0].state, variables[1])


def test_it_ends_where_parts_differ_are_trained_or_read(recipe, variables):
    assert common(recipe, variables) == KEPT
    assert common(recipe.teacher, variables) == INPUT  # has no teacher
    trained = replace(recipe.phases[0], trainable=(KEPT, "encoder"))
    assert common(recipe, variables, trained) == "stem"
    other = jax.tree.map(lambda leaf: leaf, variables[0])
    other.params["stem"] = jax.tree.map(lambda leaf: leaf + 1e-6, other.params["stem"])
    # What is left has no parameters, and is not worth it.
    assert common(recipe, (other, variables[1])) == INPUT
    drifted = dict(variables[0].state)
    drifted[KEPT] = jax.tree.map(lambda leaf: leaf + 1, drifted[KEPT])
    moved = Variables(variables[0].params, drifted)
    assert common(recipe, (moved, variables[1])) == "stem"
    sent = replace(recipe, net=cut_at(recipe.net, INPUT, Image()))
    assert common(sent, variables) == INPUT


def test_a_step_from_there_is_the_same_step(recipe, variables):
    phase, taught = recipe.phases[0], variables[1]
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (8, 16, 16, 1), np.uint8),
        "label": np.arange(8, dtype=np.int32) % 3,
    }
    cold, ends = divide(recipe, phase, variables[0])[1], []
    for shared in (INPUT, KEPT):
        state = jax.tree.map(jnp.copy, begin(recipe, phase, variables[0]))
        key = jax.random.key(1)
        advance = make_step(recipe, phase, shared)
        ends.append(advance(state, cold, taught, batch, 0, key))
    (plain, values), (quick, same) = ends
    assert values.keys() == same.keys() and same["kept"] == 0
    for name in values:
        np.testing.assert_allclose(same[name], values[name], rtol=1e-4, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        jax.device_get(quick.hot), jax.device_get(plain.hot),
    )  # fmt: skip
