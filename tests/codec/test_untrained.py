"""Codecs of activations as they are: mosaics, and points solved without training."""

import math

import numpy as np
import pytest

from sc_jax.codec import affine, clipped_fit
from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.clipped import ClippedCodec
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import from_pmf
from sc_jax.codec.tiled import TiledCodec


def activations(kind: str, count: int = 20000) -> np.ndarray:
    rng = np.random.default_rng(0)
    z = {
        "laplace": rng.laplace(0.4, 1.0, count),
        "relu": np.maximum(rng.laplace(-0.3, 2.0, count), 0),
        "skewed": rng.exponential(3.0, count) - 1,
    }
    return z[kind].astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 5, 24), (2, 2, 1), (4, 3, 160), (6, 7), (9,)])
def test_a_mosaic_is_of_the_written_layout_and_comes_back(shape):
    codec = TiledCodec(shape)
    symbols = np.random.default_rng(0).integers(0, 256, shape).astype(np.int32)
    mosaic = codec.mosaic(symbols)
    np.testing.assert_array_equal(codec.symbols(mosaic), symbols)
    if len(shape) < 3:
        assert mosaic.shape == (*([1] * (2 - len(shape))), *shape, 1)
        return
    height, width, channels = shape
    columns = 2 ** math.ceil(math.ceil(math.log2(channels)) / 2)
    rows = math.ceil(channels / columns)
    assert mosaic.shape == (rows * height, columns * width, 1)
    for c in range(channels):
        y, x = c // columns * height, c % columns * width
        tile = mosaic[y : y + height, x : x + width, 0]
        np.testing.assert_array_equal(tile, symbols[..., c])


@pytest.mark.parametrize("channels", [1, 2, 4, 8, 32, 64, 128])
def test_of_a_power_of_two_the_mosaic_is_the_papers_and_full(channels):
    mosaic = TiledCodec((1, 1, channels)).mosaic(np.zeros((1, 1, channels), np.int32))
    log = math.log2(channels) / 2
    assert mosaic.shape == (2 ** math.floor(log), 2 ** math.ceil(log), 1)


@pytest.mark.parametrize("bits", [1, 5, 8])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_lossless_tiles_are_the_affine_quantiser(bits, format):
    z = np.random.default_rng(bits).normal(1, 3, (6, 7, 5)).astype(np.float32)
    tiled, plain = TiledCodec(z.shape, bits, format), AffineCodec(z.shape, bits)
    np.testing.assert_array_equal(
        tiled.decode(tiled.encode(z)), plain.decode(plain.encode(z))
    )
    assert tiled.encode(z)[:8] == plain.encode(z)[:8]


def test_a_lower_quality_is_fewer_bytes_and_a_larger_error():
    ramp = np.add.outer(np.arange(32), np.arange(32))[..., None] * np.arange(1, 9)
    z = (ramp + np.random.default_rng(0).normal(0, 20, ramp.shape)).astype(np.float32)
    found = []
    for quality in (90, 50, 10):
        codec = TiledCodec(z.shape, 8, "JPEG", quality)
        data = codec.encode(z)
        found.append((len(data), -np.abs(codec.decode(data) - z).mean()))
    assert found == sorted(found, reverse=True)


def test_what_is_no_tiled_payload_is_refused():
    z = np.random.default_rng(0).normal(0, 1, (4, 4, 4)).astype(np.float32)
    fine, coarse = TiledCodec(z.shape, 8), TiledCodec(z.shape, 2)
    with pytest.raises(CorruptStream, match="above 2 bits"):
        coarse.decode(fine.encode(z))
    with pytest.raises(CorruptStream, match="scale or zero"):
        fine.decode(affine.header(0, np.nan) + fine.encode(z)[8:])
    for wrong in [((4, 4, 4), 9), ((4, 4, 4), 4, "JPEG", 50), ((2, 2, 2, 2),), ((),)]:
        with pytest.raises(ValueError, match=r"tiled codec|lossy"):
            TiledCodec(*wrong)


