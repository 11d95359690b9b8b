"""Runs that send bytes: measured beside image codecs, and reported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np

from sc_jax.compressors.freeze import freeze_all
from sc_jax.compressors.simple import Image
from sc_jax.data.sources import Dataset
from sc_jax.evaluate import rate
from sc_jax.evaluate.reports import report
from sc_jax.evaluate.reports.report import Row
from sc_jax.nets.net import INPUT, cut_at
from sc_jax.nets.run import Variables
from sc_jax.runs import run_folder
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe

CLASSICAL = (
    ("PNG", (None,)),
    ("JPEG", (5, 10, 20, 30, 50, 75, 90)),
    ("WEBP", (None, 1, 5, 10, 20, 30, 50, 75, 90)),
)


def student_row(recipe: Recipe, workdir: Path, test: Dataset) -> Row:
    """The recipe's own line: measured through the codec tables it saved."""
    variables, frozen = run_folder.restore(recipe, workdir)
    title = f"{recipe.title} {recipe.setting}".strip()
    measured = rate.measure(
        recipe.net, variables, frozen, test, task=recipe.task, title=title
    )
    if measured.disagreements:
        LOGGER.warning(
            "%d predictions from decoded bytes differ from the hard-quantised run",
            measured.disagreements,
        )
    family = "learned" if recipe.net.splits else "reference"
    example = np.zeros((1, *test.shape), np.uint8)
    return rate.row(
        measured,
        recipe.net,
        variables,
        example,
        method=recipe.title,
        setting=recipe.setting,
        family=family,
    )


def baselines(recipe: Recipe, variables: Variables, test: Dataset) -> list[Row]:
    """The whole net as teacher, local-only and edge-only with classical codecs."""
    net, example = recipe.net, np.zeros((1, *test.shape), np.uint8)
    LOGGER.info("measuring teacher and image codecs on %d images", len(test))
    measured = rate.measure(
        net, variables, {}, test, task=recipe.task, title="local-only"
    )
    rows = [
        rate.row(measured, net, variables, example, method=name, family="reference")
        for name in ("teacher", "local-only")
    ]
    for kind, qualities in CLASSICAL:
        for quality in qualities:
            cut = cut_at(net, INPUT, Image(kind, quality))
            with_cut = Variables(*({**part, "split@input": {}} for part in variables))
            frozen = freeze_all(cut, with_cut, example)
            setting = "lossless" if quality is None else f"q={quality}"
            label = f"edge-only {kind.replace('WEBP', 'WebP')}"
            if kind == "WEBP" and quality is None:
                label += " lossless"
            measured = rate.measure(
                cut, with_cut, frozen, test, title=f"{label} {setting}"
            )
            rows.append(
                rate.row(
                    measured,
                    cut,
                    with_cut,
                    example,
                    method=label,
                    setting=setting,
                    family="classical",
                )
            )
    return rows


def conclude(
    rows: Sequence[Row], recipe: Recipe, workdir: Path, test: Dataset, command: str
) -> None:
    """Writes the report's files and prints its table, in one process of all."""
    if jax.process_index() > 0:
        return
    facts = facts_of(recipe, test, command)
    report.write(rows, workdir, title=f"{recipe.title} on {test.name}", facts=facts)
    print(report.table(rows))


def facts_of(recipe: Recipe, test: Dataset, command: str) -> dict:
    """What it takes to repeat a measurement."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": recipe.seed,
        "data": test.name,
        "split": test.split,
        "phases": {phase.name: phase.steps for phase in recipe.phases},
        "machine": report.machine(),
    }
