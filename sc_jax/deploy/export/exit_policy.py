"""The exit policy that a bundle carries: solved on the run's own validation split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sc_jax.deploy.bundle import NEVER
from sc_jax.errors import UsageError
from sc_jax.exits.policies import Policy, Threshold, from_json, to_json
from sc_jax.exits.solve.policy_spec import policy_from_text
from sc_jax.nets.net import head
from sc_jax.runs import exit_runs, run_folder
from sc_jax.tasks import TASKS
from sc_jax.traces import record
from sc_jax.train.recipe import Recipe


class Carried(NamedTuple):
    """What a manifest says of exits, as `bundle.write` takes it."""

    policy: Policy | None
    exits: tuple[str, ...]
    cost: tuple[float, ...]


def carried(
    recipe: Recipe,
    workdir: Path,
    spec: str = "",
    thresholds: Sequence[float] | None = None,
) -> Carried:
    """The policy of a spec or of one threshold for each exit of the head, or none.

    A spec is solved on the recorded validation split, which is recorded if it is not;
    a policy that ranks a batch has no meaning for one image: UsageError.
    """
    net = recipe.net
    before = head(net, net.splits[0].after) if net.splits else net
    local = [e.name for e in before.exits if e.after != net.names[-1]]
    if spec and thresholds is not None:
        raise UsageError("give --policy or --thresholds, not both")
    example = run_folder.example_of(recipe, workdir)
    costs = tuple(record.outline(net, example, recipe.task)[0].tolist())
    if local and (spec or thresholds) and recipe.task.name not in TASKS:
        raise UsageError(
            f"a device leaves by scores of the tasks {', '.join(TASKS)}, not of "
            f"{recipe.task.name!r}: export without --policy and --thresholds"
        )
    if thresholds is not None:
        _check(thresholds, local)
        later = (NEVER,) * (len(net.exit_names) - 1 - len(local))
        policy = Threshold((*map(float, thresholds), *later)) if local else None
        return Carried(policy, net.exit_names, costs)
    if not spec:
        return Carried(None, net.exit_names, costs)
    if not local:
        raise UsageError(f"--policy={spec}: the head has no exits that could answer")
    held = run_folder.dataset_of(recipe, "validation")
    trace = exit_runs.recorded(recipe, workdir, held).trace
    policy = policy_from_text(spec, trace).policy
    if policy.ranks:
        raise UsageError(
            f"--policy={spec} ranks a batch, a device has one image: "
            "threshold:shares=... lets the same shares leave"
        )
    policy = from_json(to_json(policy))  # refused here what no device can read
    return Carried(policy, net.exit_names, tuple(trace.cost.tolist()))


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
