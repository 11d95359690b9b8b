"""The same steps inside jit, in float32, as over recorded logits in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exit_traces import scoring, trace

from sc_jax.exits.decision import decide
from sc_jax.exits.policies import PerClass, Threshold
from sc_jax.exits.scores import SCORES, ExitAnswer

RECORDED = trace(64)


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e30])
def test_a_score_is_the_same_under_jit(name, scale):
    temperatures = () if SCORES[name].learned else (0.5, 1.0, 2.0, 3.0)
    score = scoring(name, temperatures=temperatures)
    logits = RECORDED.answers * np.float32(scale)

    @jax.jit
    def scores(logits, confidence):
        memory, found = score.init(), []
        for e in range(4):
            answer = ExitAnswer(e, logits[e], confidence[e])
            row, memory = score.step(answer, memory, jnp)
            found.append(row)
        return found

    expected = score(logits, RECORDED.confidence)
    found = scores(logits, RECORDED.confidence)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
    assert scale > 100 or len(np.unique(expected)) > 2


@pytest.mark.parametrize("threshold", [0.1, 0.7, 2 / 3, -0.9, -1e300, 1e300, 0.5])
def test_a_threshold_falls_between_the_same_floats(threshold, monkeypatch):
    """Scores next to a threshold that is no float32 leave as they do in float64."""
    near = np.float32(np.clip(threshold, -3e38, 3e38))
    score = np.stack([np.nextafter(near, np.float32(s)) for s in (-np.inf, np.inf)])
    score = np.append(score, near).astype(np.float32)
    constant = SCORES["margin"].__class__(lambda *_: (score, None), lambda e, k: (0, 1))
    monkeypatch.setitem(SCORES, "margin", constant)
    answer = ExitAnswer(0, np.array([[1.0, 0.0]] * 3, np.float32))
    expected = score.astype(np.float64) >= threshold
    policies = (
        Threshold((threshold,), scoring("margin")),
        PerClass(((threshold, 9.0),), scoring("margin")),
    )
    for policy in policies:
        verdict, _ = policy.step(answer, policy.init(), np)
        np.testing.assert_array_equal(verdict, expected)
    both = np.stack([score, score])
    np.testing.assert_array_equal(decide(both, [threshold]) == 0, expected)
