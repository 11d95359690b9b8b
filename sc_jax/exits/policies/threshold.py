"""Thresholds of a score: one an exit, or one for each class that it predicts."""

from __future__ import annotations

from dataclasses import dataclass

from sc_jax.errors import UsageError
from sc_jax.exits.decision import not_below, wrong_count
from sc_jax.exits.policies.policy import Policy, check_numbers
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring


@dataclass(frozen=True)
class Threshold(Policy):
    """Leave at the first exit whose score reaches its threshold, [E - 1]."""

    thresholds: tuple[float, ...]
    scoring: Scoring = MAX_PROBABILITY

    def __post_init__(self):
        check_numbers("thresholds", self.thresholds, 1)

    def check(self, exits, cost=None):
        check_thresholds(self, exits)

    def init(self):
        return self.scoring.init()

    def step(self, answer, memory, xp):
        score, memory = self.scoring.step(answer, memory, xp)
        # >=: a solver's threshold is the score of the last example that should leave.
        return score >= not_below(self.thresholds[answer.exit]), memory


@dataclass(frozen=True)
class PerClass(Policy):
    """As `Threshold`, by the class the exit predicts: thresholds [E - 1][K].

    Lo et al. (2017); the two classes of monoBERT (Xin et al. 2020,
    https://aclanthology.org/2020.sustainlp-1.11). A threshold above the score's range
    keeps a class from leaving (Matsubara and Levorato 2020).
    """

    thresholds: tuple[tuple[float, ...], ...]
    scoring: Scoring = MAX_PROBABILITY

    def __post_init__(self):
        check_numbers("thresholds", self.thresholds, 2)

    def check(self, exits, cost=None):
        check_thresholds(self, exits)

    def init(self):
        return self.scoring.init()

    def step(self, answer, memory, xp):
        # A row a class, indexed by the exit's own answer, for nobody knows the label.
        thresholds = xp.asarray(not_below(self.thresholds[answer.exit]))
        if len(thresholds) != answer.classes:
            raise UsageError(
                f"thresholds of {len(thresholds)} classes, the net has {answer.classes}"
            )
        score, memory = self.scoring.step(answer, memory, xp)
        return score >= thresholds[answer.predicted], memory


def check_thresholds(policy: Threshold | PerClass, exits: int) -> None:
    """UsageError where thresholds, temperatures or weights are not of E exits."""
    count = len(policy.thresholds)
    if count != exits - 1:
        raise UsageError(wrong_count("thresholds", count, exits - 1))
    policy.scoring.check(exits)
