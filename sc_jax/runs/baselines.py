"""What learned compression is held against: the teacher alone, and image files.

Measured once a teacher and data set, kept in the teacher's folder, and read by every
student of that teacher.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import PIL
import PIL.features

from sc_jax import foreign
from sc_jax.codec.image import ImageCodec
from sc_jax.compressors import Image
from sc_jax.compressors.splits import codecs_of
from sc_jax.data.sources import Dataset
from sc_jax.evaluate import rate
from sc_jax.evaluate.reports.report import Row, draft, plain, row_of
from sc_jax.nets.net import INPUT, cut_at
from sc_jax.nets.run import Variables
from sc_jax.runs import run_folder
from sc_jax.train import running
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe

CLASSICAL = (
    ("PNG", (None,)),
    ("JPEG", (5, 10, 20, 30, 50, 75, 90)),
    ("WEBP", (None, 0, 1, 5, 10, 20, 30, 50, 75, 90)),
    ("AVIF", (0, 10, 20, 30, 40, 50, 60, 75, 90)),
)
# Of the smaller side: below, an AVIF is nearly all container.
AVIF_FROM = 64
# Smaller files, enlarged by the server, by their share of a side; from a side on.
SMALLER, SMALLER_FROM = (0.7, 0.5), 128
SMALLER_FILES = (("JPEG", (20, 50, 75, 90)), ("WEBP", (10, 30, 50, 75, 90)))
LOCAL = ("teacher", "local-only")  # the same measurement, under the names of both cuts
_PROBED = 64


class _File(NamedTuple):
    """An image format at a quality; None is lossless. side: 0, or a smaller file's."""

    kind: str
    quality: int | None
    side: int = 0

    @property
    def method(self) -> str:
        name = f"edge-only {self.kind.replace('WEBP', 'WebP')}"
        # Lossy and lossless WebP are two methods: they share no curve.
        lossless = self.kind == "WEBP" and self.quality is None
        # And so are files of another size.
        name += f" {self.side} px" if self.side else ""
        return f"{name} lossless" if lossless else name

    @property
    def setting(self) -> str:
        return "lossless" if self.quality is None else f"q={self.quality}"

    @property
    def title(self) -> str:
        return f"{self.method} {self.setting}".replace("lossless lossless", "lossless")


def rows(
    recipe: Recipe,
    variables: Variables,
    test: Dataset,
    folder: Path | None = None,
    files: bool = True,
) -> list[Row]:
    """The whole net as teacher, local-only and, with `files`, edge-only with classical
    codecs.

    folder: of the finished run that `variables` are of; rows that it keeps are read,
    new ones kept one by one, so that an interrupted measurement goes on.
    """
    file, key = None, {}
    if folder is not None:
        key = _key(recipe, test, folder)
        file = folder / "baselines" / f"{test.split}-{_digest(key)}.json"
    kept = _read(file)
    wanted = [*LOCAL, *(file.title for file in (_files(test) if files else ()))]
    missing = [name for name in wanted if name not in kept]
    if missing:
        count = f"{len(missing)} of {len(wanted)}"
        LOGGER.info("measuring %s baselines on %d examples", count, len(test))
    else:
        LOGGER.info("%d baselines are read from %s", len(wanted), file)
    for name, row in _measured(recipe, variables, test, missing):
        kept[name] = row
        # After each: image codecs take minutes together, and a stop should lose one.
        if file is not None and jax.process_index() == 0:
            _write(file, key, kept)
    return [kept[name] for name in wanted]


def _files(test: Dataset) -> list[_File]:
    """Formats that can hold the examples: none unless they are images."""
    if test.example().dtype != np.uint8 or test.shape[2:] not in ((1,), (3,)):
        return []
    fits = min(test.shape[:2]) >= AVIF_FROM and PIL.features.check("avif")
    known = [each for each in CLASSICAL if fits or each[0] != "AVIF"]
    files = [_File(kind, q) for kind, qualities in known for q in qualities]
    least = min(test.shape[:2])
    sides = [round(share * least) for share in SMALLER if least >= SMALLER_FROM]
    return files + [
        _File(kind, q, side) for side in sides for kind, qs in SMALLER_FILES for q in qs
    ]


