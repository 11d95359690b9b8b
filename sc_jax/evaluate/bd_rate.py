"""Bytes saved at equal quality, one number for two curves.

Bjontegaard 2001, VCEG-M33; pictures have PSNR where tasks have their figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.evaluate.reports.plots import curves, mean_bytes

if TYPE_CHECKING:
    from sc_jax.evaluate.reports.report import Row

# Of a curve's own qualities that a rival must reach too, to be called its best: a rival
# that meets it on a sliver says nothing of the rest.
LEAST_OVERLAP = 0.5

Curve = Sequence[tuple[float, float]]  # (bytes an example, quality) of each setting


def bd_rate(reference: Curve, curve: Curve) -> float:
    """Percent by which `curve` needs more bytes than `reference`; negative = fewer.

    The mean over quality of the log ratio of bytes, on the qualities both reach.
    Log bytes is interpolated over quality by monotone cubics (Fritsch and Carlson
    1980, https://doi.org/10.1137/0717021; the slopes of PCHIP) through each curve's
    `frontier`. nan where this has no meaning; `undefined` then says why.
    """
    if undefined(reference, curve):
        return float("nan")
    a, b = frontier(reference), frontier(curve)
    low, high = _overlap(a, b)
    knots = np.concatenate([[low, high], a[:, 1], b[:, 1]])
    knots = np.unique(knots[(knots >= low) & (knots <= high)])
    # Two Gauss points integrate the cubic between two knots exactly.
    middle, half = (knots[1:] + knots[:-1]) / 2, np.diff(knots) / 2
    total = 0.0
    for x in (middle - half / np.sqrt(3), middle + half / np.sqrt(3)):
        total += np.sum(half * (_log_bytes(b, x) - _log_bytes(a, x)))
    return float(100 * np.expm1(total / (high - low)))


def undefined(reference: Curve, curve: Curve) -> str:
    """Why the two have no BD-rate, in words; empty where they have one."""
    a, b = frontier(reference), frontier(curve)
    for name, points in (("reference", a), ("curve", b)):
        if len(points) < 2:
            n = len(points)
            return f"the {name} has {n} useful setting{'s' * (n != 1)}, 2 are needed"
    low, high = _overlap(a, b)
    if low < high:
        return ""
    return (
        f"qualities do not overlap: reference {a[0, 1]:.4g} to {a[-1, 1]:.4g}, "
        f"curve {b[0, 1]:.4g} to {b[-1, 1]:.4g}"
    )


def overlap(reference: Curve, curve: Curve) -> float:
    """Share of the qualities of `curve` that the reference reaches too, 0 to 1."""
    if undefined(reference, curve):
        return 0.0
    a, b = frontier(reference), frontier(curve)
    low, high = _overlap(a, b)
    return float((high - low) / (b[-1, 1] - b[0, 1]))


def against_best(rivals: Mapping[str, Curve], curve: Curve) -> dict:
    """BD-rate against the best of several curves: that leaving the least saving.

    Rivals are those that reach at least LEAST_OVERLAP of the curve's qualities. Returns
    {"against": name, "percent": float, "overlap": share, "reason": ""}; all but the
    reason None, with that in words, where no rival does.
    """
    reasons = {name: undefined(rival, curve) for name, rival in rivals.items()}
    shares = {n: overlap(rivals[n], curve) for n, why in reasons.items() if not why}
    fit = {n: share for n, share in shares.items() if share >= LEAST_OVERLAP}
    if fit:
        # The rival hardest to beat: against a weak one any method would save.
        rates = {name: bd_rate(rivals[name], curve) for name in fit}
        name = max(rates, key=rates.__getitem__)
        best = {"against": name, "percent": rates[name], "overlap": fit[name]}
        return {**best, "reason": ""}
    reasons |= {
        name: f"{share:.0%} of the curve's qualities, {LEAST_OVERLAP:.0%} are needed"
        for name, share in shares.items()
    }
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    nothing = dict.fromkeys(("against", "percent", "overlap"))
    return {**nothing, "reason": why or "nothing to compare to"}


def of_rows(rows: Sequence[Row]) -> list[dict]:
    """`against_best` of the classical curves, of each learned one of two settings."""
    families = {row.method: row.family for row in rows}
    points = {
        method: [(mean_bytes(row), row.quality) for row in curve]
        for method, curve in curves(rows).items()
    }
    classical = {m: p for m, p in points.items() if families[m] == "classical"}
    return [
        {"method": method, **against_best(classical, curve)}
        for method, curve in points.items()
        if families[method] == "learned" and len(curve) > 1
    ]


def sentence(entry: dict) -> str:
    """An entry of `of_rows` as a line of Markdown."""
    if entry["percent"] is None:
        return f"- {entry['method']}: not defined ({entry['reason']})"
    return (
        f"- {entry['method']}: {entry['percent']:+.1f} % against {entry['against']}, "
        f"over {100 * entry['overlap']:.0f} % of its qualities"
    )


def frontier(curve: Curve) -> np.ndarray:
    """f64[P, 2] points no other point beats, bytes and quality both increasing.

    A setting that costs more bytes than another and is not better is dropped.
    """
    points = np.asarray(list(curve), np.float64).reshape(-1, 2)
    if not (np.isfinite(points).all() and (points[:, 0] > 0).all()):
        raise UsageError(
            "a rate curve takes pairs (bytes > 0, quality), all finite; "
            "leave out local-only settings, which send nothing"
        )
    # By bytes, the best of equal ones first: then only a gain in quality is kept.
    kept: list[np.ndarray] = []
    for point in points[np.lexsort((-points[:, 1], points[:, 0]))]:
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def _overlap(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The qualities both frontiers span; first >= second: none."""
    return max(a[0, 1], b[0, 1]), min(a[-1, 1], b[-1, 1])


def _log_bytes(points: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Monotone cubic through a frontier: natural log of bytes at each quality."""
    x, y = points[:, 1], np.log(points[:, 0])
    width = np.diff(x)
    slopes = _slopes(width, np.diff(y) / width)
    i = np.clip(np.searchsorted(x, quality, side="right") - 1, 0, len(width) - 1)
    h, t = width[i], (quality - x[i]) / width[i]
    # Cubic Hermite on [x[i], x[i + 1]], t from 0 to 1.
    left = (1 + 2 * t) * (1 - t) ** 2 * y[i] + t * (1 - t) ** 2 * h * slopes[i]
    right = t**2 * (3 - 2 * t) * y[i + 1] + t**2 * (t - 1) * h * slopes[i + 1]
    return left + right


def _slopes(h: np.ndarray, d: np.ndarray) -> np.ndarray:
    """PCHIP derivatives at P points from P-1 widths and secants, all secants > 0."""
    if len(d) == 1:
        return np.array([d[0], d[0]])
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    inner = (w1 + w2) / (w1 / d[:-1] + w2 / d[1:])
    return np.concatenate(
        [[_end(h[0], h[1], d[0], d[1])], inner, [_end(h[-1], h[-2], d[-1], d[-2])]]
    )


def _end(h0: float, h1: float, d0: float, d1: float) -> float:
    """Three-point slope at an end, held to what keeps the end piece monotone."""
    return max(((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1), 0.0)
