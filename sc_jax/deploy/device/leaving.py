"""Whether an exit answers: a policy's steps, one input at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.runtime import Runner, confidence_of
from sc_jax.errors import UsageError
from sc_jax.exits.policies import Policy
from sc_jax.exits.scores.score import ExitAnswer
from sc_jax.tasks import TASKS


class Steps:
    """The steps of a policy over some of the exits that it counts.

    at: name -> place of the exits that stand here, of all that the policy counts, in
    order; so a device and an edge server take parts of what a trace takes, in the same
    code. exits: how many those are, with the last; cost: of each, () for not known.
    UsageError where the policy cannot decide here.
    """

    def __init__(
        self,
        policy: Policy,
        task: str,
        at: Mapping[str, int],
        exits: int,
        cost: Sequence[float] = (),
    ):
        if task not in TASKS:
            raise UsageError(
                f"the policy leaves by scores of a task {task!r}, known are "
                f"{', '.join(TASKS)}"
            )
        if policy.ranks:
            raise UsageError(
                "a top_fraction policy ranks a batch, here is one input: take "
                "threshold:shares=..."
            )
        if min(at.values(), default=0) and policy.init() is not None:
            raise UsageError(
                f"a {type(policy).__name__} policy remembers the exits before "
                f"{min(at, key=at.__getitem__)}, and no frame carries that: leave by a "
                "score of one exit alone"
            )
        costs = tuple(cost) or None
        policy.check(exits, costs)
        self._policy, self._at = policy, dict(at)
        self._scored = TASKS[task].logits
        self._next_cost = (None,) * exits if costs is None else (*costs[1:], None)

    def init(self) -> Any:
        """The memory before the first exit."""
        return self._policy.init()

    def step(
        self, name: str, logits: np.ndarray, confidence: np.ndarray | None, memory: Any
    ) -> tuple[bool, Any]:
        """(whether to answer, memory) at an exit: logits f[1, K], confidence f[1]."""
        e = self._at[name]
        # In float64, as over a trace: the same logits then give the same score.
        wide = None if confidence is None else confidence.astype(np.float64)
        scored = self._scored(logits.astype(np.float64))
        answer = ExitAnswer(e, scored, wide, self._next_cost[e])
        verdict, memory = self._policy.step(answer, memory, np)
        return bool(verdict[0]), memory


class Leaving:
    """The steps of a bundle's policy over the exits of its segments.

    The policy counts all exits of the net, those of the server too. UsageError where
    the policy does not fit the segments, before any image comes.
    """

    def __init__(self, bundle: Bundle, segments: Sequence[Runner]):
        self._steps = None
        if bundle.policy is None:
            return
        names = [name for segment in segments for name in segment.exits]
        total = len(bundle.manifest["exits"])
        # `total` counts the last exit too, about which no policy decides.
        if len(names) >= total:
            raise UsageError(
                f"the bundle has a policy for {total - 1} exits before the last, its "
                f"segments have {len(names)}"
            )
        # The cost is empty in bundles of format 1, whose thresholds read none.
        task, cost = bundle.manifest["task"], bundle.manifest["cost"]
        at = {name: e for e, name in enumerate(names)}
        self._steps = Steps(bundle.policy, task, at, total, cost)
        self._try(segments)

    def init(self) -> Any:
        """The memory before the first exit."""
        return None if self._steps is None else self._steps.init()

    def step(
        self, name: str, logits: np.ndarray, confidence: np.ndarray | None, memory: Any
    ) -> tuple[bool, Any]:
        """(whether to answer, memory) at an exit: logits f[1, K], confidence f[1]."""
        if self._steps is None:
            return False, memory
        return self._steps.step(name, logits, confidence, memory)

    def _try(self, segments: Sequence[Runner]) -> None:
        """One pass over made-up answers: a wrong number of classes shows here."""
        memory = self.init()
        for segment in segments:
            for name in segment.exits:
                learned = confidence_of(name) in segment.outputs
                logits = np.zeros((1, segment.classes(name)), np.float32)
                confidence = np.zeros(1, np.float32) if learned else None
                _, memory = self.step(name, logits, confidence, memory)
