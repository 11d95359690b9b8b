"""Policies inside jit: a policy as numbers, what all executors decide by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.decision import anytime
from sc_jax.exits.execute.traced import TRACED, Read
from sc_jax.exits.policies import Anytime, Patience, PerClass, Policy, TopFraction
from sc_jax.exits.scores import Scoring


@dataclass(frozen=True, eq=False)
class Rule:
    """A policy for E exits: marks, or shares, or (an exit that is fixed) both."""

    scoring: Scoring
    marks: np.ndarray | None  # f32[E - 1], or [E - 1, K] by the class predicted
    shares: tuple[float, ...] | None  # [E], of the batch

    def score(
        self, e: int, logits: jax.Array, told: jax.Array | None, memory: Any
    ) -> tuple[jax.Array, Any]:
        """(score f32[B] of exit e, the memory for the next); NaN counts as unsure.

        logits f32[B, K] and told f32[B] as the exit gave them; memory: None at first.
        """
        given, twin = self.scoring, TRACED[self.scoring.score]
        heat = given.temperatures[e] if given.temperatures else 1.0
        # Divided first, a fused multiply-add would miss 0 at the largest.
        log_p = jax.nn.log_softmax((logits - logits.max(-1, keepdims=True)) / heat)
        weights = given.weights[e] if given.weights else ()
        score, kept = twin(Read(logits, log_p, told, weights, memory))
        return jnp.where(jnp.isnan(score), -jnp.inf, score), kept

    def leaves(self, e: int, score: jax.Array, logits: jax.Array) -> jax.Array:
        """bool[B], who leaves at exit e by its marks."""
        assert self.marks is not None
        marks = jnp.asarray(self.marks[e])
        if marks.ndim:
            if len(marks) != logits.shape[-1]:
                given, needed = len(marks), logits.shape[-1]
                raise UsageError(f"thresholds of {given} classes, the net has {needed}")
            marks = marks[logits.argmax(-1)]
        return score >= marks


def rule(policy: Policy, exits: int, cost: Sequence[float] | None = None) -> Rule:
    """The rule of a policy; cost f[E], in the unit of an Anytime deadline."""
    if isinstance(policy, Anytime):
        if cost is None or len(cost) != exits:
            raise UsageError(f"a deadline needs the cost of each of the {exits} exits")
        fixed = int(anytime(cost, [policy.deadline_macs])[0])
        marks = np.where(np.arange(exits - 1) >= fixed, -np.inf, np.inf)
        shares = tuple(float(e == fixed) for e in range(exits))
        return Rule(Scoring(), marks.astype(np.float32), shares)
    if isinstance(policy, Patience):
        policy.fits(exits)
        marks = np.full(exits - 1, policy.patience, np.float32)
        return Rule(Scoring("patience"), marks, None)
    scoring = policy.scoring
    if scoring.score not in TRACED:
        known = ", ".join(TRACED)
        raise UsageError(f"no executor traces score {scoring.score!r}; these: {known}")
    for name, rows in (
        ("temperatures", scoring.temperatures),
        ("weights", scoring.weights),
    ):
        _of(name, len(rows) or exits, exits)
    if isinstance(policy, TopFraction):
        _of("shares", len(policy.shares), exits)
        return Rule(scoring, None, policy.shares)
    _of("thresholds", len(policy.thresholds), exits - 1)
    marks = np.asarray(policy.thresholds, np.float64)
    if isinstance(policy, PerClass):
        marks = marks.reshape(exits - 1, -1)
    return Rule(scoring, _not_below(marks), None)


def _of(name: str, given: int, exits: int) -> None:
    if given != exits:
        raise UsageError(
            f"{name}: {given} given, {exits} needed by the exits of this net"
        )


def _not_below(marks: np.ndarray) -> np.ndarray:
    """The least float32 at or over each: a float32 score passes both or neither."""
    with np.errstate(over="ignore"):
        near = marks.astype(np.float32)
    return np.where(near < marks, np.nextafter(near, np.float32(np.inf)), near)
