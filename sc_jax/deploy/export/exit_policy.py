"""The exit policy that a bundle carries: solved on what its segments answer.

An int8 head is surer or less sure than the network it was made from: thresholds of one
let other shares leave by the other, and a guarantee of one says nothing of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sc_jax.data.dataset import Dataset
from sc_jax.deploy.export import proof
from sc_jax.deploy.export.chain import edge_exits, local_exits
from sc_jax.deploy.export.proof import Exported
from sc_jax.errors import UsageError
from sc_jax.exits.policies import Policy, Threshold, from_json, to_json
from sc_jax.exits.solve.policy_spec import policy_from_text, usable
from sc_jax.exits.solve.thresholds import Solved
from sc_jax.nets.net import FINAL
from sc_jax.runs import run_folder
from sc_jax.tasks import TASKS
from sc_jax.traces import record
from sc_jax.traces.trace import Trace
from sc_jax.train.recipe import Recipe


class Carried(NamedTuple):
    """What a manifest says of exits, as `bundle.write` takes it.

    exits: those of the device, those of an edge before a cloud, and FINAL.
    """

    policy: Policy | None
    exits: tuple[str, ...]
    cost: tuple[float, ...]


def carried(
    recipe: Recipe,
    workdir: Path,
    spec: str = "",
    thresholds: Sequence[float] | None = None,
) -> Carried:
    """What is known before anything is converted: the policy of thresholds, or none.

    UsageError where the net cannot leave by the spec, whatever its exits will answer;
    a policy that ranks a batch has no meaning for one image.
    """
    net, onward = recipe.net, edge_exits(recipe.net)
    local = (*local_exits(net), *onward)
    if spec and thresholds is not None:
        raise UsageError("give --policy or --thresholds, not both")
    example = run_folder.example_of(recipe, workdir)
    every, classes, learned = record.outline(net, example, recipe.task)
    exits = (*local, FINAL)
    cost = tuple(float(every[net.exit_names.index(name)]) for name in exits)
    if local and (spec or thresholds) and recipe.task.name not in TASKS:
        raise UsageError(
            f"a device leaves by scores of the tasks {', '.join(TASKS)}, not of "
            f"{recipe.task.name!r}: export without --policy and --thresholds"
        )
    if thresholds is not None:
        _check(thresholds, local)
        policy = Threshold(tuple(map(float, thresholds))) if local else None
        return Carried(policy, exits, cost)
    if spec:
        if not local:
            raise UsageError(
                f"--policy={spec}: the head has no exits that could answer"
            )
        drawn = usable(spec, exits, classes, np.array(cost), learned)
        if drawn is not None:
            _check_policy(spec, drawn)
            if onward != local and onward and drawn.init() is not None:
                raise UsageError(
                    f"--policy={spec} remembers the exits before {onward[0]}, and no "
                    "frame carries that from device to edge: take a score of one exit"
                )
    return Carried(None, exits, cost)


def _check_policy(spec: str, policy: Policy) -> None:
    """UsageError where a device cannot leave by it."""
    if policy.ranks:
        raise UsageError(
            f"--policy={spec} ranks a batch, a device has one image: "
            "threshold:shares=... lets the same shares leave"
        )
    from_json(to_json(policy))  # refuses what a manifest cannot hold: code


def solved(spec: str, made: Exported, held: Dataset, leaving: Carried) -> Solved:
    """The policy of a spec, solved on the answers of exported segments and the tail."""
    return policy_from_text(spec, trace_of(made, held, leaving))


def trace_of(made: Exported, examples: Dataset, leaving: Carried) -> Trace:
    """What a bundle's exits answer to examples, as a trace of local exits and FINAL."""
    found, task = proof.answered(made, examples), made.recipe.task
    return Trace(
        answers=found.scored,
        labels=examples.labels,
        cost=np.array(leaving.cost),
        net=f"{made.recipe.name}, exported",
        exits=leaving.exits,
        split=examples.split,
        confidence=found.confidence,
        quality=np.stack([each[task.quality] for each in found.metrics.values()]),
        metric=task.quality,
    )


def _check(thresholds: Sequence[float], local: Sequence[str]) -> None:
    """UsageError where there is not one finite number for each exit of the head."""
    if len(thresholds) != len(local):
        raise UsageError(
            f"{len(thresholds)} thresholds for {len(local)} exits of the head: "
            f"{', '.join(local) or 'none'}"
        )
    if not np.isfinite(thresholds).all():
        raise UsageError(
            f"thresholds are numbers in 0..1, or 2 for never: {tuple(thresholds)}"
        )
