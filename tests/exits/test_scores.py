"""Scores: causal, within their range, surer where the logits are; and bad input."""

import itertools
import math

import numpy as np
import pytest
from exit_traces import scoring, trace

from sc_jax.errors import UsageError
from sc_jax.exits.scores import SCORES, Scoring, features
from sc_jax.exits.solve import failure_prediction

LOGITS, CONFIDENCE = trace(64).answers, trace(64).confidence
NAMES = sorted(SCORES)
OF_LOGITS = [name for name in NAMES if not SCORES[name].learned]


@pytest.mark.parametrize("name", NAMES)
def test_rows_read_no_later_exit(name):
    temperatures = () if SCORES[name].learned else (0.5, 1.0, 2.0, 3.0)
    score = scoring(name, temperatures=temperatures)
    whole = score(LOGITS, CONFIDENCE)
    assert whole.dtype == np.float32 and whole.shape == LOGITS.shape[:2]
    for e in range(1, len(LOGITS)):
        rng = np.random.default_rng(e)
        changed, confidence = LOGITS.copy(), CONFIDENCE.copy()
        changed[e:] = rng.normal(size=changed[e:].shape) * 9
        confidence[e:] = rng.uniform(size=confidence[e:].shape)
        np.testing.assert_array_equal(score(changed, confidence)[:e], whole[:e])
        np.testing.assert_array_equal(score(LOGITS[:e], CONFIDENCE[:e]), whole[:e])


@pytest.mark.parametrize("name", NAMES)
def test_an_example_alone_scores_as_in_a_batch(name):
    one = scoring(name)(LOGITS[:, 7:8], CONFIDENCE[:, 7:8])
    whole = scoring(name)(LOGITS, CONFIDENCE)
    np.testing.assert_allclose(one[:, 0], whole[:, 7], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_scores_keep_their_range(name):
    low, high = SCORES[name].bounds(*LOGITS.shape[::2])
    hard = [LOGITS, LOGITS * 1e4, LOGITS * 0, np.float32(3e38) * np.sign(LOGITS)]
    for logits in hard:
        score = scoring(name)(logits, CONFIDENCE)
        assert low - 1e-6 <= score.min() and score.max() <= high + 1e-6


@pytest.mark.parametrize("name", sorted(set(OF_LOGITS) - {"patience"}))
def test_sharper_logits_are_surer(name):
    logits = np.ones((4, 1, 5), np.float32) * [4.0, 1.0, 0.0, 0.0, -1.0]
    steps = [scoring(name)(logits * scale) for scale in (0.1, 0.5, 1.0, 2.0)]
    assert all((b > a).all() for a, b in itertools.pairwise(steps))


BOUNDED = [n for n in OF_LOGITS if SCORES[n].bounds(4, 5)[1] < 1e30]


@pytest.mark.parametrize("name", [n for n in BOUNDED if not SCORES[n].fitted])
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
    energy = scoring("energy", temperatures=(2.0,) * 3)(logits + 7)[:, 0]
    np.testing.assert_allclose(energy, 7 + 2 * np.log(np.sqrt(p).sum()), rtol=1e-6)
    squared = p**2 / (p**2).sum()
    last = -(squared * np.log(squared)).sum() / math.log(3)
    assert features(logits)[0, 0, 3] == pytest.approx(last)


def test_confidences_by_hand():
    confidence = np.float32([[0.5, 0.0], [0.2, 0.3], [1.0, 0.5]])
    logits = np.zeros((3, 2, 4))
    own = Scoring("confidence")(logits, confidence)
    np.testing.assert_array_equal(own, confidence)
    both = Scoring("cumulative_confidence")(logits, confidence)
    np.testing.assert_allclose(both[:, 0], [0.5, 0.5 + 0.2 * 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(both[:, 1], [0.0, 0.3, 0.3 + 0.5 * 0.7], rtol=1e-6)
    assert (
        np.diff(Scoring("cumulative_confidence")(LOGITS, CONFIDENCE), axis=0) >= 0
    ).all()


def test_the_scheduler_by_hand():
    """Exit 1 of two classes: its answer has one vote of two, and it reads exit 0."""
    p = np.array([[0.9, 0.1], [0.4, 0.6]])
    w = ((0.1, 1.0, 2.0, 3.0, 4.0, 5.0), (0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    found = Scoring("eenet", weights=w)(np.log(p)[:, None])[:, 0]
    sure = 1 + (p * np.log(p)).sum(1) / math.log(2)
    first = 0.1 + 0.9 + 2 * 0.1 + 3 * 0.9 + 4 * sure[0] + 5 * 1.0
    q = 1 / (1 + math.exp(-first))
    second = 0.1 + 0.4 + 2 * 0.6 + 3 * 0.6 + 4 * sure[1] + 5 * 0.5 + 6 * q
    expect = [q, 1 / (1 + math.exp(-second))]
    np.testing.assert_allclose(found, expect, rtol=1e-6)


def test_a_scoring_reads_a_trace():
    for name in NAMES:
        found = scoring(name).of(trace(64))
        np.testing.assert_array_equal(found, scoring(name)(LOGITS, CONFIDENCE))


def test_temperatures_divide_the_logits():
    cool = scoring("margin", temperatures=(2.0,) * 4)
    np.testing.assert_array_equal(cool(LOGITS), scoring("margin")(LOGITS / 2))


def test_failure_prediction_ranks_mistakes_and_is_calibrated():
    fitted = failure_prediction.fit(trace(4000))
    fresh = trace(4000, seed=1)
    score = fitted(fresh.answers)
    right = fresh.answers.argmax(-1) == fresh.labels
    mistake = ~right & right[-1]
    for e in range(3):
        assert score[e].mean() == pytest.approx(1 - mistake[e].mean(), abs=0.03)
        assert score[e, ~mistake[e]].mean() > score[e, mistake[e]].mean() + 0.02
    assert score[3].min() > 0.99  # stopping at the last exit is never a mistake


@pytest.mark.parametrize("name", OF_LOGITS)
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
            "exit 1 takes 5 weights of its score, not 0",
        ),
        (
            lambda: scoring("eenet")(LOGITS[..., :4]),
            "exit 0 takes 8 weights of its score, not 9",
        ),
        (lambda: scoring("eenet")(trace(9, exits=4).answers[0]), "logits are"),
        (lambda: Scoring("confidence")(LOGITS), "never learnt .*: a score of logits"),
        (lambda: Scoring("cumulative_confidence")(LOGITS), "never learnt"),
        (lambda: Scoring("confidence")(LOGITS, CONFIDENCE[:2]), r"are \[4, 64\] like"),
        (
            lambda: Scoring("confidence")(LOGITS, CONFIDENCE + 1),
            "probabilities in 0..1",
        ),
        (lambda: Scoring("confidence", temperatures=(1.0,)), "reads no logits"),
    ],
)
def test_bad_input_is_one_line(make, line):
    with pytest.raises(UsageError, match=line) as raised:
        make()
    assert "\n" not in str(raised.value)
