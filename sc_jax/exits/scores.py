"""How sure each exit is: logits f32[E, N, K] to scores f32[E, N], higher = surer.

Row e reads rows <= e only: the scores of the first e exits are the first e rows of the
scores of all, so a device that has run e exits computes the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.learned import FEATURES as FEATURES
from sc_jax.exits.learned import (
    confidence,
    cumulative_confidence,
    eenet,
    failure_prediction,
)
from sc_jax.exits.learned import features as features
from sc_jax.exits.softmax import by_exit, entropy_of, log_probabilities, margin_of


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


def oracle(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where exit e is right, and where no exit is; else 0. Reads labels i32[N].

    No score: an upper bound. With thresholds of 0.5 each example leaves at its first
    right exit, or at once: most accurate of all policies, and cheapest of those.
    """
    right = np.stack([p.argmax(-1) == labels for p in log_probabilities(logits)])
    return (right | ~right.any(0)).astype(np.float32)


@dataclass(frozen=True)
class Score:
    """A score and its range: bounds(E, K) -> (no idea at all, as sure as can be).

    function(logits f32[E, N, K]), (logits, weights) if fitted, (confidence f[E, N]) if
    told.
    """

    function: Callable[..., np.ndarray]
    bounds: Callable[[int, int], tuple[float, float]]
    fitted: bool = False  # takes weights, found on a trace
    told: bool = False  # reads what the exits say of themselves, and no logits


def _unit(exits: int, classes: int) -> tuple[float, float]:
    return 0.0, 1.0


SCORES = {
    "max_probability": Score(max_probability, lambda e, k: (1 / k, 1.0)),
    "margin": Score(margin, _unit),
    "entropy": Score(entropy, lambda e, k: (-math.log(k), 0.0)),
    "normalised_entropy": Score(normalised_entropy, _unit),
    "patience": Score(patience, lambda e, k: (0.0, e - 1.0)),
    "cumulative": Score(cumulative, _unit),
    "ensembled": Score(ensembled, lambda e, k: (1 / k, 1.0)),
    "failure_prediction": Score(failure_prediction, _unit, fitted=True),
    "eenet": Score(eenet, _unit, fitted=True),
    "confidence": Score(confidence, _unit, told=True),
    "cumulative_confidence": Score(cumulative_confidence, _unit, told=True),
}


@dataclass(frozen=True)
class Scoring:
    """A score by name with what was fitted for it, as data; called like a score.

    temperatures: [E], logits are divided by them (Guo et al. 2017); () for none.
    weights: a row for each exit, as the score reads them; () for a score of none.
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
        if self.temperatures and SCORES[self.score].told:
            raise UsageError(f"score {self.score!r} reads no logits: no temperatures")

    def __call__(
        self, logits: np.ndarray, confidence: np.ndarray | None = None
    ) -> np.ndarray:
        """f32[E, N] of logits f32[E, N, K] and the exits' confidences f[E, N]."""
        score = SCORES[self.score]
        if score.told:
            return score.function(self._told(logits, confidence))
        extra = (self.weights,) if self.weights else ()
        return score.function(self.scale(logits), *extra)

    def of(self, trace: Any) -> np.ndarray:
        """f32[E, N] of an evaluate.trace.Trace."""
        return self(trace.predictions, trace.confidence)

    def scale(self, logits: np.ndarray) -> np.ndarray:
        """The logits at the temperatures; of fewer exits than those too."""
        if not self.temperatures:
            return logits
        if len(self.temperatures) < len(logits):
            given = len(self.temperatures)
            raise UsageError(f"{given} temperatures for {len(logits)} exits")
        t = np.asarray(self.temperatures[: len(logits)], np.float64)
        return logits / t[:, None, None]

    def _told(self, logits: np.ndarray, confidence: np.ndarray | None) -> np.ndarray:
        if confidence is None:
            others = ", ".join(name for name, s in SCORES.items() if not s.told)
            raise UsageError(
                f"score {self.score!r} reads confidences that the exits of this net "
                f"never learnt (those of recipe pomponi do). Others: {others}"
            )
        if np.shape(confidence) != np.shape(logits)[:2]:
            given, needed = list(np.shape(confidence)), list(np.shape(logits)[:2])
            raise UsageError(f"confidences are {needed} like the logits, not {given}")
        return confidence


MAX_PROBABILITY = Scoring()
