"""Patience: as many exits in a row with one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sc_jax.errors import UsageError
from sc_jax.exits.policies.policy import Policy
from sc_jax.exits.scores import SCORES
from sc_jax.spec import Knob


@dataclass(frozen=True)
class Patience(Policy):
    """Leave when `patience` exits in a row repeated the answer.

    So patience + 1 exits run at least, and two must stand before the last. PABEE (Zhou
    et al. 2020, https://arxiv.org/abs/2006.04152).
    """

    patience: Annotated[int, Knob("exits in a row that repeat an answer", at_least=1)]

    def __post_init__(self):
        if not (isinstance(self.patience, int) and self.patience >= 1):
            raise UsageError(f"patience is a count from 1 on, not {self.patience!r}")

    def check(self, exits, cost=None):
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

    def init(self):
        # The counter is a score too, so that a threshold of it may be solved.
        return SCORES["patience"].init()

    def step(self, answer, memory, xp):
        repeated, memory = SCORES["patience"].step(answer, memory, xp)
        return repeated >= self.patience, memory

    @classmethod
    def candidates(cls, exits):
        # Of fewer exits `check` says what is wrong with the only one there is.
        return [cls(count) for count in range(max(exits - 2, 1), 0, -1)]
