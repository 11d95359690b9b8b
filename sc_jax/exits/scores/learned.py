"""Learned confidences: what exits learnt to say of themselves, 0 to 1."""

from __future__ import annotations

from sc_jax.errors import UsageError
from sc_jax.exits.scores.score import Score, unit


def _confidence(answer, memory, xp):
    """The learned confidence: the probability that the exit should answer.

    c_e of Pomponi et al. (2021, https://doi.org/10.3390/e24010001), the gate of JEI-DNN
    (Regol et al. 2024, https://arxiv.org/abs/2310.09163).
    """
    # A net without them would otherwise fail deep inside an executor.
    if answer.confidence is None:
        raise UsageError(
            "this score reads confidences that the exits of this net never learnt "
            "(those of recipe pomponi do): a score of logits, as max_probability"
        )
    return answer.confidence, memory


def _cumulative_confidence(answer, doubt, xp):
    """The share of the exits' mixture that stands by this exit; never falls.

    sum_{j<=e} c_j prod_{l<j} (1 - c_l) = 1 - prod_{j<=e} (1 - c_j), Pomponi et al.
    """
    doubt = doubt * (1 - _confidence(answer, None, xp)[0])
    return 1 - doubt, doubt


confidence = Score(_confidence, unit, learned=True)
cumulative_confidence = Score(_cumulative_confidence, unit, lambda: 1.0, learned=True)
