"""One prior at several rates: tables, exact bytes, what training draws."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted import check_bytes, check_exact, first, fitted, hard, latents, settled, soft

from sc_jax.codec import codecs
from sc_jax.codec.codecs import CorruptStream
from sc_jax.codec.tables import Tables
from sc_jax.codec.variable_rate import VariableRateCodec
from sc_jax.compressors import FactorizedPrior, VariableRatePrior
from sc_jax.compressors.factorized_prior import pmfs
from sc_jax.errors import UsageError
from sc_jax.losses.rate import Rate
from sc_jax.losses.terms import Context
from sc_jax.nets.net import INPUT, Net, SplitPoint
from sc_jax.nets.run import Outputs, Variables, run

FOUR = VariableRatePrior()


@pytest.fixture(scope="module")
def params():
    """A fitted density, and gains that make every width another number."""
    found = fitted(replace(FOUR, level=0), "middle")
    gains = np.random.default_rng(3).normal(0, 0.2, found["log_gain"].shape)
    return jax.device_get(settled(FOUR, {**found, "log_gain": gains.astype("f4")}))


@pytest.fixture(scope="module")
def z():
    return latents(1.0, 7)


def test_one_level_of_width_1_is_the_factorized_prior(z):
    one, same = VariableRatePrior((1.0,)), FactorizedPrior()
    fresh, begun = first(one, z), first(same, z)
    assert all(np.array_equal(fresh[name], begun[name]) for name in begun)
    known = fitted(same, "middle")
    params = jax.device_get(settled(one, {**fresh, **known}))
    for run_once in (soft, hard):
        ours, theirs = run_once(one, params, z), run_once(same, known, z)
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6)
    ours, theirs = one.codec(params, z.shape[1:]), same.codec(known, z.shape[1:])
    assert ours.tables == (theirs.tables,)
    for example in z:
        assert ours.encode(example) == b"\0" + theirs.encode(example)


def test_every_level_is_exact_in_bytes_and_costs_more_than_the_one_before(params, z):
    sizes, saved = [], codecs.from_arrays(FOUR.codec(params, z.shape[1:]).to_arrays())
    assert saved.level == 3 and codecs.levels_of(saved) == 4
    for level, width in enumerate(params["bins"][:, 1]):
        at, sender = FOUR.at_level(level), codecs.at_level(saved, level)
        bits = check_exact(at, params, z)
        check_bytes(sender, z, bits)
        # Any level is decoded by the codec of any other.
        data = sender.encode(z[0])
        assert data[0] == level and data == at.codec(params, z.shape[1:]).encode(z[0])
        np.testing.assert_array_equal(saved.decode(data), sender.decode(data))
        sizes.append(sum(len(sender.encode(example)) for example in z))
        # Whole bins of the density hold all of it.
        rows, _, tails = pmfs(params, width=width.astype(np.float64))
        sums = [row.sum() + tail for row, tail in zip(rows, tails)]
        np.testing.assert_allclose(sums, 1, atol=1e-9)
    # Of a fine bin half the width is one bit a symbol; here a level is the half of 2.
    assert (np.diff(sizes) > 0.15 * z.size / 8).all(), sizes
    # Outliers escape at each level.
    far = z.copy()
    far[:, 3, 4, 0], far[:, 0, 0, 3] = 1e4, -123456.0
    for level in (0, 3):
        check_exact(FOUR.at_level(level), params, far)


def test_a_step_draws_a_level_an_example_and_weighs_its_bits(params):
    z = latents(1.0, 8, 64)
    keys = {"noise": jax.random.key(5)}
    weights = np.array(FOUR.steps) ** 2

    def level_of(extras):
        return np.abs(np.subtract.outer(extras["rate_weight"], weights)).argmin(1)

    run_once = jax.jit(FOUR.apply, static_argnames="train")
    z_hat, bits, extras = run_once({"params": params}, z, train=True, rngs=keys)
    level, width = level_of(extras), params["bins"][:, 1]
    np.testing.assert_allclose(extras["rate_weight"], weights[level], rtol=1e-5)
    assert set(level) == {0, 1, 2, 3}
    share = np.abs(z_hat - z) / width[level][:, None, None]
    assert share.max() < 0.501 and (share.max((1, 2, 3)) > 0.49).all()
    # A frozen prior rounds, at a level of its own for each example too.
    rounded, frozen, extras = run_once({"params": params}, z, train=False, rngs=keys)
    at_level = [hard(FOUR.at_level(n), params, z) for n in range(4)]
    drawn = level_of(extras)
    for i, n in enumerate(drawn):
        np.testing.assert_array_equal(rounded[i], at_level[n][0][i])
    for n in range(4):
        exact = at_level[n][1]
        np.testing.assert_allclose(frozen[drawn == n], exact[drawn == n], rtol=1e-5)
        # Additive noise bounds the rounded rate, at each level.
        assert bits[level == n].mean() > 0.97 * exact[level == n].mean()


def test_narrow_bins_may_be_drawn_more_often():
    steps, count = np.array(FOUR.steps), 8000
    for draw in (0.0, 1.0, -0.5):
        keys = {"noise": jax.random.key(6)}
        level = replace(FOUR, draw=draw).apply(
            {}, steps, (count,), rngs=keys, method="_drawn"
        )
        found = np.bincount(level, minlength=4) / count
        chance = steps**-draw / (steps**-draw).sum()
        # Five standard errors of a share.
        assert (abs(found - chance) < 5 * np.sqrt(chance / count)).all(), found


def test_a_run_gives_a_frozen_prior_its_draws_and_the_loss_its_weights(params, z):
    net = Net((), splits=(SplitPoint(INPUT, FOUR),))
    variables = Variables({"split@input": params}, {"split@input": {}})
    out, _ = run(net, variables, z)
    assert out.extras.get("split@input") is None
    out, _ = run(net, variables, z, key=jax.random.key(2))
    weight = out.extras["split@input"]["rate_weight"]
    found = Rate()(Context(out, None, {}))
    np.testing.assert_allclose(found, weight * out.bits["split@input"])
    plain = Outputs({}, {}, {"a": jnp.ones(4)}, {"a": {}})
    np.testing.assert_array_equal(Rate("a")(Context(plain, None, {})), 1)


def test_gains_and_density_learn_and_what_is_solved_does_not(params, z):
    def loss(params, train):
        keys = {"noise": jax.random.key(1)}
        z_hat, bits, _ = FOUR.apply({"params": params}, z, train=train, rngs=keys)
        return bits.mean() + 100 * ((z_hat - z) ** 2).mean()

    slopes = jax.jit(jax.grad(loss), static_argnums=1)(params, True)
    assert all(np.isfinite(leaf).all() for leaf in slopes.values())
    still = {name for name, leaf in slopes.items() if not np.any(leaf)}
    assert still == {"quantiles", "bins"}


def test_damage_and_mistakes_are_one_line(params, z):
    codec = FOUR.codec(params, z.shape[1:])
    data = codec.encode(z[0])
    for wrong in (b"", b"\x04" + data[1:], b"\xff" + data[1:]):
        with pytest.raises(CorruptStream, match="level"):
            codec.decode(wrong)
    for module in (VariableRatePrior((1.0, 2.0)), replace(FOUR, level=4)):
        with pytest.raises(UsageError, match=r"fewest bytes|bin widths above 0"):
            module.codec(params, z.shape[1:])
    for level, of in ((4, codec), (1, codecs.RawCodec((2,)))):
        with pytest.raises(UsageError, match=f"level {level}") as caught:
            codecs.at_level(of, level)
        assert "\n" not in str(caught.value)
    arrays = codec.to_arrays()
    for name, value in {
        "level": np.int32(4),
        "bins": 0 * arrays["bins"],
        "medians": arrays["medians"] * np.nan,
        "length": arrays["length"][:3],
    }.items():
        with pytest.raises(ValueError):
            VariableRateCodec.from_arrays({**arrays, name: np.asarray(value)})


def test_refitted_tables_are_those_of_each_level(params, z):
    codec = FOUR.codec(params, z.shape[1:])
    parts = np.split(latents(1.0, 9, 32), 4)
    again = codec.refit({"latent": part} for part in parts)
    for level in range(4):
        before, after = codecs.at_level(codec, level), codecs.at_level(again, level)
        sizes = [sum(len(c.encode(x)) for x in z) for c in (before, after)]
        assert sizes[0] * 0.98 < sizes[1] < sizes[0] * 1.02
        np.testing.assert_array_equal(
            after.decode(after.encode(z[0])), before.decode(before.encode(z[0]))
        )
    assert all(isinstance(each, Tables) for each in again.tables)
    assert codecs.from_arrays(again.to_arrays()) == again != codec
