"""What built a run: a recipe by name, files of one's own, the facts of its data."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax import plugins, recipes
from sc_jax.data import pipeline
from sc_jax.recipes import common
from sc_jax.tasks import Task
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import field_names, override

PARTS = "parts"  # in a run's folder: copies of the files that built it


@dataclass(frozen=True)
class Source:
    """A recipe as a command names it: enough to build it again.

    recipe: its name, or FILE.py[:function]. overrides: "path=value" each. teachers: 1
    is the teacher of that recipe, 2 its teacher's teacher.
    """

    recipe: str
    knobs: dict[str, Any]
    overrides: tuple[str, ...] = ()
    teachers: int = 0

    def build(self) -> Recipe:
        built = recipes.build(self.recipe, self.moved(self._spellings()).knobs)
        for assignment in self.overrides:
            built = override(built, assignment)
        # Overrides first: they are of the whole recipe, its teacher's fields too.
        for _ in range(self.teachers):
            assert built.teacher is not None
            built = built.teacher
        return built

    def teacher(self) -> Source:
        return replace(self, teachers=self.teachers + 1)

    @property
    def files(self) -> tuple[str, ...]:
        """Files outside the package that building reads: code, and a trace.

        As they are written, those of knobs first: a recipe's texts hold these.
        """
        code = [t for t in (*self.knobs.values(), self.recipe) if isinstance(t, str)]
        found = [text.partition(":")[0] for text in code if plugins.is_file(text)]
        trace = self.knobs.get("trace")
        return (*found, trace) if isinstance(trace, str) and trace else tuple(found)

    def _spellings(self) -> dict[str, str]:
        """Each of `files` -> the first name of the same file (relative, absolute)."""
        first: dict[Path, str] = {}
        return {file: first.setdefault(_place(file), file) for file in self.files}

    def moved(self, files: Mapping[str, str]) -> Source:
        """The same with the files' names replaced."""

        def new(text: Any) -> Any:
            if not isinstance(text, str):
                return text
            path, colon, name = text.partition(":")
            return files.get(path, path) + colon + name

        knobs = {name: new(value) for name, value in self.knobs.items()}
        return replace(self, recipe=new(self.recipe), knobs=knobs)


def renamed(node: Any, files: Mapping[str, str]) -> Any:
    """A recipe or a part of one with files' names replaced in all of its texts."""
    if isinstance(node, str):
        for old, new in files.items():
            node = node.replace(old, new)
        return node
    if isinstance(node, tuple):
        items = [renamed(item, files) for item in node]
        # The same object where nothing changed: what holds it is then not copied.
        return tuple(items) if any(a is not b for a, b in zip(items, node)) else node
    changed = {}
    for name in () if isinstance(node, Task) else field_names(node):
        value = getattr(node, name)
        if (new := renamed(value, files)) is not value:
            changed[name] = new
    return replace(node, **changed) if changed else node


def copy(source: Source, folder: Path, before: Mapping[str, str]) -> dict[str, str]:
    """Copies the source's files into `folder`: original -> name in it.

    A file under two names is copied once: two copies would be two modules, whose
    classes are not the same. before: copies of an earlier claim, which are written
    anew; what else stands in `folder` is somebody's own. All copies or none.
    """
    copies: dict[Path, str] = {}
    made: list[str] = []
    try:
        for file in source.files:
            place = _place(file)
            if place in copies:
                continue
            name = before.get(file, "")
            # As `copy` itself names them: a stranger's record could point anywhere.
            if not re.fullmatch(rf"{PARTS}/\d+/{re.escape(place.name)}", name):
                made.append(name := _free(folder, place.name))
            copies[place] = name
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    except BaseException:
        remove(made, folder)
        raise
    return {file: copies[_place(file)] for file in source.files}


def _free(folder: Path, name: str) -> str:
    """A name for a copy. A folder each: FILE.py alone means the function of its name,
    so names stay; and never one that is there.
    """
    number = 0
    while os.path.lexists(folder / PARTS / str(number)):
        number += 1
    return f"{PARTS}/{number}/{name}"


def remove(names: Iterable[str], folder: Path) -> None:
    """Removes copies that `copy` made, and the folders that they leave empty."""
    for name in names:
        file = folder / name
        with suppress(OSError):  # what holds something of somebody's stays
            file.unlink(missing_ok=True)
            file.parent.rmdir()
    with suppress(OSError):
        (folder / PARTS).rmdir()


def _place(file: str) -> Path:
    """Where a file is, by whichever name."""
    return Path(file).resolve()


@dataclass(frozen=True)
class DataFacts:
    """What a run must know of its data once that is gone: the training split's.

    classes: names in the order of predictions. shape, dtype: of one input. target_shape
    and target_dtype: of what losses compare to. mean, std: a channel, of values scaled
    to 0..1.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    target_shape: tuple[int, ...]
    target_dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    examples: int

    @property
    def example(self) -> np.ndarray:
        """Zeros [1, ...] of what the net reads."""
        return np.zeros((1, *self.shape), self.dtype)

    @property
    def target(self) -> np.ndarray:
        """Zeros [1, ...] of what losses compare to."""
        return np.zeros((1, *self.target_shape), self.target_dtype)

    @property
    def known(self) -> common.Facts:
        """What recipes read of their data."""
        shape: Any = self.shape
        counts = len(self.classes), self.examples
        return common.Facts(*counts, self.mean, self.std, shape, self.classes)


def data_facts(recipe: Recipe) -> DataFacts:
    """Read from the recipe's data set."""
    data = recipe.data
    dataset = pipeline.opened(data, "train")
    example, target = dataset.example(), dataset.target()
    known = common.facts(data)
    return DataFacts(
        data.name,
        recipe.task.name,
        tuple(dataset.classes),
        example.shape[1:],
        example.dtype.name,
        target.shape[1:],
        target.dtype.name,
        known.mean,
        known.std,
        known.examples,
    )


def facts_from_json(saved: Mapping[str, Any]) -> DataFacts:
    """From the JSON of their `dataclasses.asdict`; KeyError, TypeError."""
    tuples: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()
    }
    return DataFacts(**tuples)
