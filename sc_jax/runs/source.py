"""What built a run: a recipe by name, files of one's own, the facts of its data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax import plugins, recipes
from sc_jax.data import sources
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
        built = recipes.build(self.recipe, self.knobs)
        for assignment in self.overrides:
            built = override(built, assignment)
        for _ in range(self.teachers):
            assert built.teacher is not None
            built = built.teacher
        return built

    def teacher(self) -> Source:
        return replace(self, teachers=self.teachers + 1)

    @property
    def files(self) -> tuple[str, ...]:
        """Files outside the package that building reads: code, and a trace."""
        code = [t for t in (self.recipe, *self.knobs.values()) if isinstance(t, str)]
        found = [text.partition(":")[0] for text in code if plugins.is_file(text)]
        trace = self.knobs.get("trace")
        return (*found, trace) if isinstance(trace, str) and trace else tuple(found)

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
        return tuple(items) if any(a is not b for a, b in zip(items, node)) else node
    changed = {}
    for name in () if isinstance(node, Task) else field_names(node):
        value = getattr(node, name)
        if (new := renamed(value, files)) is not value:
            changed[name] = new
    return replace(node, **changed) if changed else node


def copy(source: Source, folder: Path) -> dict[str, str]:
    """Copies the source's files into `folder`: original -> name in it."""
    copies: dict[str, str] = {}
    for number, file in enumerate(dict.fromkeys(source.files)):
        # A folder each: names stay, since FILE.py alone means the function of its name.
        name = f"{PARTS}/{number}/{Path(file).name}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
        copies[file] = name
    return copies


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
        return common.Facts(*counts, self.mean, self.std, shape)


def data_facts(recipe: Recipe) -> DataFacts:
    """Read from the recipe's data set."""
    data = recipe.data
    dataset = sources.load(
        data.name, "train", data_dir=data.data_dir, image_size=data.image_size
    )
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
    """Of what `dataclasses.asdict` and JSON made of them; KeyError, TypeError."""
    tuples: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()
    }
    return DataFacts(**tuples)
