"""What an exit policy is: one verdict an exit, over NumPy and jax.numpy alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.decision import counts, first_leaving, top_fraction
from sc_jax.exits.scores.score import ExitAnswer, answers_of

Cost = Sequence[float] | np.ndarray | None


class Policy:
    """Who leaves where. A policy is a frozen dataclass of numbers with a `step`.

    What a trace, an executor and a device do is the same `step`, exit after exit, so
    that they leave alike. E exits are counted with the last, the whole network, which
    answers whoever comes to it and gives no verdict.
    """

    ranks: ClassVar[bool] = False  # whether verdicts are scores, ranked in the batch

    def check(self, exits: int, cost: Cost = None) -> None:
        """UsageError where no net of so many exits, of these costs, leaves by it."""

    def init(self) -> Any:
        """The memory before the first exit, as that of a `Score`."""

    def step(self, answer: ExitAnswer, memory: Any, xp: Any) -> tuple[Any, Any]:
        """(verdict bool[B], whether to leave; memory for the next exit).

        Where `ranks`, the verdict is a score f32[B], by which the shares are filled.
        """
        raise NotImplementedError

    def shares_of(self, exits: int, cost: Cost = None) -> tuple[float, ...] | None:
        """[E], the shares of every batch that leave, where those are known before."""

    @classmethod
    def candidates(cls, exits: int) -> Sequence[Policy]:
        """All settings that a solver should try for E exits; none: it has its own."""
        return ()

    def __call__(
        self,
        logits: np.ndarray,
        cost: Cost = None,
        confidence: np.ndarray | None = None,
    ) -> np.ndarray:
        """i32[N], the exit taken, of recorded answers: the steps in turn.

        logits f[E, N, K]; cost f[E]; confidence f[E, N] in 0..1, where exits learnt it.
        """
        exits = len(logits)
        self.check(exits, cost)
        memory, verdicts = self.init(), []
        for answer in answers_of(logits, confidence, cost):
            # The last exit gives no verdict: it answers whoever comes.
            if answer.exit < exits - 1:
                verdict, memory = self.step(answer, memory, np)
                verdicts.append(verdict)
        # A net of one exit has nothing to decide.
        rows = np.stack(verdicts) if verdicts else np.zeros((0, logits.shape[1]), bool)
        return taken(self, rows, cost, np)


def taken(policy: Policy, verdicts: Any, cost: Cost, xp: Any) -> Any:
    """i32[N] from the verdicts [E - 1, N] of all exits but the last."""
    if not policy.ranks:
        # Causal: an exit's verdict is final, whatever later ones would say.
        return first_leaving(verdicts, xp)
    if not len(verdicts):
        return xp.zeros(verdicts.shape[1], "int32")
    shares = policy.shares_of(len(verdicts) + 1, cost)
    assert shares is not None, "a policy that ranks has shares"
    return top_fraction(verdicts, shares, xp)


def planned(policy: Policy, exits: int, cost: Cost, examples: int) -> np.ndarray | None:
    """i64[E], how many of a batch leave at each exit, where that is known before."""
    shares = policy.shares_of(exits, cost)
    return None if shares is None else counts(shares, examples)


def check_numbers(name: str, values: tuple, axes: int) -> None:
    """UsageError where values are no tuple, or tuple of tuples, of finite numbers."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    fits = isinstance(values, tuple) and (array.ndim == axes or not values)
    if not fits or not np.isfinite(array).all():
        shape = "a tuple" if axes == 1 else "a tuple of equally long tuples"
        raise UsageError(f"{name} are {shape} of finite numbers, not {values!r}")
