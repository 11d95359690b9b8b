"""Fixed shares of a batch, surest first: an exact cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sc_jax.errors import UsageError
from sc_jax.exits.decision import counts, wrong_count
from sc_jax.exits.policies.policy import Policy, check_numbers
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring


@dataclass(frozen=True)
class TopFraction(Policy):
    """The surest share of the batch leaves at each exit: shares [E], sum 1.

    The percent mode of BranchyNet (2016, https://arxiv.org/abs/1709.01686).
    """

    ranks: ClassVar[bool] = True
    shares: tuple[float, ...]
    scoring: Scoring = MAX_PROBABILITY

    def __post_init__(self):
        check_numbers("shares", self.shares, 1)
        # For its check alone: shares of 0 or more that sum to 1.
        counts(self.shares, 1)

    def check(self, exits, cost=None):
        if len(self.shares) != exits:
            raise UsageError(wrong_count("shares", len(self.shares), exits))
        self.scoring.check(exits)

    def init(self):
        return self.scoring.init()

    def step(self, answer, memory, xp):
        return self.scoring.step(answer, memory, xp)

    def shares_of(self, exits, cost=None):
        return self.shares
