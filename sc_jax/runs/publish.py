"""A finished run as a file of the zoo, measured in the form that is shipped."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sc_jax import writing
from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import report
from sc_jax.evaluate.reports.report import Row
from sc_jax.nets.checkpoints import pretrained
from sc_jax.nets.run import Variables
from sc_jax.runs import loading, rate_runs, run_folder, unpack, zoo
from sc_jax.runs.zoo import Record, Teacher
from sc_jax.train.recipe import Recipe

PROBED = 10  # images whose bytes and answers the record keeps
# Knobs that say where files stand on one machine.
FILES = ("data", "test", "data_dir", "pretrained")


class Published(NamedTuple):
    """What was written, and what the same run was before it was rounded."""

    file: Path
    size: int
    rows: list[Row]  # of the file; the teacher's first
    before: list[Row]  # of the run, by its report; none where it has none


def publish(
    workdir: Path, file: Path, *, title: str, url: str, test: str | None = None
) -> Published:
    """Writes the parts that the run under `workdir` trained, with their record.

    title, url: of the teacher's checkpoint. test: what is measured, as a data set's
    name, by default what the run tests. UsageError, and no file, where the teacher is
    no public checkpoint as it is, or the file would be larger than 1 MB.
    """
    writing.check(file)
    recipe = run_folder.recipe_of(workdir)
    variables, codecs = run_folder.restore(recipe, workdir)
    teacher = _teacher(recipe, workdir)
    parts = _trained(teacher, workdir, variables)
    exact = {split.name for split in recipe.net.splits}
    own = Teacher(title, url, zoo.sha256(str(teacher.pretrained)))
    record = _record(workdir, parts, own)
    small = zoo.rounded(variables, parts, exact)
    tables = {split: codec.to_arrays() for split, codec in codecs.items()}
    examples = run_folder.dataset_of(recipe, "test", test)
    run_folder.check_same_classes(recipe, examples, workdir)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / file.name
        zoo.write(draft, record, small, tables)
        student = zoo.read(f"{zoo.PREFIX}{draft}")
        opened = Path(folder) / "run"
        shipped = unpack.unpack(student, opened, teacher.pretrained)
        rows = rate_runs.rows(shipped, opened, examples, baselines=True, files=False)
        # Local computing is the teacher's row under another name.
        rows = [row for row in rows if row.method != "local-only"]
        measured = [_measured(row, examples) for row in rows]
        probed = probe(opened, examples)
    record = dataclasses.replace(record, measured=measured, probe=probed)
    size = zoo.write(file, record, small, tables)
    return Published(file, size, rows, _before(recipe, workdir, examples))


def _before(recipe: Recipe, workdir: Path, examples: Dataset) -> list[Row]:
    """The run's own rows of the same examples, where its report has them."""
    if (workdir / "report.json").exists():
        rows = [row for row in report.read(workdir) if row.method == recipe.title]
        facts = run_folder.read_json(workdir / "report.json")["facts"]
        if facts["data"] == examples.name:
            return rows
    return []


def probe(folder: Path, examples: Dataset) -> dict[str, Any]:
    """Bytes and answers of a few images, by which another machine is compared."""
    chosen = np.unique(np.linspace(0, len(examples) - 1, PROBED).astype(int))
    loaded = loading.load(folder)
    images = np.stack([np.asarray(examples.image(i)) for i in chosen.tolist()])
    found = loading.answer(loaded, images)
    return {
        "data": bare(examples.name),
        "images": chosen.tolist(),
        "labels": examples.labels[chosen].tolist(),
        "predictions": found["prediction"].tolist(),
        "payload_bytes": found["payload_bytes"].tolist(),
    }


def bare(name: str) -> str:
    """A data set's name without the folders that its files stand in."""
    return re.sub(r"[^:,]*/", "", name)


def _teacher(recipe: Recipe, workdir: Path) -> Recipe:
    """UsageError where the teacher's weights are no public checkpoint's."""
    teacher = recipe.teacher
    if teacher is None or not teacher.pretrained or teacher.phases:
        raise UsageError(
            f"{workdir} has no public checkpoint for a teacher: publish a run with "
            "pretrained=FILE,teacher_epochs=0"
        )
    return teacher


def _trained(teacher: Recipe, workdir: Path, variables: Variables) -> list[str]:
    """Parts that are not the checkpoint's."""
    file = str(teacher.pretrained)
    like = run_folder.shapes_of(teacher, run_folder.teacher_of(workdir))
    theirs = pretrained.load(teacher.backbone, teacher.net, like, file)

    if not all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(theirs)):
        raise UsageError(
            f"{file} has other classes than {workdir}: its classifier "
            "would have to be published too"
        )
    both = variables, theirs

    def same(part: str) -> bool:
        if part not in theirs.params:
            return False
        own, other = (jax.tree.leaves((v.params[part], v.state[part])) for v in both)
        return len(own) == len(other) and all(map(np.array_equal, own, other))

    return [part for part in variables.params if not same(part)]


def _record(workdir: Path, parts: list[str], teacher: Teacher) -> Record:
    """Without what is measured of the file, which is not there yet."""
    source = run_folder.read_json(workdir / run_folder.FILE)["source"]
    knobs = {k: v for k, v in source["knobs"].items() if k not in FILES}
    facts = run_folder.facts_of(workdir)
    if facts is None:
        raise UsageError(f"{workdir} does not record the facts of its data")
    return Record(
        recipe=source["recipe"],
        knobs=knobs,
        overrides=list(source["overrides"]),
        parts=parts,
        teacher=teacher,
        data=dataclasses.replace(facts, name=bare(facts.name)),
        phases=trained_steps(workdir),
        images_seen=seen(workdir),
        measured=[],
        probe={},
    )


def trained_steps(workdir: str | Path) -> dict[str, int]:
    """Steps by phase of a run and of those that it began with."""
    if zoo.is_named(workdir):
        return dict(zoo.read(workdir).record.phases)
    saved = run_folder.read_json(Path(workdir) / run_folder.FILE)
    steps = trained_steps(saved["init"]["folder"]) if saved["init"] else {}
    for phase in saved["recipe"]["phases"]:
        steps[phase["name"]] = steps.get(phase["name"], 0) + phase["steps"]
    return steps


def seen(workdir: str | Path) -> int:
    """Images of all steps of a run and of those that it began with, repeats counted."""
    if zoo.is_named(workdir):
        return zoo.read(workdir).record.images_seen
    saved = run_folder.read_json(Path(workdir) / run_folder.FILE)
    recipe, begun = saved["recipe"], saved["init"]
    steps = sum(phase["steps"] for phase in recipe["phases"])
    own = steps * recipe["data"]["batch_size"]
    return own + (seen(begun["folder"]) if begun else 0)


def _measured(row: Row, examples: Dataset) -> dict[str, Any]:
    """What a record keeps of a report's row. payload_bytes: the mean, None of none."""
    payload = row.payload_bytes
    return {
        "method": row.method,
        "setting": row.setting,
        "metric": row.metric,
        "quality": row.quality,
        "payload_bytes": None if payload is None else payload[0],
        "examples": row.examples,
        "data": bare(examples.name),
    }
