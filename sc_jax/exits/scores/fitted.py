"""Scores with weights that are fitted on a trace: logistic in what an exit shows."""

from __future__ import annotations

from sc_jax.exits.scores.score import (
    Score,
    certainty_of,
    log_softmax,
    logistic,
    margin_of,
    unit,
)

FEATURES = 4  # of `uncertainties`
SCALARS = 3  # of `standing`, beside the K probabilities


def uncertainties(answer, xp):
    """f[B, 4] in 0..1: largest probability, margin, entropy / ln K, and that of p^2.

    The last of the softmax squared and renormalised. What a gate of JEI-DNN reads
    (Regol et al. 2024, https://arxiv.org/abs/2310.09163); the power is this library's
    choice.
    """
    log_p = answer.log_softmax(xp)
    doubt, sharp = (
        1 - certainty_of(p, xp) for p in (log_p, log_softmax(2 * log_p, xp))
    )
    return xp.stack([xp.exp(log_p.max(-1)), margin_of(log_p, xp), doubt, sharp], -1)


def standing(answer, predictions, xp):
    """(f[B, K + 3] in 0..1, predictions so far): what EENet reads of an exit.

    The probabilities, the largest of them, 1 - H / ln K, and the share of the exits so
    far, itself counted, that give the exit's answer. predictions: those before, i[B].
    """
    log_p, predictions = answer.log_softmax(xp), (*predictions, answer.predicted)
    votes = xp.stack([p == predictions[-1] for p in predictions]).mean(0)
    p, certainty = xp.exp(log_p), certainty_of(log_p, xp)
    scalars = xp.stack([p.max(-1), certainty, votes.astype(p.dtype)], -1)
    return xp.concatenate([p, scalars], -1), predictions


def _failure_prediction(answer, memory, xp):
    """The probability that stopping is no mistake, logistic in `uncertainties`.

    Weights [E][1 + FEATURES], bias first, of exits.solve.failure_prediction.fit. After
    EEFP (https://arxiv.org/abs/2508.21495): what is predicted is whether going on would
    mend the answer. That the model is logistic is this library's choice.
    """
    features = uncertainties(answer, xp)
    return logistic(features, answer.weights, answer.exit, xp), memory


def _eenet(answer, memory, xp):
    """The score q of EENet's scheduler, which policy `eenet` fits with its shares.

    Ilhan et al. (2024, https://arxiv.org/abs/2301.07099): linear in what `standing`
    gives and in the scores of the exits before. Weights [E][1 + K + SCALARS + e], bias
    first, of exits.solve.eenet.fit.
    """
    predictions, scores = memory
    features, predictions = standing(answer, predictions, xp)
    # Earlier scores as features, so weights grow by one an exit.
    columns = xp.concatenate([features, *(s[:, None] for s in scores)], -1)
    score = logistic(columns, answer.weights, answer.exit, xp)
    return score, (predictions, (*scores, score))


failure_prediction = Score(_failure_prediction, unit, fitted=True)
eenet = Score(_eenet, unit, lambda: ((), ()), fitted=True)