@pytest.mark.parametrize("kind", ["laplace", "relu", "skewed"])
def test_the_model_has_the_moments_of_what_it_is_of(kind):
    z = activations(kind)
    model = clipped_fit.model(z)
    assert (np.diff(model) >= 0).all()
    np.testing.assert_allclose(model.mean(), z.mean(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(model.std(), z.std(), rtol=1e-3)
    assert (model.min() >= 0) == (kind == "relu")
    if kind == "skewed":  # an exponential's is 2, more than any such Laplace has
        assert (((model - model.mean()) / model.std()) ** 3).mean() > 1.5


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("kind", ["laplace", "relu"])
def test_the_clip_range_is_that_of_every_pair_tried(kind, count):
    model = clipped_fit.model(activations(kind))
    low, high = clipped_fit.clip_range(model, count)
    lows = [0.0] if kind == "relu" else np.linspace(model[0], np.median(model), 60)
    highs = np.linspace(np.median(model), model[-1], 61)[1:]
    tried = [clipped_fit.error(model, a, b, count) for a in lows for b in highs]
    assert clipped_fit.error(model, low, high, count) <= min(tried) * 1.001
    assert kind != "relu" or low == 0


def test_four_points_of_a_laplace_have_the_known_error():
    """Best uniform quantisers: 7.07 and 11.44 dB, 0.196 and 0.0718 of the variance.

    Jayant and Noll 1984, Digital Coding of Waveforms, chapter 4.
    """
    z = np.random.default_rng(1).laplace(0, 1, 400000).astype(np.float32)
    for count, known in ((4, 0.196), (8, 0.0718)):
        thresholds, points = clipped_fit.fit(z, count)
        z_hat = points[np.searchsorted(thresholds, z, side="right")]
        assert abs(((z_hat - z) ** 2).mean() / z.var() - known) < 0.02 * known + 0.002


@pytest.mark.parametrize("weight", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["laplace", "relu"])
def test_an_entropy_constraint_costs_less_and_chooses_the_cheapest(kind, weight):
    z, costs = activations(kind), []
    for bit_weight in (0.0, weight):
        thresholds, points = clipped_fit.fit(z, 8, bit_weight)
        symbols = np.searchsorted(thresholds, z, side="right")
        share = np.maximum(np.bincount(symbols, minlength=8), 0.5) / z.size
        bits = -np.log2(share)
        error = ((points[symbols] - z) ** 2).mean()
        costs.append(error + weight * z.var() * bits[symbols].mean())
    assert costs[1] < costs[0]
    # Every value at the point that costs it least, but for what is beside a threshold.
    every = (points - z[:, None]) ** 2 + weight * z.var() * bits
    excess = every[np.arange(z.size), symbols] - every.min(1)
    assert excess.max() < 0.01 * z.var()
    uniform = clipped_fit.fit(z, 8)[1]
    assert points[0] == uniform[0] and points[-1] == uniform[-1]


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
def test_activations_of_one_value_keep_it(value):
    thresholds, points = clipped_fit.fit(np.full(100, value, np.float32), 4, 0.1)
    codec = ClippedCodec((3, 2), from_pmf([[0.25] * 4] * 2, 0), thresholds, points)
    z = np.full((3, 2), value, np.float32)
    np.testing.assert_array_equal(codec.decode(codec.encode(z)), z)


def test_points_clip_and_thresholds_are_reached():
    tables = from_pmf([[0.5, 0.3, 0.2]] * 2, 0)
    codec = ClippedCodec((3, 2), tables, [0.0, 1.0], [-0.5, 0.5, 2.0])
    z = np.array([[-9, 9], [0, 1], [0.25, 0.999]], np.float32)
    symbols = [[0, 2], [1, 2], [1, 1]]
    np.testing.assert_array_equal(codec.symbols(z), symbols)
    np.testing.assert_array_equal(codec.decode(codec.encode(z)), codec.points[symbols])
    beside = {"symbols": np.array([[0, 2], [0, 2], [1, 2]], np.int32)}
    distance, ties = codec.difference(z, beside)
    assert distance.tolist() == [[0, 0], [1, 0], [0, 1]]
    assert ties.tolist() == [[False, False], [True, False], [False, False]]
    for wrong in ([1.0, 0.0], [0.0], [0.0, np.nan]):
        with pytest.raises(ValueError, match="thresholds"):
            ClippedCodec((3, 2), tables, wrong, [-0.5, 0.5, 2.0])
    with pytest.raises(ValueError, match="table rows"):
        ClippedCodec((3, 3), tables, [0.0, 1.0], [-0.5, 0.5, 2.0])
    escaped = ClippedCodec((3, 2), from_pmf([[0.5, 0.5]] * 2, 0, 0.1), [0.0], [0, 1])
    data = ClippedCodec((3, 2), escaped.tables, [0, 1], [0, 1, 2]).encode(z)
    with pytest.raises(CorruptStream, match="symbol"):
        escaped.decode(data)
