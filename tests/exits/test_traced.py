"""Scores inside jit agree with those on recorded logits, exit by exit."""

import jax
import numpy as np
import pytest
from exit_traces import scoring, trace

from sc_jax.exits.execute.traced import TRACED
from sc_jax.exits.execute.traced_decision import rule
from sc_jax.exits.policies import PerClass, Threshold
from sc_jax.exits.scores import SCORES, Scoring

RECORDED = trace(64)


def test_every_score_has_a_twin():
    assert set(TRACED) == set(SCORES)


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e30])
def test_a_twin_agrees(name, scale):
    heat = () if SCORES[name].told else (0.5, 1.0, 2.0, 3.0)
    score = scoring(name, temperatures=heat)
    logits, told = RECORDED.predictions * np.float32(scale), RECORDED.confidence
    odds = np.log(told) - np.log1p(-told)
    law = rule(Threshold((0.5,) * 3, score), 4)

    @jax.jit
    def scores(logits, odds):
        memory, found = None, []
        for e in range(4):
            row, memory = law.score(e, logits[e], odds[e], memory)
            found.append(row)
        return found

    expected = score(logits, told)
    np.testing.assert_allclose(scores(logits, odds), expected, rtol=0, atol=1e-5)
    assert scale > 100 or len(np.unique(expected)) > 2


@pytest.mark.parametrize("mark", [0.1, 0.7, 2 / 3, -0.9, -1e300, 1e300, 0.5])
def test_a_threshold_falls_between_the_same_floats(mark):
    """Scores next to a threshold that is no float32 leave as they do in float64."""
    near = np.float32(np.clip(mark, -3e38, 3e38))
    score = np.stack([np.nextafter(near, np.float32(s)) for s in (-np.inf, np.inf)])
    score = np.append(score, near).astype(np.float32)
    law = rule(Threshold((mark,)), 2)
    expected = score.astype(np.float64) >= mark
    np.testing.assert_array_equal(law.leaves(0, score, np.zeros((3, 2))), expected)
    by_class = rule(PerClass(((mark, 9.0),)), 2)
    logits = np.array([[1.0, 0.0]] * 3, np.float32)
    np.testing.assert_array_equal(by_class.leaves(0, score, logits), expected)
    assert not by_class.leaves(0, np.float32(score * 0), -logits).any()


def test_default_scoring_is_traced():
    assert Scoring().score in TRACED
