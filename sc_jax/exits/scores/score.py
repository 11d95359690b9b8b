"""What a confidence score is: one step an exit, over NumPy and jax.numpy alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sc_jax.errors import UsageError


@dataclass(frozen=True)
class ExitAnswer:
    """What a score and a policy read at one exit; arrays are those of their xp."""

    exit: int  # from 0
    logits: Any  # f[B, K], as the exit gave them
    confidence: Any = None  # f[B] in 0..1, where the exit learnt one
    next_cost: float | None = None  # of an answer at the next exit
    temperature: float = 1.0
    weights: tuple[float, ...] = ()  # a fitted score's, of this exit

    @property
    def predicted(self) -> Any:
        """i[B]; of the logits, for rounding may make ties of their softmax."""
        return self.logits.argmax(-1)

    @property
    def classes(self) -> int:
        return self.logits.shape[-1]

    def log_softmax(self, xp: Any) -> Any:
        """f[B, K], at the temperature."""
        # Shifted before it is divided: a fused multiply-add would miss 0 at the largest
        largest = self.logits.max(-1, keepdims=True)
        return log_softmax((self.logits - largest) / self.temperature, xp)


def nothing() -> None:
    """The memory of a score that reads one exit alone."""


@dataclass(frozen=True)
class Score:
    """How sure an exit is; higher is surer.

    step(answer, memory, xp) -> (f[B], memory for the next exit). The memory is a pytree
    whose leaves have leading axis B after the first step: where a batch shrinks, those
    who go on take their rows along. So a score reads no later exit.
    init() -> memory before the first exit; numbers that broadcast will do. The first
    line of the step's docstring is the score's line in --list=scores.
    bounds(E, K) -> (no idea at all, as sure as can be).
    fitted: reads weights, found on a trace. learned: reads what exits learnt to say of
    themselves (`confidence`), and no logits.
    """

    step: Callable[[ExitAnswer, Any, Any], tuple[Any, Any]]
    bounds: Callable[[int, int], tuple[float, float]]
    init: Callable[[], Any] = nothing
    fitted: bool = False
    learned: bool = False


def unit(exits: int, classes: int) -> tuple[float, float]:
    """The bounds of a score in 0..1."""
    return 0.0, 1.0


def log_softmax(z: Any, xp: Any) -> Any:
    """Over the last axis."""
    # Else exp overflows for logits above 88.
    z = z - z.max(-1, keepdims=True)
    return z - xp.log(xp.exp(z).sum(-1, keepdims=True))


def entropy_of(log_p: Any, xp: Any) -> Any:
    """f[B] of log-probabilities f[B, K], in nats: 0 to ln K."""
    finite = xp.maximum(log_p, xp.finfo(log_p.dtype).min)  # 0 * -inf would be NaN
    nats = -(xp.exp(log_p) * finite).sum(-1)
    return xp.clip(nats, 0.0, float(np.log(log_p.shape[-1])))


def certainty_of(log_p: Any, xp: Any) -> Any:
    """f[B], 1 - H / ln K."""
    return 1 - entropy_of(log_p, xp) / float(np.log(log_p.shape[-1]))


def margin_of(log_p: Any, xp: Any) -> Any:
    """f[B], the largest minus the second largest probability of f[B, K]."""
    largest = log_p.argmax(-1)[:, None] == xp.arange(log_p.shape[-1])[None]
    # One place is struck out, not one value: of a tie the margin is 0.
    second = xp.where(largest, -xp.inf, log_p).max(-1)
    return xp.exp(log_p.max(-1)) - xp.exp(second)


def logistic(columns: Any, weights: tuple[float, ...], exit: int, xp: Any) -> Any:
    """f[B] in 0..1 of features f[B, F] and weights [1 + F], bias first.

    A sum of columns and no product of matrices: an example alone scores as in a batch.
    """
    needed = 1 + columns.shape[1]
    if len(weights) != needed:
        raise UsageError(
            f"exit {exit} takes {needed} weights of its score, not {len(weights)}"
        )
    w = xp.asarray(weights, columns.dtype)
    # The sigmoid, in a form that overflows nowhere.
    return 0.5 * (1 + xp.tanh(0.5 * (w[0] + (columns * w[None, 1:]).sum(-1))))


def answers_of(
    logits: np.ndarray,
    confidence: np.ndarray | None = None,
    cost: Sequence[float] | np.ndarray | None = None,
) -> Iterator[ExitAnswer]:
    """What each exit answered, in order, of recorded logits f[E, N, K]; checked.

    Logits in float64, one exit in memory at a time. confidence: f[E, N] in 0..1; cost:
    f[E]. UsageError names the exit and the example of a number that is none.
    """
    logits = np.asarray(logits)
    if logits.ndim != 3 or 0 in logits.shape or logits.shape[2] < 2:
        raise UsageError(
            f"logits are [exits, examples, 2 or more classes], not {list(logits.shape)}"
        )
    if confidence is not None:
        confidence = np.asarray(confidence, np.float32)
        if confidence.shape != logits.shape[:2]:
            shapes = list(logits.shape[:2]), list(confidence.shape)
            raise UsageError(
                "confidences are {} like the logits, not {}".format(*shapes)
            )
        if not ((confidence >= 0) & (confidence <= 1)).all():
            raise UsageError("confidences are probabilities in 0..1, one is not")
    for e, z in enumerate(logits):
        bad = np.flatnonzero(~np.isfinite(z).all(-1))
        if bad.size:
            raise UsageError(f"logits of exit {e}, example {bad[0]}: NaN or infinite")
        yield ExitAnswer(
            e,
            z.astype(np.float64),
            None if confidence is None else confidence[e].astype(np.float64),
            None if cost is None or e + 1 == len(logits) else float(cost[e + 1]),
        )
