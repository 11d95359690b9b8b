"""Confidence scores by name, and one chosen with what was fitted for it, as data.

A score of one's own: a file with a `Score` beside these and a row in SCORES, or
FILE.py:name in a policy's spec, for traces and executors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sc_jax import plugins
from sc_jax.errors import UsageError
from sc_jax.exits.scores import energy, fitted, learned, sequence, softmax
from sc_jax.exits.scores.score import ExitAnswer, Score, answers_of

__all__ = [
    "MAX_PROBABILITY",
    "SCORES",
    "ExitAnswer",
    "Score",
    "Scoring",
    "features",
    "find",
]

SCORES: dict[str, Score] = {
    "max_probability": softmax.max_probability,
    "margin": softmax.margin,
    "entropy": softmax.entropy,
    "normalised_entropy": softmax.normalised_entropy,
    "energy": energy.energy,
    "patience": sequence.patience,
    "cumulative": sequence.cumulative,
    "ensembled": sequence.ensembled,
    "failure_prediction": fitted.failure_prediction,
    "eenet": fitted.eenet,
    "confidence": learned.confidence,
    "cumulative_confidence": learned.cumulative_confidence,
}


def find(name: str) -> Score:
    """A registered score, or that of FILE.py:name; UsageError lists the known."""
    return plugins.find("score", name, SCORES, lambda found: isinstance(found, Score))


@dataclass(frozen=True)
class Scoring:
    """A score by name, its temperatures and its weights: what a policy carries.

    temperatures: [E], logits are divided by them (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599); () for none. weights: a row for each exit, as
    the score reads them; () for a score of none.
    """

    score: str = "max_probability"
    temperatures: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        kind = find(self.score)
        if kind.fitted != bool(self.weights):
            verb = "needs" if kind.fitted else "takes no"
            raise UsageError(f"score {self.score!r} {verb} weights")
        if not all(0 < t < math.inf for t in self.temperatures):
            raise UsageError(f"temperatures are above 0, not {self.temperatures}")
        if self.temperatures and kind.learned:
            raise UsageError(f"score {self.score!r} reads no logits: no temperatures")

    def check(self, exits: int) -> None:
        """UsageError where temperatures or weights are of another number of exits."""
        for name in ("temperatures", "weights"):
            rows = getattr(self, name)
            if rows and len(rows) != exits:
                raise UsageError(f"{len(rows)} {name} for {exits} exits")

    def init(self) -> Any:
        """The memory before the first exit."""
        return find(self.score).init()

    def step(self, answer: ExitAnswer, memory: Any, xp: Any) -> tuple[Any, Any]:
        """(score f32[B] of one exit, memory for the next); NaN counts as unsure.

        xp: numpy or jax.numpy. The one place where a score is computed.
        """
        e, kind = answer.exit, find(self.score)
        if self.temperatures:
            answer = replace(answer, temperature=self.temperatures[e])
        if self.weights:
            # Where a row is missing the score itself says how many numbers it takes.
            row = self.weights[e] if e < len(self.weights) else ()
            answer = replace(answer, weights=row)
        score, memory = kind.step(answer, memory, xp)
        # Solvers and executors compare the same float32, though NumPy computed in 64
        # bits.
        score = score.astype("float32")
        return xp.where(xp.isnan(score), np.float32(-np.inf), score), memory

    def __call__(
        self, logits: np.ndarray, confidence: np.ndarray | None = None
    ) -> np.ndarray:
        """f32[E, N], step after step, of logits f[E, N, K], confidence f[E, N]."""
        if 0 < len(self.temperatures) < len(logits):  # fewer exits may be scored
            self.check(len(logits))
        memory, rows = self.init(), []
        for answer in answers_of(logits, confidence):
            score, memory = self.step(answer, memory, np)
            rows.append(score)
        return np.stack(rows)

    def of(self, trace: Any) -> np.ndarray:
        """f32[E, N] of a traces.trace.Trace."""
        return self(trace.answers, trace.confidence)


MAX_PROBABILITY = Scoring()


def features(logits: np.ndarray) -> np.ndarray:
    """f64[E, N, 4], the `fitted.uncertainties` of each exit, of logits f[E, N, K]."""
    each = answers_of(logits)
    return np.stack([fitted.uncertainties(answer, np) for answer in each])
