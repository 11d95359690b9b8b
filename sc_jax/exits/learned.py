"""Scores that were learnt: by the exits themselves, or afterwards on a trace.

As those of scores.py: f32[E, N], higher = surer, row e reads rows <= e only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.softmax import entropy_of, log_probabilities, margin_of, normalise

FEATURES = 4  # of `features`
SCALARS = 3  # of `standing`, beside the K probabilities


def confidence(told: np.ndarray) -> np.ndarray:
    """What each exit says of itself: 0 to 1, the probability that it should answer.

    c_i of Pomponi et al. (2021), the gate of JEI-DNN (Regol et al. 2024). told:
    f[E, N], probabilities.
    """
    told = np.asarray(told, np.float32)
    if not ((told >= 0) & (told <= 1)).all():
        raise UsageError("confidences are probabilities in 0..1, one is not")
    return told


def cumulative_confidence(told: np.ndarray) -> np.ndarray:
    """sum_{j<=e} c_j prod_{l<j} (1 - c_l) = 1 - prod_{j<=e} (1 - c_j): 0 to 1.

    Pomponi et al. (2021): the share of the mixture that stands by exit e. It never
    falls with depth, and is 1 where an exit is certain, as their last always is.
    """
    doubt = np.cumprod(1 - confidence(told).astype(np.float64), axis=0)
    return (1 - doubt).astype(np.float32)


def features(logits: np.ndarray) -> np.ndarray:
    """Four uncertainties of each exit, f64[E, N, 4] in 0..1; causal like a score.

    Largest probability, margin, entropy / ln K, and that of the softmax squared and
    renormalised: what a gate of JEI-DNN reads (Regol et al. 2024); the power is this
    library's choice.
    """
    rows = []
    for log_p in log_probabilities(logits):
        scale = math.log(log_p.shape[-1])
        sharp = normalise(2 * log_p)
        columns = (np.exp(log_p.max(-1)), margin_of(log_p), entropy_of(log_p) / scale)
        rows.append(np.stack([*columns, entropy_of(sharp) / scale], -1))
    return np.stack(rows)


def failure_prediction(logits: np.ndarray, weights: Sequence) -> np.ndarray:
    """Probability that stopping is no mistake: 0 to 1, logistic in `features`.

    weights: [E][1 + FEATURES], bias first; `exits.failure.fit` finds them on a trace.
    After "Rethinking Calibration" (EEFP, 2026): what is predicted is whether going on
    would mend the answer. The logistic model is this library's choice.
    """
    each = enumerate(features(logits))
    return np.stack([_logistic(x, weights, e) for e, x in each]).astype(np.float32)


def eenet(logits: np.ndarray, weights: Sequence) -> np.ndarray:
    """The score q of EENet's scheduler (Ilhan et al. 2024): 0 to 1, logistic.

    Linear in what `standing` gives and in the scores of the exits before. weights:
    [E][1 + K + SCALARS + e], bias first; `exits.eenet.fit` finds them on a trace.
    """
    scores: list[np.ndarray] = []
    for e, x in enumerate(standing(logits)):
        scores.append(_logistic(np.column_stack([x, *scores]), weights, e))
    return np.stack(scores).astype(np.float32)


def standing(logits: np.ndarray) -> Iterator[np.ndarray]:
    """What EENet reads of each exit, f64[N, K + 3] in 0..1, one in memory at a time.

    The probabilities, the largest of them, 1 - H / ln K, and the share of the exits so
    far, itself counted, that give the exit's answer.
    """
    answers: list[np.ndarray] = []
    for log_p in log_probabilities(logits):
        answers.append(log_p.argmax(-1))
        votes = np.mean([answer == answers[-1] for answer in answers], 0)
        surety = 1 - entropy_of(log_p) / math.log(log_p.shape[-1])
        p = np.exp(log_p)
        yield np.column_stack([p, p.max(-1), surety, votes])


def _logistic(x: np.ndarray, weights: Sequence, e: int) -> np.ndarray:
    """f64[N] of exit e's features [N, F] and its row of weights [1 + F], bias first.

    A sum of columns and no product of matrices: an example alone scores as in a batch.
    """
    w = np.asarray(weights[e] if e < len(weights) else (), np.float64)
    needed = 1 + x.shape[1]
    if w.shape != (needed,):
        raise UsageError(f"exit {e} takes {needed} weights of its score, not {w.size}")
    return 0.5 * (1 + np.tanh(0.5 * (w[0] + (x * w[1:]).sum(-1))))
