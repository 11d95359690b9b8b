"""What all executors share: the decision they give and what they are built of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.execute.segments import Reached, Segments, segments_of
from sc_jax.exits.policies.policy import Cost, Policy
from sc_jax.exits.scores.score import ExitAnswer
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables

Array = jax.Array | np.ndarray


class Decision(NamedTuple):
    """The answers of a batch."""

    logits: Array  # f32[B, K], of the exit taken
    exits: Array  # i32[B], the exit taken
    rows: Array  # i32[E], how many examples each segment computed, padding counted

    @property
    def answers(self) -> Array:
        """i[B], the class predicted; UsageError where logits are NaN."""
        wrong = np.isnan(np.asarray(self.logits)).any(-1)
        if wrong.any():
            raise UsageError(f"example {wrong.argmax()} of the batch: logits NaN")
        return self.logits.argmax(-1)


Executor = Callable[[Any], Decision]


@dataclass(frozen=True)
class Plan:
    """A net's segments and the policy that decides between them."""

    segments: Segments
    policy: Policy
    cost: Cost

    @property
    def exits(self) -> int:
        return self.segments.exits

    def verdict(self, e: int, reached: Reached, memory: Any) -> tuple[Any, Any]:
        """The policy's step at exit e: (bool[B], or a score to rank by; memory)."""
        cost = None if self.cost is None else float(self.cost[e + 1])
        answer = ExitAnswer(e, reached.logits, reached.confidence, cost)
        # A fresh memory for each batch, whatever came before.
        memory = self.policy.init() if e == 0 else memory
        return self.policy.step(answer, memory, jnp)


def prepare(
    net: Net, variables: Variables, policy: Policy, cost: Cost
) -> tuple[Plan, Variables]:
    """The plan of an executor, and the variables on the device."""
    parts = segments_of(net)
    # Before anything is compiled, which takes seconds.
    policy.check(parts.exits, cost)
    return Plan(parts, policy, cost), jax.device_put(variables)


def bound(program: Callable, variables: Variables) -> Callable:
    """program(variables, *inputs), compiled, of *inputs.

    Their tree is flattened here and not in every call: 0.1 ms for 300 arrays, 2 to 5 %
    of a small net at batch 1.
    """
    leaves, tree = jax.tree.flatten(variables)
    compiled = jax.jit(lambda leaves, *inputs: program(tree.unflatten(leaves), *inputs))
    return partial(compiled, leaves)
