"""Affine's limits, and the priors: densities, tables and outliers."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted import (
    SHAPE,
    check_bytes,
    check_exact,
    first,
    fitted,
    hard,
    latents,
    settled,
)

from sc_jax.compressors import Affine, FactorizedPrior, LaplacePrior, TopK
from sc_jax.compressors import factorized_prior as prior
from sc_jax.compressors.laplace_prior import log_mass
from sc_jax.compressors.splits import settle
from sc_jax.errors import UsageError
from sc_jax.nets.net import INPUT, Net, SplitPoint
from sc_jax.nets.run import Variables

PRIORS = [FactorizedPrior(), FactorizedPrior(compat=True), LaplacePrior()]


@pytest.mark.parametrize("module", [Affine(8), Affine(1), TopK(0.5)], ids=repr)
def test_constant_and_extreme_latents(module):
    z = np.stack([
        np.zeros(SHAPE), np.full(SHAPE, 3.7), np.full(SHAPE, -1e30),
        np.linspace(-1e30, 1e30, 1600).reshape(SHAPE), np.full(SHAPE, 1e-40),
    ]).astype(np.float32)  # fmt: skip
    check_exact(module, {}, z)


@pytest.mark.parametrize("aware", [False, True])
def test_affine_training_passes_the_gradient(aware):
    z = jnp.asarray(latents(1.0, 2))
    module = Affine(4, aware)
    out, _ = module.apply({}, z, train=True)
    z_hat, _ = hard(module, {}, z)
    np.testing.assert_allclose(out, z_hat if aware else z, rtol=1e-6, atol=1e-6)
    slope = jax.grad(lambda z: module.apply({}, z, train=True)[0].sum())(z)
    np.testing.assert_array_equal(slope, 1)


def test_a_value_at_the_very_median_has_its_mass():
    """Both ends of its interval cancel exactly there, in one channel of seven."""
    module, z = FactorizedPrior(), jnp.zeros((1, 1000))
    params = module.init(jax.random.key(0), z, train=False)["params"]
    solved = prior.solve_quantiles(jax.device_get(dict(params)))
    medians = jnp.asarray(solved[:, 1])
    lower, upper = (prior.cumulative(params, medians + d) for d in (-0.5, 0.5))
    cancelled = np.asarray(lower + upper == 0)
    assert cancelled.sum() > 50
    mass = np.asarray(prior.likelihood(params, medians))
    ends = [np.asarray(jax.nn.sigmoid(end)) for end in (lower, upper)]
    np.testing.assert_allclose(mass, ends[1] - ends[0], rtol=1e-4)
    # A density about 10 wide: five bits, where the bound of 30 would show.
    assert -np.log2(mass.min()) < 6
    # NumPy's branch, where tables are built.
    own, at = jax.device_get(dict(params)), solved[:, 1]
    lower, upper = (prior.cumulative(own, at + np.float32(d), np) for d in (-0.5, 0.5))
    assert (lower + upper == 0).sum() > 50
    np.testing.assert_allclose(prior.likelihood(own, at, np), mass, rtol=1e-3)


@pytest.mark.parametrize("module", PRIORS, ids=repr)
def test_a_wider_latent_has_the_same_tables(module):
    params, z = fitted(module, "middle"), latents(1.0, 7)
    bits = hard(module, params, z)[1].sum(keepdims=True)
    wide = module.codec(params, (4 * SHAPE[0], *SHAPE[1:]))
    check_bytes(wide, z.reshape(1, -1, *SHAPE[1:]), bits)


@pytest.mark.parametrize("module", PRIORS, ids=repr)
def test_outliers_escape_and_come_back(module):
    z = latents(1.0, 9)
    z[:, 3, 4, 0], z[:, 7, 5, 1], z[:, 0, 0, 3] = 1e4, -1e4, 123456.0
    check_exact(module, fitted(module, "middle"), z)


@pytest.mark.parametrize("module", PRIORS[::2], ids=repr)
def test_an_untrained_prior_is_usable(module):
    z = latents(1.0, 10)
    check_exact(module, settled(module, first(module, z, 2)), z)


@pytest.mark.parametrize("scale", [1e-3, 0.3, 5.0, 1e5])
def test_a_laplace_mass_is_the_integral_of_its_density(scale):
    """In double precision, and in float32 to its own; 1 over all integers."""
    v = np.concatenate([np.linspace(-3, 3, 61), [-40.0, 40.0]])
    low, high = v - 0.5, v + 0.5

    def below(x):
        half = 0.5 * np.exp(-np.abs(x) / scale)
        return np.where(x < 0, half, 1 - half)

    exact = below(high) - below(low)
    np.testing.assert_allclose(np.exp(log_mass(v, scale, np)), exact, atol=1e-15)
    ours = np.asarray(log_mass(jnp.float32(v), jnp.float32(scale)))
    wide = np.maximum(log_mass(v, scale, np), -90)
    np.testing.assert_allclose(np.maximum(ours, -90), wide, rtol=1e-5, atol=1e-6)
    slope = jax.vmap(jax.grad(log_mass), (0, None))(jnp.float32(v), jnp.float32(scale))
    assert np.isfinite(slope).all() and (slope[v > 0] <= 0).all()


def test_top_k_keeps_the_first_of_equal_magnitudes():
    codec = TopK(0.3, 8).codec({}, (10,))
    z = np.array([1, -2, 2, 0.5, -2, 2, 0, 1, 1, 1], np.float32)
    kept = codec.decode(codec.encode(z))
    assert np.flatnonzero(kept).tolist() == [1, 2, 4]
    assert replace(codec, k=10).decode(replace(codec, k=10).encode(z)).shape == (10,)


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_beyond_its_range_is_one_line(share):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        TopK(share).codec({}, (10,))


def test_solved_quantiles_meet_their_targets():
    params = fitted(FactorizedPrior(), "middle")
    wide = {k: np.asarray(v, np.float64) for k, v in params.items()}
    logits = prior.cumulative(wide, wide["quantiles"].T, np)
    edge = np.log(2 / prior.TAIL_MASS - 1)
    np.testing.assert_allclose(logits[1], 0, atol=1e-4)
    np.testing.assert_allclose(logits[[0, 2]], [[-edge] * 4, [edge] * 4], rtol=1e-3)


def test_settle_changes_quantiles_alone_and_only_once():
    module = FactorizedPrior()
    params = fitted(module, "middle")
    net = Net((), splits=(SplitPoint(INPUT, module),))
    others = {"encoder": {"w": np.ones(2)}, "split@input": params}
    again = settle(net, Variables(others, {}))
    np.testing.assert_array_equal(
        again.params["split@input"]["quantiles"], params["quantiles"]
    )
    assert again.params["encoder"] is others["encoder"]


def test_probabilities_sum_to_one():
    params = fitted(FactorizedPrior(), "middle")
    rows, _, tails = prior.pmfs(params)
    for row, tail in zip(rows, tails):
        assert (row >= 0).all() and 0 <= tail < 1e-6
        assert row.sum() + tail == pytest.approx(1, abs=1e-9)
