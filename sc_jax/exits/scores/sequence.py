"""Scores of all exits so far: answers repeated, doubt multiplied, a mean softmax."""

from __future__ import annotations

from sc_jax.exits.scores.score import Score, unit


def _patience(answer, memory, xp):
    """How many exits in a row repeated the answer before them: 0 to E - 1.

    Back to 0 where it changes. The counter of PABEE (Zhou et al. 2020,
    https://arxiv.org/abs/2006.04152).
    """
    before, count = memory
    predicted = answer.predicted
    # Before the first exit "before" is -1, which no class is.
    count = xp.where(predicted == before, count + 1.0, 0.0)
    return count, (predicted, count)


def _cumulative(answer, doubt, xp):
    """1 - the product of all exits' doubts 1 - p so far, p the largest; never falls.

    The cumulative confidence of Pomponi et al. (2021,
    https://doi.org/10.3390/e24010001), the softmax's in place of their extra output.
    """
    # The memory is the product of doubts: one number carries all earlier exits.
    doubt = doubt * (1 - xp.exp(answer.log_softmax(xp).max(-1)))
    return 1 - doubt, doubt


def _ensembled(answer, total, xp):
    """The largest probability of the mean softmax so far: 1/K to 1.

    The arithmetic ensemble of Zero Time Waste (Wolczyk et al. 2021,
    https://arxiv.org/abs/2106.05409).
    """
    # A sum and not a mean: divided once, by how many were added.
    total = total + xp.exp(answer.log_softmax(xp))
    return total.max(-1) / (answer.exit + 1), total


patience = Score(_patience, lambda e, k: (0.0, e - 1.0), lambda: (-1, 0.0))
cumulative = Score(_cumulative, unit, lambda: 1.0)
ensembled = Score(_ensembled, lambda e, k: (1 / k, 1.0), lambda: 0.0)
