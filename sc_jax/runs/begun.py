"""A run goes on by the facts of its data as they were when it was begun.

One file more or less gives another mean, other steps and so another recipe. What a
folder has recorded stays, and that the data set is another one now is said.
"""

from __future__ import annotations

from pathlib import Path

from sc_jax import notices
from sc_jax.data import pipeline
from sc_jax.data.pipeline import Data
from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError
from sc_jax.recipes import common
from sc_jax.runs import run_folder
from sc_jax.runs.source import Source
from sc_jax.train.recipe import Recipe


def build(source: Source, *folders: Path) -> Recipe:
    """The recipe of `source`, by what the first of `folders` recorded of its data."""
    for folder in folders:
        known = _recorded(folder)
        if known is None:
            continue
        try:
            with common.known(known):
                built = source.build()
        except UsageError:  # by facts of other data than it now is to have
            continue
        own = facts(built.data, folder)
        if own is None:
            continue
        if own == known:
            return built
        with common.known(own):
            return source.build()
    return source.build()


def facts(data: Data, *folders: Path) -> common.Facts | None:
    """Of `data`, as the first of `folders` has recorded them; None where none has.

    Photographs without labels are seen as their teacher's images were: its mean and
    deviation, if it has the classes of what is tested.
    """
    for folder in folders:
        known = _recorded(folder)
        if known is not None and _is_of(folder, data):
            return known
        if known is not None and pipeline.is_unlabelled(data):
            own = common.facts(data)
            if own.names == known.names and len(own.mean) == len(known.mean):
                return own._replace(mean=known.mean, std=known.std)
    return None


def report_change(recipe: Recipe, now: Dataset) -> None:
    """A line where the training split has more or fewer examples than was recorded.

    UsageError where it has other classes, or examples of another shape. Labels are
    positions in the names of classes: of other names they are other labels.
    """
    then, name = common.facts(recipe.data), now.name
    if (len(now.classes), now.shape) != (then.classes, tuple(then.shape)):
        raise UsageError(
            f"{name} has {len(now.classes)} classes of {list(now.shape)} now, and had "
            f"{then.classes} of {list(then.shape)} when this run was begun: give "
            "another --workdir"
        )
    for new, old in zip(now.classes, then.names):
        if new != old:
            raise UsageError(
                f"{name} has the class {new!r} now where {old!r} was when this run was "
                "begun: give another --workdir, or the class its old name"
            )
    if len(now) != then.examples:
        notices.once(changed(name, len(now), then.examples))


def changed(name: str, now: int, then: int) -> str:
    return (
        f"{name} has {now} training examples now, and had {then} when the run was "
        "begun: mean, deviation and steps stay as recorded; files that came or went "
        "draw train and validation anew, those left out by --skip_damaged do not"
    )


def _recorded(folder: Path) -> common.Facts | None:
    if not (folder / run_folder.FILE).exists():
        return None
    known = run_folder.facts_of(folder)
    return None if known is None else known.known


def _is_of(folder: Path, data: Data) -> bool:
    """Whether the run in `folder` read the same set in the same size."""
    try:
        saved = run_folder.read_json(folder / run_folder.FILE)["recipe"]["data"]
        read = (saved["name"], saved["image_size"], saved.get("test"))
        return read == (data.name, data.image_size, data.test)
    except (KeyError, TypeError):
        return False
