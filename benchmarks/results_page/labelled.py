"""Section of the results page on training methods with labels, under one teacher."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.results_page import page
from benchmarks.results_page.photographs import command_of
from sc_jax.evaluate import bd_rate
from sc_jax.evaluate.reports import plots, report

PICTURE = "labelled.png"
COLUMNS = (
    *("method", "top-1 %", "against the teacher", "bytes (p95)"),
    *("Entropic Student there, top-1 %", "images seen", "hours"),
)


def methods(folders: Sequence[Path], teacher: Path, out: Path) -> list[str]:
    """Runs of launch.train under one teacher, and what the Entropic Student has of
    accuracy at the bytes of each, along its own curve of several rates.

    teacher: the folder that taught them, with a report of its own.
    """
    whole = report.read(teacher)[0]
    rows = {f: [r for r in report.read(f) if r.family == "learned"] for f in folders}
    every = [row for found in rows.values() for row in found]
    curve = [
        (plots.mean_bytes(row), row.quality)
        for row in every
        if row.method.startswith("Entropic Student")
    ]
    frontier = bd_rate.frontier(curve)
    plots.rate_accuracy([*every, whole], out / PICTURE, "Caltech-101 at 224 x 224")
    lines = []
    for folder, found in rows.items():
        facts = json.loads((folder / "report.json").read_text())["facts"]
        saved = json.loads((folder / "recipe.json").read_text())["recipe"]
        images = sum(facts["phases"].values()) * saved["data"]["batch_size"]
        for row in found:
            mean, tail = row.payload_bytes or (0.0, 0.0)
            ours = row.method.startswith("Entropic Student")
            at = None if ours else quality_at(frontier, mean)
            lines.append(
                (
                    f"{row.method}, {row.setting}",
                    f"{100 * row.quality:.1f}",
                    f"{100 * (row.quality - whole.quality):+.1f}",
                    f"{mean:,.0f} ({tail:,.0f})",
                    "" if at is None else f"{100 * at:.1f}",
                    f"{images:,}",
                    f"{(row.seconds or {}).get('training', float('nan')) / 3600:.2f}",
                )
            )
    facts = json.loads((folders[0] / "report.json").read_text())["facts"]
    error = (whole.quality * (1 - whole.quality) / whole.examples) ** 0.5
    body = [
        f"Teacher {100 * whole.quality:.1f} % of {whole.examples:,} test images (one "
        f"standard error {100 * error:.1f} points), one seed:",
        "",
        f"    {command_of(teacher)}",
        "",
        *page.rows(COLUMNS, lines),
        "",
        f"![top-1 against bytes]({PICTURE})",
    ]
    commands = "\n    ".join(map(command_of, folders))
    title = "Training methods with labels, Caltech-101 at 224 x 224"
    return page.section(title, f"{page.where(facts)}.", commands, body)


def quality_at(frontier: np.ndarray, size: float) -> float | None:
    """Quality that a frontier has at a number of bytes; None: out of its range."""
    if not frontier[0, 0] <= size <= frontier[-1, 0]:
        return None
    return float(np.interp(np.log(size), np.log(frontier[:, 0]), frontier[:, 1]))
