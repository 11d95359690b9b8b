"""Risk control: the promised rate of violations, also where grids are coarse."""

import dataclasses
import math

import numpy as np
import pytest
from exit_traces import trace

from sc_jax.errors import UsageError
from sc_jax.exits.scores import Scoring
from sc_jax.exits.solve.risk import (
    METHODS,
    betting,
    conformal,
    control,
    fixed_sequence,
    hoeffding_bentkus,
    learn_then_test,
    upper_confidence,
)
from sc_jax.exits.solve.risk_losses import LOSSES
from sc_jax.traces.trace import outcome, subset

DRAWS, DELTA, EPSILON = 2000, 0.1, 0.1
SIGMA = math.sqrt(DELTA * (1 - DELTA) / DRAWS)
RISING = np.array([0.01, 0.05, 0.105, 0.15, 0.3])  # the third is just over epsilon
FALLING = np.array([0.05, 0.105, 0.02, 0.2, 0.08])
FINE = np.linspace(0.0, 0.3, 11)
Rng = np.random.Generator


def coupled(rng: Rng, risks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """0 or 1, for each example monotone in the candidate where risks are."""
    return (rng.uniform(size=shape)[:, None] < risks[:, None]).astype(float)


def loose(rng: Rng, risks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """0 or 1, candidates independent of each other: monotone in nothing."""
    draws = rng.uniform(size=(shape[0], len(risks), shape[1]))
    return (draws < risks[:, None]).astype(float)


def smooth(rng: Rng, risks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Numbers in 0..1 with the risk as mean: u^k has mean 1 / (k + 1)."""
    power = 1 / np.maximum(risks, 1e-3)[:, None] - 1
    return rng.uniform(size=shape)[:, None] ** power


def gaps(rng: Rng, risks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """-1, 0 or 1 on the unit scale, as accuracy lost: gains half as often as losses."""
    u = rng.uniform(size=shape)[:, None]
    lost, won = u < 2 * risks[:, None], u > 1 - risks[:, None]
    return (1.0 + lost - won) / 2


# name: (losses, risk of each candidate in the losses' unit, epsilon in it)
CASES = {
    "monotone": (coupled, RISING, RISING, EPSILON),
    "monotone, 11 points": (coupled, FINE, FINE, EPSILON),
    "falling": (loose, FALLING, FALLING, EPSILON),
    "falling, coupled": (coupled, FALLING, FALLING, EPSILON),
    "smooth": (smooth, RISING, np.maximum(RISING, 1e-3), EPSILON),
    "gaps": (gaps, RISING, (1 + RISING) / 2, (1 + EPSILON) / 2),
}


def risks_chosen(case: str, method, n: int, draws: int = DRAWS):
    """(risk of the candidate chosen in each draw, -inf for none; epsilon)."""
    make, given, true, epsilon = CASES[case]
    rng = np.random.default_rng(sum(map(ord, case)) + n)
    losses = make(rng, given, (draws, n))
    chosen = method(losses, epsilon, DELTA)
    return np.where(chosen >= 0, true[chosen], -np.inf), epsilon


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", [learn_then_test, upper_confidence])
def test_violations_are_no_more_often_than_promised(case, method, n):
    risks, epsilon = risks_chosen(case, method, n)
    assert (risks > epsilon).mean() <= DELTA + 3 * SIGMA


@pytest.mark.parametrize("case", CASES)
def test_conformal_keeps_the_mean_risk(case):
    make, given, true, epsilon = CASES[case]
    rng = np.random.default_rng(len(case))
    losses = make(rng, given, (DRAWS // 2, 100))
    chosen = conformal(losses, epsilon, DELTA)
    floor = (epsilon - EPSILON) * 2  # of no choice: 0, or no accuracy lost
    risks = np.where(chosen >= 0, true[chosen], min(floor, epsilon))
    error = risks.std() / math.sqrt(len(risks))
    assert risks.mean() <= epsilon + 3 * error


def test_control_is_not_empty():
    """Much is certified where there is room; betting wins where losses vary little."""
    for case in ("monotone, 11 points", "gaps"):
        means = []
        for method in (learn_then_test, upper_confidence):
            risks, _ = risks_chosen(case, method, 500, 200)
            means.append(np.maximum(risks, 0).mean())
        assert means[1] >= means[0]
        if case == "monotone, 11 points":
            assert means[0] > 0.06


def test_the_last_passing_candidate_is_returned_not_the_first_failing():
    p = np.array([[0.01, 0.1, 0.2, 0.0], [0.2, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.1]])
    assert fixed_sequence(p, 0.1).tolist() == [1, -1, 3]


def test_hoeffding_bentkus_by_hand():
    losses = np.zeros((3, 20))
    losses[1, :1], losses[2, :10] = 1.0, 1.0
    cdf = 0.9**20 + 20 * 0.1 * 0.9**19
    kl = 0.05 * math.log(0.05 / 0.1) + 0.95 * math.log(0.95 / 0.9)
    expect = [0.9**20, min(math.e * cdf, math.exp(-20 * kl)), 1.0]
    np.testing.assert_allclose(hoeffding_bentkus(losses, 0.1), expect, rtol=1e-9)
    # Bentkus's part alone, where it is the smaller one: 30 of 300 against 0.2.
    many = np.repeat([[1.0] * 30 + [0.0] * 270], 1, 0)
    terms = [math.comb(300, k) * 0.2**k * 0.8 ** (300 - k) for k in range(31)]
    kl = 0.1 * math.log(0.1 / 0.2) + 0.9 * math.log(0.9 / 0.8)
    found = min(math.e * sum(terms), math.exp(-300 * kl))
    assert hoeffding_bentkus(many, 0.2)[0] == pytest.approx(found)


def test_p_values_are_valid_at_the_boundary():
    rng = np.random.default_rng(3)
    losses = (rng.uniform(size=(DRAWS, 100)) < EPSILON).astype(float)
    for p in (hoeffding_bentkus(losses, EPSILON), betting(losses, EPSILON, DELTA)):
        assert ((p >= 0) & (p <= 1)).all()
        for level in (0.02, 0.1, 0.3):
            spread = 3 * math.sqrt(level * (1 - level) / DRAWS)
            assert (p <= level).mean() <= level + spread


def test_betting_by_hand():
    losses, epsilon, delta = np.array([0.0, 1.0, 0.0]), 0.4, 0.1
    capital, best, mean_sum, square_sum, before = 1.0, 1.0, 0.5, 0.25, 0.25
    for t, x in enumerate(losses, 1):
        bet = min(math.sqrt(2 * math.log(10) / (3 * before)), 0.75 / 0.6)
        capital *= 1 - bet * (x - epsilon)
        best = max(best, capital)
        mean_sum += x
        square_sum += (x - mean_sum / (t + 1)) ** 2
        before = square_sum / (t + 1)
    assert betting(losses, epsilon, delta) == pytest.approx(1 / best)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_within_bounds_and_nothing_at_the_last_exit(loss):
    table = LOSSES[loss].function(trace(200))
    assert table.shape == (4, 200) and (table[-1] == 0).all()
    assert LOSSES[loss].low <= table.min() and table.max() <= LOSSES[loss].high
    assert table[0].mean() > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
def test_control_on_a_trace_saves_and_holds_elsewhere(loss, method):
    whole = trace(6000)
    half, rest = subset(whole, np.arange(3000)), subset(whole, np.arange(3000, 6000))
    found = control(half, epsilon=0.1, loss=loss, method=method)
    assert found.split == "validation" and found.expected.examples == 3000
    taken = found.policy(rest.answers, rest.cost)
    table = LOSSES[loss].function(rest)
    assert table[taken, np.arange(3000)].mean() <= 0.1 + 0.02
    assert outcome(rest, taken).cost_share < 0.9


@pytest.mark.parametrize("method", ["upper_confidence", "learn_then_test"])
def test_the_whole_of_control_keeps_its_promise(method):
    """Path designed and tested on one small trace, judged on the population."""
    world = trace(20_000, seed=9)
    table, own = LOSSES["harm"].function(world), np.arange(20_000)
    rng, over, draws = np.random.default_rng(0), 0, 60
    for _ in range(draws):
        some = subset(world, rng.integers(20_000, size=300))
        more = {"epsilon": 0.08, "loss": "harm", "method": method, "points": 12}
        policy = control(some, **more).policy
        over += table[policy(world.answers, world.cost), own].mean() > 0.08
    assert over / draws <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / draws)


def test_what_cannot_be_certified_is_the_whole_network():
    few = trace(20)
    found = control(few, epsilon=0.01)
    assert found.expected.exit_shares == (0, 0, 0, 1)
    sure = trace(50, seed=5).answers * np.float32(1e6)
    assert (found.policy(sure, few.cost) == 3).all()


def test_a_path_given_is_tested_on_all_examples():
    path = np.repeat(np.linspace(1.1, 0.2, 12)[:, None], 3, 1)
    found = control(trace(3000), Scoring("margin"), epsilon=0.05, path=path)
    marks = np.float32(np.array(found.policy.thresholds))
    assert any((marks == np.float32(row)).all() for row in path)
    again = control(trace(3000), Scoring("margin"), epsilon=0.05, path=path)
    assert again == found
    eager = control(trace(3000), Scoring("margin"), epsilon=0.2, path=path)
    assert eager.expected.mean_cost < found.expected.mean_cost


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"epsilon": 0.0}, "epsilon of 'error_gap' is in"),
        ({"epsilon": 1.0, "loss": "harm"}, "epsilon of 'harm' is in"),
        ({"epsilon": 0.1, "delta": 1.0}, "delta is in"),
        ({"epsilon": 0.1, "loss": "gap"}, "unknown loss 'gap'"),
        ({"epsilon": 0.1, "method": "ltt"}, "unknown method 'ltt'"),
        ({"epsilon": 0.1, "path": np.zeros((3, 2))}, "2 instead of 3"),
    ],
)
def test_bad_input_is_one_line(more, line):
    with pytest.raises(UsageError, match=line) as raised:
        control(trace(50), **more)
    assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match="one example"):
        control(trace(1), epsilon=0.1)
    assert dataclasses.is_dataclass(control(trace(50), epsilon=0.1))


def test_learn_then_test_saves_under_a_signed_loss_too():
    """By its positive part; of the signed loss itself it would certify nothing."""
    some, rest = trace(3000, seed=1), trace(20_000, seed=2)
    found = control(some, epsilon=0.1, method="learn_then_test")
    assert found.expected.cost_share < 0.95
    table = LOSSES["error_gap"].function(rest)
    taken = found.policy(rest.answers, rest.cost)
    assert table[taken, np.arange(20_000)].mean() <= 0.1
