"""Where a run stands: its newest whole checkpoint, the same in all processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from sc_jax.errors import Damaged, Unread, UsageError
from sc_jax.nets.run import Variables
from sc_jax.train import devices
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import continues, difference
from sc_jax.train.step import TrainState, begin, divide


def _meta(checkpoints: Checkpoints, saved: int, recipe: Recipe) -> dict:
    """What was saved beside the arrays; UsageError if by another recipe."""
    meta = checkpoints.meta(saved)
    differs = difference(meta["recipe"], recipe)
    # More steps of the last phase are the same run, gone on with.
    if differs is not None and not continues(meta["recipe"], recipe):
        raise UsageError(
            f"{checkpoints.folder}/{saved} is of another recipe ({differs}); give "
            "another folder"
        )
    return meta


class Point(NamedTuple):
    """Where a run stands: a step that was saved, what was saved beside it, and what of.

    arrays: variables at the end of a run that is over; else, in the midst of a phase or
    at the end of a run that is to go on, (the state of training, frozen parameters).
    """

    saved: int
    meta: dict
    arrays: Any


def newest(
    checkpoints: Checkpoints, recipe: Recipe, mesh, variables: Variables
) -> Point | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Damaged ones that are newer are set aside, with a line each. Damaged where none is
    whole: to begin anew is for the user to say. Of several processes the first says
    which are damaged; none is taken that another cannot read.
    """
    damaged: dict[int, Damaged] = {}
    for step in _steps(checkpoints):
        found: Point | UsageError
        try:
            meta = _meta(checkpoints, step, recipe)
            found = Point(
                step, meta, _arrays(checkpoints, step, meta, recipe, mesh, variables)
            )
        except UsageError as error:
            found = error
        if not _agreed(found, checkpoints, step):
            damaged[step] = found if isinstance(found, Damaged) else Damaged(
                f"{checkpoints.folder}/{step} is not whole for the first process"
            )  # fmt: skip
            continue
        assert isinstance(found, Point)
        for newer, error in damaged.items():
            line = str(error).partition("; ")[0]
            place = checkpoints.set_aside(newer)
            LOGGER.warning("%s; moved to %s, on from step %d", line, place, step)
        return found
    if damaged:
        error = next(iter(damaged.values()))
        raise Damaged(
            f"{str(error).partition('; ')[0]}, and none before it is whole; give "
            "another --workdir, or delete the folder's checkpoints to begin anew"
        ) from error
    return None


def _steps(checkpoints: Checkpoints) -> list[int]:
    """Newest first: those that the first process sees."""
    mine = checkpoints.steps()
    counts = devices.gathered(len(mine))
    # As long in every process, to be gathered; a step is at least 0.
    padded = np.pad(np.asarray(mine, int), (0, counts.max() - len(mine)))
    return devices.gathered(padded)[0][: counts[0]].tolist()


_WHOLE, _DAMAGED, _OTHER = range(3)  # what a process found of a checkpoint


def _agreed(found: Point | UsageError, checkpoints: Checkpoints, step: int) -> bool:
    """Whether all read the step; False: the first process found it damaged.

    Raises in every process what one of them cannot go on with.
    """
    mine = _WHOLE
    if isinstance(found, UsageError):
        mine = _DAMAGED if isinstance(found, Damaged) else _OTHER
    verdicts = devices.gathered(mine)
    if (verdicts == _WHOLE).all():
        return True
    if verdicts[0] == _DAMAGED and not (verdicts == _OTHER).any():
        return False
    if isinstance(found, UsageError):
        raise found
    raise Unread(
        f"{checkpoints.folder}/{step} could not be read by another process, whose own "
        "line says why; nothing was set aside"
    )


def _arrays(
    checkpoints: Checkpoints, step: int, meta: dict, recipe: Recipe, mesh, like
) -> Any:
    """`Point.arrays` of a step. like: variables of the recipe's net."""
    index = meta["phase"]
    if index < len(recipe.phases):
        return checkpoints.arrays(step, start_of(recipe, mesh, index, like))
    variables = Variables(*checkpoints.arrays(step, like))
    if step == recipe.steps:
        return variables
    # A finished run that is now longer: the last phase as it stood at its end.
    current, cold = start_of(recipe, mesh, index - 1, variables)
    kept = checkpoints.optimiser(step, current.optimiser)
    return current._replace(optimiser=kept), cold


def start_of(
    recipe: Recipe, mesh: jax.sharding.Mesh, index: int, variables: Variables
) -> tuple[TrainState, dict]:
    """(what a phase changes, its frozen parameters), on the devices."""
    phase = recipe.phases[index]
    current = begin(recipe, phase, variables)
    # Copies: a step donates `current`, whose leaves may be the teacher's own arrays.
    current = devices.copied(current)
    cold = divide(recipe, phase, variables)[1]
    return devices.replicate((current, cold), mesh)
