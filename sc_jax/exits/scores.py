"""How sure each exit is: logits f32[E, N, K] to scores f32[E, N], higher = surer.

Row e reads rows <= e only: the scores of the first e exits are the first e rows of the
scores of all, so a device that has run e exits computes the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.softmax import (
    by_exit,
    entropy_of,
    log_probabilities,
    margin_of,
    normalise,
)

FEATURES = 4  # of `features`


def max_probability(logits: np.ndarray) -> np.ndarray:
    """The largest softmax probability: 1/K (no idea) to 1 (sure).

    Hendrycks and Gimpel (2017); the rule of MSDNet (Huang et al. 2018) and SPINN.
    """
    return by_exit(logits, lambda log_p: np.exp(log_p.max(-1)))


def margin(logits: np.ndarray) -> np.ndarray:
    """The largest minus the second largest probability: 0 (a tie) to 1 (sure).

    The "softmax" confidence of CALM (Schuster et al. 2022).
    """
    return by_exit(logits, margin_of)


def entropy(logits: np.ndarray) -> np.ndarray:
    """Minus the entropy of the softmax in nats: -ln K (no idea) to 0 (sure).

    BranchyNet (Teerapittayanon et al. 2016), DeeBERT. Their rule "H < T" is a threshold
    of -T here.
    """
    return by_exit(logits, lambda log_p: -entropy_of(log_p))


def normalised_entropy(logits: np.ndarray) -> np.ndarray:
    """1 - H / ln K: 0 (no idea) to 1 (sure), comparable between numbers of classes.

    DDNN (Teerapittayanon et al. 2017) and FastBERT leave at H / ln K < T: 1 - T here.
    """
    scale = math.log(np.shape(logits)[-1]) if np.ndim(logits) else 1.0
    return by_exit(logits, lambda log_p: 1 - entropy_of(log_p) / scale)


def patience(logits: np.ndarray) -> np.ndarray:
    """How many exits in a row repeated the answer before them: 0 to E - 1, whole.

    The counter of PABEE (Zhou et al. 2020); back to 0 where the answer changes.
    """
    answers = np.stack([log_p.argmax(-1) for log_p in log_probabilities(logits)])
    count = np.zeros(answers.shape, np.float32)
    for e in range(1, len(answers)):
        count[e] = np.where(answers[e] == answers[e - 1], count[e - 1] + 1, 0)
    return count


def cumulative(logits: np.ndarray) -> np.ndarray:
    """1 - prod over j <= e of (1 - p_j), p_j the largest probability: 0 to 1.

    The cumulative confidence of Pomponi et al. (2021) with the softmax's confidence for
    their extra output; never falls with depth.
    """
    return (1 - np.cumprod(1 - max_probability(logits), axis=0)).astype(np.float32)


def ensembled(logits: np.ndarray) -> np.ndarray:
    """The largest probability of the mean softmax of exits <= e: 1/K to 1.

    The arithmetic ensemble of Zero Time Waste (Wolczyk et al. 2021), equal weights.
    """
    rows, total = [], 0.0
    for e, log_p in enumerate(log_probabilities(logits)):
        total = total + np.exp(log_p)
        rows.append((total / (e + 1)).max(-1))
    return np.stack(rows).astype(np.float32)


def failure_prediction(logits: np.ndarray, weights: Sequence) -> np.ndarray:
    """Probability that stopping is no mistake: 0 to 1, logistic in `features`.

    weights: [E][1 + FEATURES], bias first; `exits.failure.fit` finds them on a trace.
    After "Rethinking Calibration" (EEFP, 2026): what is predicted is whether going on
    would mend the answer. The logistic model is this library's choice.
    """
    w = np.asarray(weights, np.float64)
    x = features(logits)
    if w.ndim != 2 or w.shape[1] != 1 + FEATURES or len(w) < len(x):
        raise UsageError(
            f"failure_prediction of {len(x)} exits takes weights "
            f"[{len(x)}, {1 + FEATURES}], not {list(w.shape)}"
        )
    w = w[: len(x), None]
    odds = w[..., 0] + (x * w[..., 1:]).sum(-1)
    return (0.5 * (1 + np.tanh(0.5 * odds))).astype(np.float32)


def oracle(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where exit e is right, and where no exit is; else 0. Reads labels i32[N].

    No score: an upper bound. With thresholds of 0.5 each example leaves at its first
    right exit, or at once: most accurate of all policies, and cheapest of those.
    """
    right = np.stack([p.argmax(-1) == labels for p in log_probabilities(logits)])
    return (right | ~right.any(0)).astype(np.float32)


def features(logits: np.ndarray) -> np.ndarray:
    """Four uncertainties of each exit, f64[E, N, 4] in 0..1; causal like a score.

    Largest probability, margin, entropy / ln K, and that of the softmax squared and
    renormalised: what a gate of JEI-DNN reads (Chataoui et al. 2024); the power is this
    library's choice.
    """
    rows = []
    for log_p in log_probabilities(logits):
        scale = math.log(log_p.shape[-1])
        sharp = normalise(2 * log_p)
        columns = (np.exp(log_p.max(-1)), margin_of(log_p), entropy_of(log_p) / scale)
        rows.append(np.stack([*columns, entropy_of(sharp) / scale], -1))
    return np.stack(rows)


@dataclass(frozen=True)
class Score:
    """A score and its range: bounds(E, K) -> (no idea at all, as sure as can be)."""

    function: Callable[..., np.ndarray]
    bounds: Callable[[int, int], tuple[float, float]]
    fitted: bool = False  # takes weights, found on a trace


SCORES = {
    "max_probability": Score(max_probability, lambda e, k: (1 / k, 1.0)),
    "margin": Score(margin, lambda e, k: (0.0, 1.0)),
    "entropy": Score(entropy, lambda e, k: (-math.log(k), 0.0)),
    "normalised_entropy": Score(normalised_entropy, lambda e, k: (0.0, 1.0)),
    "patience": Score(patience, lambda e, k: (0.0, e - 1.0)),
    "cumulative": Score(cumulative, lambda e, k: (0.0, 1.0)),
    "ensembled": Score(ensembled, lambda e, k: (1 / k, 1.0)),
    "failure_prediction": Score(failure_prediction, lambda e, k: (0.0, 1.0), True),
}


@dataclass(frozen=True)
class Scoring:
    """A score by name with what was fitted for it, as data; called like a score.

    temperatures: [E], logits are divided by them (Guo et al. 2017); () for none.
    weights: [E][1 + FEATURES] of `failure_prediction`; () for every other score.
    """

    score: str = "max_probability"
    temperatures: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise unknown("score", self.score, SCORES)
        if SCORES[self.score].fitted != bool(self.weights):
            verb = "needs" if SCORES[self.score].fitted else "takes no"
            raise UsageError(f"score {self.score!r} {verb} weights")
        if not all(0 < t < math.inf for t in self.temperatures):
            raise UsageError(f"temperatures are above 0, not {self.temperatures}")

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        extra = (self.weights,) if self.weights else ()
        return SCORES[self.score].function(self.scale(logits), *extra)

    def scale(self, logits: np.ndarray) -> np.ndarray:
        """The logits at the temperatures; of fewer exits than those too."""
        if not self.temperatures:
            return logits
        if len(self.temperatures) < len(logits):
            given = len(self.temperatures)
            raise UsageError(f"{given} temperatures for {len(logits)} exits")
        t = np.asarray(self.temperatures[: len(logits)], np.float64)
        return logits / t[:, None, None]


MAX_PROBABILITY = Scoring()
