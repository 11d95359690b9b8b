"""Channels: what arrives has the mean of what was sent, training and link alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted import hard, latents

from sc_jax.compressors import AWGN, Affine, Erasure, OverChannel, Rayleigh
from sc_jax.compressors.splits import check
from sc_jax.errors import UsageError
from sc_jax.nets.net import INPUT, Net, SplitPoint

CHANNELS = [Erasure(0.6), Erasure(0.3, 7), Erasure(0.3, 7, True), AWGN(3.0)]
Z = latents(1.0, 0, 2)[:, :4, :5]


def through(channel, z, count: int) -> np.ndarray:
    """f32[count, ...]: z's first example through as many draws."""
    many = jnp.broadcast_to(z[0], (count, *z.shape[1:]))
    return np.asarray(channel(many, jax.random.key(3)))


@pytest.mark.parametrize("channel", CHANNELS, ids=repr)
def test_the_expectation_is_what_was_sent(channel):
    got = through(channel, Z, 20000)
    error = got.std(0) / np.sqrt(len(got))
    # 80 values: one in a million would lie beyond 5 standard errors.
    assert (np.abs(got.mean(0) - Z[0]) <= 5 * error + 1e-6).all()


def test_an_erasure_loses_whole_packets_at_its_rate_and_scales_the_rest():
    for channel in CHANNELS[:3]:
        got = through(channel, Z, 4000).reshape(4000, -1)
        sent, count = Z[0].reshape(-1), -(-Z[0].size // channel.packet)
        lost = got == 0
        scaled = np.where(lost, 0, sent / np.float32(1 - channel.rate))
        np.testing.assert_allclose(got, scaled, rtol=1e-6)
        at = np.arange(sent.size)
        packets = at % count if channel.interleaved else at // channel.packet
        for p in range(count):
            of = lost[:, packets == p]
            assert (of == of[:, :1]).all()
        assert abs(lost.mean() - channel.rate) < 0.02
    whole = Erasure(0.0)(Z, jax.random.key(0))
    np.testing.assert_array_equal(whole, Z)


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_noise_has_the_power_that_its_ratio_says(snr_db):
    noise = through(AWGN(snr_db), Z, 3000) - Z[0]
    power = (Z[0] ** 2).mean() / 10 ** (snr_db / 10)
    assert abs((noise**2).mean() / power - 1) < 0.03
    faded = through(Rayleigh(snr_db), Z, 4000) - Z[0]
    # Each example's noise is divided by its gain, |h|^2 of mean 1 and median ln 2.
    gains = power / (faded**2).mean((1, 2, 3))
    assert abs(np.median(gains) / np.log(2) - 1) < 0.1


def test_training_and_link_are_one_function_and_evaluation_loses_nothing():
    channel = Erasure(0.4, 5)
    module = OverChannel(Affine(16, aware=True), channel)
    key = jax.random.key(1)
    out, bits = module.apply({}, Z, train=True, rngs={"noise": key})
    z_hat, eval_bits = hard(module, {}, Z)
    lost = np.asarray(out) == 0
    assert 0.2 < lost.mean() < 0.6
    np.testing.assert_allclose(out[~lost], z_hat[~lost] / 0.6, rtol=1e-5)
    np.testing.assert_array_equal(z_hat, hard(Affine(16), {}, Z)[0])
    np.testing.assert_array_equal(bits, eval_bits)

    def total(z):
        return module.apply({}, z, train=True, rngs={"noise": key})[0].sum()

    slope = jax.grad(total)(Z)
    np.testing.assert_allclose(slope, np.where(lost, 0, 1 / 0.6), rtol=1e-5)


def test_a_mistaken_channel_is_one_line():
    for wrong in ({"rate": 1.0}, {"rate": -0.1}, {"packet": 0}):
        with pytest.raises(UsageError, match="an erasure has rate"):
            Erasure(**wrong)
    check(Net((), splits=(SplitPoint(INPUT, OverChannel()),)), Z[:1])
