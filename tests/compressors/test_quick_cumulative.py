"""The quick cumulative against the plain one: masses, gradients, when it is taken."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.compressors import FactorizedPrior, VariableRatePrior, quick_cumulative
from sc_jax.compressors import factorized_prior as prior
from sc_jax.nets.layers.blocks import lower_bound
from sc_jax.nets.layers.convolution import plain

CHANNELS = 5


def drawn(seed: int = 0) -> tuple[dict, jax.Array]:
    """A density of every shape, and a latent of which much lies in its tails."""
    draw = np.random.default_rng(seed).standard_normal
    first = FactorizedPrior().init(
        jax.random.key(seed), jnp.ones((1, CHANNELS)), train=False
    )
    params = jax.tree.map(lambda p: p + 0.3 * draw(p.shape).astype(np.float32), first)
    scale = np.geomspace(0.1, 100, CHANNELS)
    return params["params"], jnp.asarray(scale * draw((3, 7, 6, CHANNELS)), jnp.float32)


def bits(quick, width, params, v):
    mass = prior.likelihood(params, v, width=width, quick=quick)
    return -jnp.log2(lower_bound(mass, prior.LIKELIHOOD_BOUND)).sum(), mass


@pytest.mark.parametrize("chunk", [40 * CHANNELS, 10**6])
def test_masses_and_gradients_are_those_of_the_plain_form(chunk, monkeypatch):
    """Chunks that the places do not divide into, and one that holds them all."""
    monkeypatch.setattr(quick_cumulative, "_CHUNK", chunk)
    params, v = drawn()
    width = jnp.linspace(0.4, 2.0, CHANNELS).reshape(1, 1, 1, -1)

    def both(quick):
        loss = partial(bits, quick, width)
        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, v)

    ((total, mass), slopes), ((_, exact), wanted) = both(True), both(False)
    np.testing.assert_allclose(mass, exact, rtol=1e-4, atol=1e-6)
    assert np.isfinite(total) and exact.min() < 1e-9 and exact.max() > 0.05
    for got, want in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted)):
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("module", [FactorizedPrior(), VariableRatePrior()], ids=repr)
def test_it_is_taken_for_large_latents_in_training_alone(module):
    side = int(np.sqrt(quick_cumulative._SMALL / CHANNELS)) + 1

    def traced(side, train=True):
        z = jnp.ones((1, side, side, CHANNELS))
        key = jax.random.key(0)
        variables = module.init(
            {"params": key, "noise": key}, z[:, :1, :1], train=False
        )
        call = partial(module.apply, train=train, rngs={"noise": key})
        return str(jax.make_jaxpr(call)(variables, z))

    assert "_chunked" in traced(side)
    assert "_chunked" not in traced(side // 2)
    assert "_chunked" not in traced(side, train=False)
    with plain():
        assert "_chunked" not in traced(side)
