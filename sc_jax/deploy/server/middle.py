"""The stages between two splits: what an edge server runs that forwards to the next.

Exits on them answer by the run's policy, or where the next server is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sc_jax.deploy.device.leaving import Steps
from sc_jax.deploy.device.runtime import FEATURE, confidence_of
from sc_jax.deploy.wire.reply import check_shapes
from sc_jax.errors import UsageError
from sc_jax.exits import policies
from sc_jax.exits.policies import Policy


@dataclass(frozen=True)
class Decision:
    """A policy, and what it counts: all exits in order, the last answer too, and the
    cost of each, () for not known. policy None: no exit answers by itself.
    """

    policy: Policy | None = None
    exits: tuple[str, ...] = ()
    cost: tuple[float, ...] = ()


def decision(
    policy: Mapping[str, Any] | None = None,
    exits: Sequence[str] = (),
    cost: Sequence[float] = (),
) -> Decision:
    """Of the fields of a manifest; UsageError for a policy that is none."""
    found = None if policy is None else policies.from_json(json.dumps(policy))
    return Decision(found, tuple(exits), tuple(cost))


def manifest_of(decision: Decision) -> dict[str, Any]:
    """The fields that `decision` takes."""
    policy = decision.policy
    return {
        "policy": None if policy is None else json.loads(policies.to_json(policy)),
        "exits": list(decision.exits),
        "cost": list(decision.cost),
    }


class ExitReply(NamedTuple):
    """What one exit answers to one example."""

    name: str
    outputs: dict[str, np.ndarray]  # the task's reply
    scored: np.ndarray  # f[1, K], what scores read
    confidence: np.ndarray | None  # f[1] in 0..1, where it learnt one


@dataclass(frozen=True, eq=False)
class Middle:
    """The stages from one split to the next, `to`, with the exits on them.

    jitted: (variables, z [B, ...]) -> arrays [B, ...] by name: FEATURE, what the next
    split encodes; of each exit its reply as EXIT/NAME, what scores read under its own
    name, and its confidence where it learnt one.
    """

    to: int
    exits: tuple[str, ...]
    jitted: Any = field(repr=False)
    decision: Decision = Decision()

    def steps(self, task: str) -> Steps | None:
        """Who leaves here; None: nobody does. UsageError where the policy cannot."""
        known = self.decision
        if known.policy is None or not self.exits:
            return None
        if missing := [name for name in self.exits if name not in known.exits[:-1]]:
            raise UsageError(
                f"the policy counts the exits {', '.join(known.exits)}, not "
                f"{', '.join(missing)}"
            )
        at = {name: known.exits.index(name) for name in self.exits}
        return Steps(known.policy, task, at, len(known.exits), known.cost)

    def replies(self, outputs: Mapping[str, np.ndarray]) -> Iterator[ExitReply]:
        """The exits' answers to one example, in order, of its row of the outputs."""
        for name in self.exits:
            sure = outputs.get(confidence_of(name))
            confidence = None if sure is None else sure[None]
            reply = _reply_of(name, outputs)
            yield ExitReply(name, reply, outputs[name][None], confidence)

    def check(
        self, outputs: Mapping[str, np.ndarray], shape: tuple, count: int
    ) -> None:
        """ReplyError, or UsageError, unless these are answers to `count` examples."""
        for name in self.exits:
            check_shapes(_reply_of(name, outputs), count, 0)
        if (found := outputs[FEATURE].shape) != (count, *shape):
            raise UsageError(f"the next split takes {list(shape)}, not {found[1:]}")


def _reply_of(exit: str, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    own = f"{exit}/"
    return {k.removeprefix(own): v for k, v in outputs.items() if k.startswith(own)}
