"""Anytime prediction: the deepest exit that a deadline allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.policies.policy import Policy


@dataclass(frozen=True)
class Anytime(Policy):
    """The deepest exit that is done by `deadline_macs`, for every example.

    Huang et al. (2018, https://arxiv.org/abs/1703.09844).
    """

    deadline_macs: float

    def __post_init__(self):
        if not 0 <= self.deadline_macs < math.inf:
            raise UsageError(f"deadline_macs is 0 or more, not {self.deadline_macs}")

    def check(self, exits, cost=None):
        if cost is None or len(cost) != exits:
            raise UsageError(f"a deadline needs the cost of each of the {exits} exits")
        if cost[0] > self.deadline_macs:
            raise UsageError(
                f"no exit answers by {self.deadline_macs:.6g}: the first takes "
                f"{cost[0]:.6g}, the last {cost[-1]:.6g}"
            )

    def step(self, answer, memory, xp):
        # Alike for all inputs: whoever comes here leaves unless the next exit is in
        # time.
        late = answer.next_cost is not None and answer.next_cost > self.deadline_macs
        return xp.full(len(answer.logits), late), memory

    def shares_of(self, exits, cost=None):
        self.check(exits, cost)
        # One-hot shares: with them the fixed-capacity executor serves this policy too.
        deepest = (
            np.searchsorted(np.asarray(cost), self.deadline_macs, side="right") - 1
        )
        return tuple((np.arange(exits) == deepest).astype(float).tolist())
