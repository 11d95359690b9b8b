"""Scores: causal, within their range, surer where the logits are; and bad input."""

import itertools
import math

import numpy as np
import pytest
from exit_traces import trace

from sc_jax.errors import UsageError
from sc_jax.exits import failure
from sc_jax.exits.scores import SCORES, Scoring, features, oracle

LOGITS = trace(64).predictions
WEIGHTS = {"failure_prediction": ((-1.0, 2.0, 1.0, -1.0, -0.5),) * 4}
NAMES = sorted(SCORES)


def scoring(name: str, **more) -> Scoring:
    return Scoring(name, weights=WEIGHTS.get(name, ()), **more)


@pytest.mark.parametrize("name", NAMES)
def test_rows_read_no_later_exit(name):
    score = scoring(name, temperatures=(0.5, 1.0, 2.0, 3.0))
    whole = score(LOGITS)
    assert whole.dtype == np.float32 and whole.shape == LOGITS.shape[:2]
    for e in range(1, len(LOGITS)):
        changed = LOGITS.copy()
        changed[e:] = np.random.default_rng(e).normal(size=changed[e:].shape) * 9
        np.testing.assert_array_equal(score(changed)[:e], whole[:e])
        np.testing.assert_array_equal(score(LOGITS[:e]), whole[:e])


@pytest.mark.parametrize("name", NAMES)
def test_an_example_alone_scores_as_in_a_batch(name):
    one = scoring(name)(LOGITS[:, 7:8])
    np.testing.assert_allclose(one[:, 0], scoring(name)(LOGITS)[:, 7], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_scores_keep_their_range(name):
    low, high = SCORES[name].bounds(*LOGITS.shape[::2])
    hard = [LOGITS, LOGITS * 1e4, LOGITS * 0, np.float32(3e38) * np.sign(LOGITS)]
    for logits in hard:
        score = scoring(name)(logits)
        assert low - 1e-6 <= score.min() and score.max() <= high + 1e-6


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"patience"}))
def test_sharper_logits_are_surer(name):
    logits = np.ones((4, 1, 5), np.float32) * [4.0, 1.0, 0.0, 0.0, -1.0]
    steps = [scoring(name)(logits * scale) for scale in (0.1, 0.5, 1.0, 2.0)]
    assert all((b > a).all() for a, b in itertools.pairwise(steps))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"failure_prediction"}))
def test_the_range_is_reached(name):
    low, high = SCORES[name].bounds(4, 5)
    sure = scoring(name)(np.ones((4, 1, 5), np.float32) * [900.0, 0, 0, 0, 0])
    assert sure[-1, 0] == pytest.approx(high)
    if name not in ("patience", "cumulative"):
        flat = scoring(name)(np.zeros((4, 1, 5), np.float32))
        assert flat[-1, 0] == pytest.approx(low, abs=1e-6)


def test_scores_by_hand():
    p = np.array([0.5, 0.3, 0.2])
    logits = np.log(np.stack([p, p[::-1], p[::-1]]))[:, None]
    expect = {
        "max_probability": [0.5, 0.5, 0.5],
        "margin": [0.2, 0.2, 0.2],
        "entropy": [(p * np.log(p)).sum()] * 3,
        "normalised_entropy": [1 + (p * np.log(p)).sum() / math.log(3)] * 3,
        "patience": [0, 0, 1],
        "cumulative": [0.5, 0.75, 0.875],
        "ensembled": [0.5, 0.35, 0.4],
    }
    for name, values in expect.items():
        np.testing.assert_allclose(scoring(name)(logits)[:, 0], values, rtol=1e-5)
    squared = p**2 / (p**2).sum()
    last = -(squared * np.log(squared)).sum() / math.log(3)
    assert features(logits)[0, 0, 3] == pytest.approx(last)


def test_temperatures_divide_the_logits():
    cool = scoring("margin", temperatures=(2.0,) * 4)
    np.testing.assert_array_equal(cool(LOGITS), scoring("margin")(LOGITS / 2))


def test_the_oracle_is_the_first_right_exit_or_the_first_of_all():
    recorded = trace(64)
    score = oracle(recorded.predictions, recorded.labels)
    right = recorded.predictions.argmax(-1) == recorded.labels
    for n in range(64):
        expect = right[:, n] if right[:, n].any() else np.ones(4)
        np.testing.assert_array_equal(score[:, n], expect)


def test_failure_prediction_ranks_mistakes_and_is_calibrated():
    fitted = failure.fit(trace(4000))
    fresh = trace(4000, seed=1)
    score = fitted(fresh.predictions)
    right = fresh.predictions.argmax(-1) == fresh.labels
    mistake = ~right & right[-1]
    for e in range(3):
        assert score[e].mean() == pytest.approx(1 - mistake[e].mean(), abs=0.03)
        assert score[e, ~mistake[e]].mean() > score[e, mistake[e]].mean() + 0.02
    assert score[3].min() > 0.99  # stopping at the last exit is never a mistake


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_name_exit_and_example(name, value):
    bad = LOGITS.copy()
    bad[2, 5, 1] = value
    with pytest.raises(UsageError, match=r"exit 2, example 5: NaN or infinite"):
        scoring(name)(bad)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Scoring("margins"), "did you mean 'margin'"),
        (lambda: Scoring("failure_prediction"), "needs weights"),
        (lambda: Scoring("margin", weights=((1.0,),)), "takes no weights"),
        (lambda: Scoring(temperatures=(1.0, 0.0)), "above 0"),
        (lambda: Scoring(temperatures=(1.0, 1.0))(LOGITS), "2 temperatures for 4"),
        (lambda: Scoring()(LOGITS[0]), "logits are"),
        (lambda: Scoring()(LOGITS[..., :1]), "2 or more classes"),
        (
            lambda: Scoring("failure_prediction", weights=((0.0,) * 5,))(LOGITS),
            r"weights \[4, 5\], not \[1, 5\]",
        ),
    ],
)
def test_bad_input_is_one_line(make, line):
    with pytest.raises(UsageError, match=line) as raised:
        make()
    assert "\n" not in str(raised.value)