def floors(test: Dataset) -> dict[str, int]:
    """Bytes of the smallest file of one colour at the examples' size, by method.

    What a file takes before it says anything of an image: no quality is below it.
    """
    grey, least = np.full(test.shape, 128, np.uint8), {}
    for file in _files(test):
        codec = ImageCodec(file.kind, file.quality, test.shape, file.side)
        size = len(codec.encode(grey))
        least[file.method] = min(size, least.get(file.method, size))
    return least


def _measured(
    recipe: Recipe, variables: Variables, test: Dataset, names: list[str]
) -> Iterator[tuple[str, Row]]:
    """(name, row) of each of `names`, as soon as it is measured."""
    net, example = recipe.net, test.example()
    if any(name in names for name in LOCAL):
        local = rate.measure(net, variables, {}, test, task=recipe.task, title=LOCAL[0])
        for name in LOCAL:
            more = {"method": name, "family": "reference"}
            yield name, rate.row(local, net, variables, example, **more)
    left = [file for file in _files(test) if file.title in names]
    for number, file in enumerate(left, 1):
        if jax.process_count() == 1:  # of several each may find other rows kept
            running.heed(f"before image codec {number} of {len(left)}")
        LOGGER.info("image codec %d of %d: %s", number, len(left), file.title)
        cut = cut_at(net, INPUT, Image(file.kind, file.quality, file.side))
        # An image codec has no parameters, but every part has an entry.
        with_cut = Variables(*({**part, "split@input": {}} for part in variables))
        codecs = codecs_of(cut, with_cut, example)
        found = rate.measure(
            cut, with_cut, codecs, test, task=recipe.task, title=file.title
        )
        more = {"method": file.method, "setting": file.setting, "family": "classical"}
        yield file.title, rate.row(found, cut, with_cut, example, **more)


def _key(recipe: Recipe, test: Dataset, folder: Path) -> dict:
    """All that the rows depend on, but the code."""
    # The folder's own words: a student may describe its teacher with other knobs.
    saved = run_folder.read_json(folder / "recipe.json")["recipe"]
    probed = np.unique(np.linspace(0, len(test) - 1, _PROBED).astype(int))
    # The examples themselves: a folder's images may change under one name.
    seen = hashlib.sha256(np.ascontiguousarray(test.labels).tobytes())
    for i in probed.tolist():
        seen.update(np.ascontiguousarray(test.image(i)).tobytes())
    return {
        "teacher": _digest(saved),
        "step": run_folder.finished_step(recipe, folder),
        "task": recipe.task.name,
        "data": test.name,
        "split": test.split,
        "shape": [len(test), *test.shape],
        "examples": seen.hexdigest()[:12],
        # Rows of before a column was measured lack it.
        "columns": sorted(field.name for field in dataclasses.fields(Row)),
        # Another encoder writes other bytes, another backend other last bits.
        "pillow": PIL.__version__,
        "backend": jax.default_backend(),
    }


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:12]


def _read(file: Path | None) -> dict[str, Row]:
    """Rows by name; none where there is no whole file."""
    if file is None:
        return {}
    try:
        entries = foreign.read_json(file, "measured baseline")["rows"]
        return {name: row_of(entry) for name, entry in entries.items()}
    # A cache: what cannot be read is measured again, and no reason to stop.
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(file: Path, key: dict, kept: dict[str, Row]) -> None:
    """A folder that cannot be written costs a warning: the rows are measured again."""
    content = {name: dataclasses.asdict(row) for name, row in kept.items()}
    text = foreign.sealed({"key": key, "rows": content}, indent=1, default=plain)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft(file) as path:
            path.write_bytes(text)
    except OSError as error:
        LOGGER.warning("baselines are not kept: %s", error)
