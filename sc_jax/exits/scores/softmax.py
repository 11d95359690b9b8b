"""Scores of one softmax: its largest probability, its margin, its entropy."""

from __future__ import annotations

import math

from sc_jax.exits.scores.score import (
    Score,
    certainty_of,
    entropy_of,
    margin_of,
    unit,
)


def _max_probability(answer, memory, xp):
    """The largest probability: 1/K (no idea) to 1 (sure).

    Hendrycks and Gimpel (https://arxiv.org/abs/1610.02136); the rule of MSDNet (Huang
    et al. 2018, https://arxiv.org/abs/1703.09844) and SPINN.
    """
    return xp.exp(answer.log_softmax(xp).max(-1)), memory


def _margin(answer, memory, xp):
    """Largest minus second largest probability: 0 (a tie) to 1.

    The "softmax" confidence of CALM (Schuster et al. 2022,
    https://arxiv.org/abs/2207.07061).
    """
    return margin_of(answer.log_softmax(xp), xp), memory


def _entropy(answer, memory, xp):
    """Minus the entropy in nats: -ln K to 0.

    BranchyNet (Teerapittayanon et al. 2016, https://arxiv.org/abs/1709.01686), DeeBERT;
    their "H < T" is a threshold of -T here.
    """
    return -entropy_of(answer.log_softmax(xp), xp), memory


def _normalised_entropy(answer, memory, xp):
    """1 - H / ln K, the entropy comparable between numbers of classes: 0 to 1.

    DDNN (Teerapittayanon et al. 2017, https://arxiv.org/abs/1709.01921) and FastBERT
    leave at H / ln K < T, which is a threshold of 1 - T here.
    """
    return certainty_of(answer.log_softmax(xp), xp), memory


max_probability = Score(_max_probability, lambda e, k: (1 / k, 1.0))
margin = Score(_margin, unit)
entropy = Score(_entropy, lambda e, k: (-math.log(k), 0.0))
normalised_entropy = Score(_normalised_entropy, unit)
