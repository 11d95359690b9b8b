"""Runs that send bytes: measured, and reported beside their baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

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
        own.append(student_row(recipe, workdir, test))
    if not baselines:
        return own
    if recipe.teacher is not None:
        folder = run_folder.teacher_of(workdir)
        known = run_folder.facts_of(workdir)
        run_folder.check_answers(recipe.teacher, folder, known)
    variables, _ = run_folder.restore(whole, folder)
    return [*baseline_rows.rows(whole, variables, test, folder, files), *own]


def student_row(recipe: Recipe, workdir: Path, test: Dataset) -> Row:
    """The recipe's own line: measured through the codec tables it saved."""
    variables, codecs = run_folder.restore(recipe, workdir)
    title = f"{recipe.title} {recipe.setting}".strip()
    measured = rate.measure(
        recipe.net, variables, codecs, test, task=recipe.task, title=title
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
