"""BD-rate against closed forms and against SciPy's PCHIP."""

import math

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from sc_jax.errors import UsageError
from sc_jax.evaluate.bd_rate import (
    LEAST_OVERLAP,
    against_best,
    bd_rate,
    frontier,
    overlap,
    sentence,
    undefined,
)

CURVE = [(100, 0.50), (170, 0.61), (400, 0.70), (900, 0.74), (2500, 0.75)]
OTHER = [(60, 0.45), (150, 0.64), (300, 0.66), (1500, 0.76)]


def scaled(curve, factor):
    return [(factor * size, accuracy) for size, accuracy in curve]


def test_identical_curves_differ_by_nothing():
    assert bd_rate(CURVE, CURVE) == 0.0
    assert bd_rate(CURVE, list(reversed(CURVE))) == 0.0


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (2, 100), (0.1, -90)])
def test_a_constant_factor_is_its_percentage(factor, percent):
    assert bd_rate(CURVE, scaled(CURVE, factor)) == pytest.approx(percent, abs=1e-9)


def test_swapping_the_curves_negates_the_log():
    there, back = bd_rate(CURVE, OTHER), bd_rate(OTHER, CURVE)
    assert there != 0
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, abs=1e-12)


def test_straight_lines_have_a_closed_form():
    # log bytes = 5 + 4 a against 4 + 5 a; overlap 0.4 to 0.8; mean difference -0.4
    a = [(math.exp(5 + 4 * x), x) for x in (0.2, 0.5, 0.8)]
    b = [(math.exp(4 + 5 * x), x) for x in (0.4, 0.7, 0.9, 1.0)]
    assert bd_rate(a, b) == pytest.approx(100 * math.expm1(-0.4), rel=1e-12)
    two = [(math.exp(4 + 5 * x), x) for x in (0.4, 1.0)]
    assert bd_rate(a, two) == pytest.approx(100 * math.expm1(-0.4), rel=1e-12)


def test_agrees_with_scipy():
    def area(curve, low, high):
        x, y = [p[1] for p in curve], [math.log(p[0]) for p in curve]
        return PchipInterpolator(x, y).integrate(low, high)

    low, high = 0.50, 0.75
    mean = (area(OTHER, low, high) - area(CURVE, low, high)) / (high - low)
    assert bd_rate(CURVE, OTHER) == pytest.approx(100 * math.expm1(mean), rel=1e-10)


def test_agrees_with_scipy_where_an_end_slope_is_held():
    steep = [(10, 0.1), (11, 0.2), (1e6, 0.3), (2e6, 0.9)]
    x, y = [p[1] for p in steep], [math.log(p[0]) for p in steep]
    flat = [(1.0, 0.1), (1.0 + 1e-15, 0.9)]
    mean = PchipInterpolator(x, y).integrate(0.1, 0.9) / 0.8
    assert bd_rate(flat, steep) == pytest.approx(100 * math.expm1(mean), rel=1e-9)


def test_beaten_and_duplicate_points_change_nothing():
    noisy = [*CURVE, CURVE[1], (180, 0.61), (950, 0.60), (900, 0.73)]
    np.testing.assert_array_equal(frontier(noisy), np.array(CURVE, float))
    assert bd_rate(noisy, OTHER) == bd_rate(CURVE, OTHER)


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        ([], "curve has 0 useful settings"),
        ([(100, 0.6)], "curve has 1 useful setting,"),
        ([(100, 0.6), (200, 0.6)], "curve has 1 useful setting,"),
        ([(100, 0.8), (200, 0.9)], "reference 0.5 to 0.75, curve 0.8 to 0.9"),
        ([(100, 0.75), (200, 0.9)], "do not overlap"),
    ],
)
def test_no_meaning_is_nan_with_a_reason(curve, reason):
    assert math.isnan(bd_rate(CURVE, curve))
    assert reason in undefined(CURVE, curve)
    assert undefined(CURVE, OTHER) == ""


@pytest.mark.parametrize("point", [(0, 0.5), (-1, 0.5), (math.nan, 0.5), (9, math.inf)])
def test_impossible_points_are_refused(point):
    with pytest.raises(UsageError, match="bytes > 0"):
        bd_rate(CURVE, [*OTHER, point])


def test_a_rival_that_meets_the_curve_on_a_sliver_is_not_its_best():
    """On that sliver it looks hard to beat; of the rest it says nothing."""
    sliver = [(40, 0.30), (60, 0.52)]
    assert bd_rate(sliver, CURVE) > bd_rate(OTHER, CURVE)
    assert overlap(sliver, CURVE) == pytest.approx(0.02 / 0.25)
    found = against_best({"wide": OTHER, "sliver": sliver}, CURVE)
    assert found["against"] == "wide" and found["overlap"] == 1
    assert found["percent"] == bd_rate(OTHER, CURVE)
    assert "against wide, over 100 % of its qualities" in sentence(
        {"method": "M", **found}
    )
    (alone,) = [against_best({"sliver": sliver}, CURVE)]
    assert alone["percent"] is alone["against"] is alone["overlap"] is None
    assert alone["reason"] == "sliver: 8% of the curve's qualities, 50% are needed"


def test_half_of_the_qualities_are_enough():
    low = [(40, 0.2), (90, 0.50 + LEAST_OVERLAP * 0.25)]
    assert against_best({"low": low}, CURVE)["overlap"] == pytest.approx(LEAST_OVERLAP)
    assert overlap([(1, 0.1), (2, 0.2)], CURVE) == 0
