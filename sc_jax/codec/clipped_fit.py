"""Points of a scalar quantiser for recorded activations, no network trained.

After Cohen, Choi and Bajić 2020 (https://arxiv.org/abs/2105.06002) and their longer
https://arxiv.org/abs/2105.07102. What follows from the abstracts and the method's
outline: a clip range of least clipping and quantisation error under a Laplace model of
the activations, and an entropy-constrained quantiser whose end points stay at the clip
bounds. A reconstruction: which moments are matched, and RECTIFIED.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

GRID = 4096  # quantiles that stand for the model
SAMPLES = 1 << 16  # activations that the entropy-constrained quantiser reads
ROUNDS = 100
# Asymmetry of the Laplace in front of a ReLU: an assumption, its positive side falls
# four times slower than its negative one.
RECTIFIED = 0.5
FAR = np.finfo(np.float32).max


def fit(z: np.ndarray, count: int, bit_weight: float = 0.0):
    """(thresholds f32[count - 1], points f32[count]) for activations z f32[N].

    bit_weight: what a bit costs beside the squared error, in variances of z; 0 is the
    uniform quantiser. Values that never fall below 0 are taken for a ReLU's.
    """
    low, high = clip_range(model(z), count)
    points = np.linspace(low, high, count)
    if bit_weight and low < high:
        thresholds, points = constrained(z, points, bit_weight)
    else:
        thresholds = (points[1:] + points[:-1]) / 2
    thresholds = np.clip(thresholds, -FAR, FAR)
    return thresholds.astype(np.float32), points.astype(np.float32)


def laplace(kappa: float) -> np.ndarray:
    """float64[GRID] quantiles of an asymmetric Laplace at 0, its scale 1.

    Density as exp(-kappa x) above 0 and exp(x / kappa) below; symmetric at kappa 1.
    """
    u = (np.arange(GRID) + 0.5) / GRID
    square = kappa**2
    below = kappa * np.log(np.minimum(u * (1 + square) / square, 1))
    return below - np.log(np.minimum((1 - u) * (1 + square), 1)) / kappa


def model(z: np.ndarray) -> np.ndarray:
    """float64[GRID] ascending: quantiles of the Laplace model of activations z.

    Of rectified ones mean and variance are matched by the location and scale before
    the ReLU; of others mean, variance and skewness.
    """
    z = z.astype(np.float64).ravel()
    mean, deviation = z.mean(), z.std()
    if deviation <= 1e-12 * abs(mean) or deviation == 0:
        return np.full(GRID, mean)
    if z.min() < 0:
        unit = laplace(_asymmetry((((z - mean) / deviation) ** 3).mean()))
        return (unit - unit.mean()) / unit.std() * deviation + mean
    unit = laplace(RECTIFIED)

    def gap(location: float) -> float:
        rectified = np.maximum(unit + location, 0)
        return rectified.mean() / rectified.std() - mean / deviation

    # The more of it is above 0, the less the ratio of deviation to mean.
    location = _root(gap, 0.5 - unit[-1], 1e6)
    rectified = np.maximum(unit + location, 0)
    return rectified * (mean / rectified.mean())


def _asymmetry(skewness: float) -> float:
    """kappa of an asymmetric Laplace of this skewness, which lies within +-2."""

    def gap(log_kappa: float) -> float:
        k = np.exp(log_kappa)
        return skewness - 2 * (1 - k**6) / (1 + k**4) ** 1.5

    return float(np.exp(_root(gap, -2.0, 2.0)))


def _root(rising, low: float, high: float) -> float:
    """Where a rising function is 0, or the end that is nearer to it."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def error(values: np.ndarray, low: float, high: float, count: int) -> float:
    """Mean squared error of `count` points at equal steps, with what is clipped."""
    step = (high - low) / (count - 1)
    nearest = np.clip(np.rint((values - low) / step), 0, count - 1)
    return float(((nearest * step + low - values) ** 2).mean())


def clip_range(values: np.ndarray, count: int) -> tuple[float, float]:
    """(low, high) of least `error`, searched on ever finer grids; low 0 of a ReLU's."""
    first, middle, last = values[0], np.median(values), values[-1]
    if first == last:
        return float(first), float(last)
    lows, highs = (first, middle), (middle, last)
    best = (first, last)
    for _ in range(5):
        # A ReLU's zeros are exact, and the most of all values.
        some = [0.0] if first >= 0 else np.linspace(*lows, 17)
        pairs = [(low, h) for low in some for h in np.linspace(*highs, 17) if h > low]
        best = min(pairs, key=lambda pair: error(values, *pair, count))
        spans = (np.subtract(*span[::-1]) / 16 for span in (lows, highs))
        lows, highs = ((b - span, b + span) for b, span in zip(best, spans))
    return float(best[0]), float(best[1])


def constrained(z: np.ndarray, points: np.ndarray, bit_weight: float):
    """(thresholds, points) of an entropy-constrained quantiser, end points kept.

    Lloyd's steps on squared error + bit_weight var(z) bits (Chou, Lookabaugh, Gray
    1989, https://doi.org/10.1109/29.17498), with the pinned ends of Cohen et al. A
    point that costs more than it saves is left by all values, and never used.
    """
    z = z.astype(np.float64).ravel()
    # Odd: no stride of the channels, which come in turn.
    z = z[:: (-(-z.size // SAMPLES)) | 1]
    weight, points = bit_weight * z.var(), points.copy()
    bits, before = np.zeros(points.size), None
    for _ in range(ROUNDS):
        nearest = ((z[:, None] - points) ** 2 + weight * bits).argmin(1)
        if before is not None and np.array_equal(nearest, before):
            break
        before = nearest
        counts = np.bincount(nearest, minlength=points.size)
        sums = np.bincount(nearest, z, points.size)
        inner = np.flatnonzero(counts)
        inner = inner[(inner > 0) & (inner < points.size - 1)]
        points[inner] = sums[inner] / counts[inner]
        bits = -np.log2(np.maximum(counts, 0.5) / z.size)
    used = np.unique(nearest)
    thresholds = np.where(np.arange(points.size - 1) < used[0], -FAR, FAR)
    for i, j in pairwise(used):
        gap = points[j] - points[i]
        # Where both cost the same; points between them have no room.
        thresholds[i:j] = points[i] + gap / 2 + weight * (bits[j] - bits[i]) / gap / 2
    return np.maximum.accumulate(thresholds), points
