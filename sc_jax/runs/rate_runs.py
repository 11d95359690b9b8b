"""Runs that send bytes: measured, and reported beside their baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from sc_jax.codec import codecs
from sc_jax.compressors import splits
from sc_jax.data import pipeline, sources
from sc_jax.data.pipeline import Data
from sc_jax.data.sources import Dataset
from sc_jax.evaluate import rate
from sc_jax.evaluate.reports import report
from sc_jax.evaluate.reports.report import Row
from sc_jax.runs import agreement, run_folder
from sc_jax.runs import baselines as baseline_rows
from sc_jax.runs.training_cost import training_s
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe


def rows(
    recipe: Recipe,
    workdir: Path,
    test: Dataset,
    *,
    baselines: bool,
    files: bool = True,
    beside: bool = False,
) -> list[Row]:
    """A finished run's rows: its own and, before it, of the whole net and image files.

    baselines: whether the latter are there; files: whether image files are among them.
    The whole net is its teacher's, of the folder that taught it, or the run's own: then
    it has no second row, unless it stands `beside` other runs of its recipe.
    Images without labels are measured by how many answers are the whole net's.
    """
    if not test.labelled:
        labelled = agreement.labelled(recipe, workdir, test)
        found = rows(
            recipe, workdir, labelled, baselines=baselines, files=files, beside=beside
        )
        return [agreement.renamed(row) for row in found]
    whole, folder = recipe.teacher or recipe, workdir
    baselines = baselines and not whole.net.splits
    is_whole = recipe.teacher is None and not recipe.net.splits
    own: list[Row] = []
    # First: a folder that cannot be read shows before minutes of baselines.
    if beside or not (is_whole and baselines):
        own += student_rows(recipe, workdir, test)
    if not baselines:
        return own
    if recipe.teacher is not None:
        folder = run_folder.teacher_of(workdir)
        known = run_folder.facts_of(workdir)
        run_folder.check_answers(recipe.teacher, folder, known)
    variables, _ = run_folder.restore(whole, folder)
    return [*baseline_rows.rows(whole, variables, test, folder, files), *own]


def student_rows(recipe: Recipe, workdir: Path, test: Dataset) -> list[Row]:
    """The recipe's own lines: one, or of a net of several rates one a level."""
    count = splits.levels_of(recipe.net)
    if count == 1:
        return [student_row(recipe, workdir, test)]
    return [student_row(recipe, workdir, test, level) for level in range(count)]


def student_row(
    recipe: Recipe, workdir: Path, test: Dataset, level: int | None = None
) -> Row:
    """The recipe's line at a level of its rate: measured through the saved tables.

    level: None is the net's own; others have ", level=..." in their setting.
    """
    variables, tables = run_folder.restore(recipe, workdir)
    if level is not None:
        net, setting = splits.at_level(recipe.net, level), level_of(recipe, level)
        recipe = replace(recipe, net=net, setting=setting)
        tables = {name: codecs.at_level(each, level) for name, each in tables.items()}
    title = f"{recipe.title} {recipe.setting}".strip()
    measured = rate.measure(
        recipe.net, variables, tables, test, task=recipe.task, title=title
    )
    # Reported, not raised: the measurement stands, and says what it is worth.
    if measured.disagreements:
        LOGGER.warning(
            "%d replies from decoded bytes differ from the hard-quantised run",
            measured.disagreements,
        )
    if recipe.net.splits and not measured.payload_bytes.any():
        LOGGER.warning("%s: %s", title, report.COLLAPSED)
    family = "learned" if recipe.net.splits else "reference"
    row = rate.row(
        measured,
        recipe.net,
        variables,
        test.example(),
        method=recipe.title,
        setting=recipe.setting,
        family=family,
    )
    spent = training_s(recipe, workdir)
    # Training cost: measured seconds, of that machine and its own phases alone.
    return row if spent is None else replace(row, seconds={"training": spent})


_LEVEL = ", level="


def level_of(recipe: Recipe, level: int) -> str:
    """The setting of a row at one level of the rate."""
    return f"{recipe.setting}{_LEVEL}{level}"


def without_level(setting: str) -> str:
    """`level_of` undone; a setting without a level as it is."""
    return setting.partition(_LEVEL)[0]


def settings(recipe: Recipe) -> list[str]:
    """Of the rows that a run of the recipe reports as its own."""
    count = splits.levels_of(recipe.net)
    if count == 1:
        return [recipe.setting]
    return [level_of(recipe, level) for level in range(count)]


def conclude(
    rows: Sequence[Row],
    recipe: Recipe,
    workdir: Path,
    test: Dataset,
    command: str,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report's files and prints its table, in one process of all.

    more: facts beside those of `recipe`, or in their place.
    """
    # All measured, one writes.
    if jax.process_index() > 0:
        return
    facts = facts_of(recipe, test, command) | _floors(rows, test) | dict(more or {})
    report.write(rows, workdir, title=f"{recipe.title} on {test.name}", facts=facts)
    print(report.table(rows))


def trained_on(data: Data) -> dict[str, str]:
    """The training set, where that is not the one which is tested."""
    if data.test is None:
        return {}
    held = f"{sources.HELD_OUT_SHARE:.0%} of it held out for validation"
    labels = "without labels, " if pipeline.is_unlabelled(data) else ""
    return {"trained on": f"{data.name} ({labels}{held})"}


def _floors(rows: Sequence[Row], test: Dataset) -> dict:
    """What a file of one colour takes, of each format that the rows have."""
    formats = {row.method for row in rows if row.family == "classical"}
    known = baseline_rows.floors(test) if formats else {}
    found = {method: size for method, size in known.items() if method in formats}
    return {"bytes of a file of one colour": found} if found else {}


def facts_of(recipe: Recipe, test: Dataset, command: str) -> dict:
    """What it takes to repeat a measurement."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": recipe.seed,
        "data": test.name,
        "split": test.split,
        **trained_on(recipe.data),
        "phases": {phase.name: phase.steps for phase in recipe.phases},
        "machine": report.machine(),
    }
