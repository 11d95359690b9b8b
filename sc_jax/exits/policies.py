"""Which exit answers: rules over scores, as frozen data that a device can carry.

A policy is called with logits f32[E, N, K] and cost f64[E], and with what the exits say
of themselves, confidence f32[E, N] in 0..1, where its score reads that. It gives the
exit taken, i32[N]. E counts the last exit, the whole network, which answers whoever
comes to it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.exits.decision import anytime, counts, decide, top_fraction
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring
from sc_jax.exits.scores import patience as agreements

Told = np.ndarray | None


@dataclass(frozen=True)
class Threshold:
    """Leave at the first exit whose score reaches its threshold, [E - 1]."""

    thresholds: tuple[float, ...]
    scoring: Scoring = MAX_PROBABILITY

    def __post_init__(self) -> None:
        _finite("thresholds", self.thresholds, 1)

    def __call__(
        self, logits: np.ndarray, cost: np.ndarray, confidence: Told = None
    ) -> np.ndarray:
        return decide(_score(self.scoring, logits, confidence), self.thresholds)


@dataclass(frozen=True)
class PerClass:
    """As `Threshold`, by the class the exit predicts: thresholds [E - 1][K].

    Lo et al. (2017); the two classes of monoBERT (Xin et al. 2020). A threshold above
    the score's range keeps a class from leaving (Matsubara and Levorato 2020).
    """

    thresholds: tuple[tuple[float, ...], ...]
    scoring: Scoring = MAX_PROBABILITY

    def __post_init__(self) -> None:
        _finite("thresholds", self.thresholds, 2)

    def __call__(
        self, logits: np.ndarray, cost: np.ndarray, confidence: Told = None
    ) -> np.ndarray:
        score, classes = _score(self.scoring, logits, confidence), logits.shape[-1]
        given = len(self.thresholds[0]) if self.thresholds else classes
        if len(self.thresholds) == len(logits) - 1 and given != classes:
            raise UsageError(f"thresholds of {given} classes, the net has {classes}")
        return decide(score, self.thresholds, np.argmax(logits, -1))


@dataclass(frozen=True)
class TopFraction:
    """The surest share of the batch leaves at each exit: shares [E], sum 1."""

    shares: tuple[float, ...]
    scoring: Scoring = MAX_PROBABILITY

    def __post_init__(self) -> None:
        _finite("shares", self.shares, 1)
        counts(self.shares, 1)

    def __call__(
        self, logits: np.ndarray, cost: np.ndarray, confidence: Told = None
    ) -> np.ndarray:
        return top_fraction(_score(self.scoring, logits, confidence), self.shares)


@dataclass(frozen=True)
class Patience:
    """Leave when `patience` exits in a row repeated the answer (PABEE 2020).

    So patience + 1 exits run at least, and two must stand before the last.
    """

    patience: int

    def __post_init__(self) -> None:
        if not (isinstance(self.patience, int) and self.patience >= 1):
            raise UsageError(f"patience is a count from 1 on, not {self.patience!r}")

    def fits(self, exits: int) -> int:
        """How many stand before the last; UsageError where nobody could leave there."""
        early = exits - 1
        if early < 2:
            raise UsageError(
                f"patience compares 2 exits before the last; this net has {early}: "
                "a threshold serves one"
            )
        if self.patience >= early:
            raise UsageError(
                f"of {early} exits before the last, {early - 1} can repeat an answer: "
                f"with patience {self.patience} nobody would leave"
            )
        return early

    def __call__(
        self, logits: np.ndarray, cost: np.ndarray, confidence: Told = None
    ) -> np.ndarray:
        early = self.fits(len(logits))
        return decide(agreements(logits), (self.patience,) * early)


@dataclass(frozen=True)
class Anytime:
    """The deepest exit that is done by `deadline_macs`, for every example."""

    deadline_macs: float

    def __post_init__(self) -> None:
        if not 0 <= self.deadline_macs < math.inf:
            raise UsageError(f"deadline_macs is 0 or more, not {self.deadline_macs}")

    def __call__(
        self, logits: np.ndarray, cost: np.ndarray, confidence: Told = None
    ) -> np.ndarray:
        return anytime(cost, np.full(np.shape(logits)[1], self.deadline_macs))


Policy = Threshold | PerClass | TopFraction | Patience | Anytime
POLICIES: dict[str, type[Policy]] = {
    "threshold": Threshold,
    "per_class": PerClass,
    "top_fraction": TopFraction,
    "patience": Patience,
    "anytime": Anytime,
}


def to_json(policy: Policy) -> str:
    """The policy as one line of JSON; every float comes back as the same float."""
    name = next(n for n, kind in POLICIES.items() if kind is type(policy))
    fields = {"policy": name, **dataclasses.asdict(policy)}
    return json.dumps(fields, allow_nan=False)


def from_json(text: str) -> Policy:
    """The policy that `to_json` wrote."""
    try:
        fields = json.loads(text, object_hook=_tuples)
        kind = POLICIES.get(name := fields.pop("policy"))
        if kind is None:
            raise unknown("policy", name, POLICIES)
        if "scoring" in fields:
            fields["scoring"] = Scoring(**fields["scoring"])
        return kind(**fields)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"not a policy in JSON: {error}") from None


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _score(scoring: Scoring, logits: np.ndarray, confidence: Told) -> np.ndarray:
    given = len(scoring.temperatures)
    if given not in (0, len(logits)):
        raise UsageError(f"{given} temperatures for {len(logits)} exits")
    return scoring(logits, confidence)


def _finite(name: str, values: tuple, axes: int) -> None:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    fits = isinstance(values, tuple) and (array.ndim == axes or not values)
    if not fits or not np.isfinite(array).all():
        shape = "a tuple" if axes == 1 else "a tuple of equally long tuples"
        raise UsageError(f"{name} are {shape} of finite numbers, not {values!r}")
