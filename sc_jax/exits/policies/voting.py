"""Voting: enough of the exits so far give one answer, in a row or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sc_jax.errors import UsageError
from sc_jax.exits.policies.policy import Policy
from sc_jax.spec import Knob


@dataclass(frozen=True)
class Voting(Policy):
    """Leave when `votes` exits so far, the present one too, give its answer.

    After the voting of Sun et al. (2021, https://arxiv.org/abs/2105.13792): past exits
    are an ensemble, and one that differs does not start the count again as in
    `Patience`. That the present exit answers, and not the majority, is this library's
    choice.
    """

    votes: Annotated[int, Knob("exits that give one answer", at_least=2)]

    def __post_init__(self):
        if not (isinstance(self.votes, int) and self.votes >= 2):
            raise UsageError(f"votes are a count from 2 on, not {self.votes!r}")

    def check(self, exits, cost=None):
        if self.votes >= exits:
            raise UsageError(
                f"{exits - 1} exits before the last cannot give {self.votes} votes: "
                "fewer votes, or a threshold"
            )

    def init(self):
        return 0.0  # votes f[B, K] so far

    def step(self, answer, memory, xp):
        mine = answer.predicted[:, None] == xp.arange(answer.classes)[None]
        votes = memory + mine.astype("float32")
        return (votes * mine).max(-1) >= self.votes, votes

    @classmethod
    def candidates(cls, exits):
        # Of fewer exits `check` says what is wrong with the only one there is.
        return [cls(count) for count in range(max(exits - 1, 2), 1, -1)]
