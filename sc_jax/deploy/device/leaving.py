"""Whether a device answers at an exit: the bundle's policy, one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.runtime import Runner, confidence_of
from sc_jax.errors import UsageError
from sc_jax.exits.scores.score import ExitAnswer
from sc_jax.tasks import TASKS


class Leaving:
    """The steps of a bundle's policy over the exits of its segments.

    The policy counts all exits of the net, those of the server too: a device takes the
    first steps of what a trace takes, in the same code. UsageError where the policy
    does not fit the segments, before any image comes.
    """

    def __init__(self, bundle: Bundle, segments: Sequence[Runner]):
        names = [name for segment in segments for name in segment.exits]
        self._policy, self._at = bundle.policy, {n: e for e, n in enumerate(names)}
        if self._policy is None:
            return
        if bundle.manifest["task"] not in TASKS:
            raise UsageError(
                f"the bundle leaves by scores of a task {bundle.manifest['task']!r}, "
                f"a device knows {', '.join(TASKS)}"
            )
        self._scored = TASKS[bundle.manifest["task"]].logits
        total = len(bundle.manifest["exits"])
        # Empty in bundles of format 1, whose thresholds read no cost.
        cost = tuple(bundle.manifest["cost"]) or None
        # `total` counts the last exit too, about which no policy decides.
        if len(names) >= total:
            raise UsageError(
                f"the bundle has a policy for {total - 1} exits before the last, its "
                f"segments have {len(names)}"
            )
        if self._policy.ranks:
            raise UsageError(
                "a top_fraction policy ranks a batch, a device has one image: export "
                "with --policy=threshold:shares=..."
            )
        self._policy.check(total, cost)
        self._next_cost = (None,) * total if cost is None else (*cost[1:], None)
        self._try(segments)

    def init(self) -> Any:
        """The memory before the first exit."""
        return None if self._policy is None else self._policy.init()

    def step(
        self, name: str, logits: np.ndarray, confidence: np.ndarray | None, memory: Any
    ) -> tuple[bool, Any]:
        """(whether to answer, memory) at an exit: logits f[1, K], confidence f[1]."""
        if self._policy is None:
            return False, memory
        e = self._at[name]
        # In float64, as over a trace: the same logits then give the same score.
        wide = None if confidence is None else confidence.astype(np.float64)
        scored = self._scored(logits.astype(np.float64))
        answer = ExitAnswer(e, scored, wide, self._next_cost[e])
        verdict, memory = self._policy.step(answer, memory, np)
        return bool(verdict[0]), memory

    def _try(self, segments: Sequence[Runner]) -> None:
        """One pass over made-up answers: a wrong number of classes shows here."""
        memory = self.init()
        for segment in segments:
            for name in segment.exits:
                learned = confidence_of(name) in segment.outputs
                logits = np.zeros((1, segment.classes(name)), np.float32)
                confidence = np.zeros(1, np.float32) if learned else None
                _, memory = self.step(name, logits, confidence, memory)
