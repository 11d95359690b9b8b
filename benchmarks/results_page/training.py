"""Sections of the results page on trained runs: the default's, and methods compared."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.results_page import page
from sc_jax.evaluate import bd_rate
from sc_jax.evaluate.reports import plots, report
from sc_jax.evaluate.reports.report import Row

WITHIN = 0.01  # of the teacher's accuracy: the bar for a classical codec
# The survey's order (Matsubara et al. 2022, https://arxiv.org/abs/2103.04505).
ORDER = ("Entropic Student", "GHND", "HND", "Knowledge distillation", "Cross-entropy")
CPU_ONLY = """\
No accelerator was at hand: the teacher is the small `cnn`, not a ResNet, and the
schedules are the short ones of the command, batches of 64."""

EMBEDDED = "fashion_mnist_12k"  # its sections are named after no set


def embedded(folders: list[Path], out: Path) -> list[str]:
    """The first command over seeds, the first of them in full; its picture in `out`."""
    facts = facts_of(folders[0])
    shutil.copy(folders[0] / "rate_accuracy.png", out / "embedded.png")
    body = [
        *over_seeds(folders),
        "",
        f"Seed {facts['seed']} in full:",
        "",
        *in_full(report.read(folders[0])),
        "",
        "![accuracy against bytes](embedded.png)",
    ]
    title = "The first command, on the embedded set"
    return page.section(title, measured(facts), facts["command"], body)


def methods(workdir: Path, out: Path) -> list[str]:
    """benchmarks.methods.training, a section a seed; the first seed's picture."""
    lines: list[str] = []
    folders = sorted(workdir.glob("seed=*"))
    for folder in folders:
        rows, facts = report.read(folder), facts_of(folder)
        title = f"Training methods on CIFAR-10, {folder.name}"
        body = [CPU_ONLY, "", *claims(rows), "", *in_full(rows)]
        lines += page.section(title, measured(facts), facts["command"], body)
    plots.rate_accuracy(
        report.read(folders[0]), out / "results.png", "Training methods on CIFAR-10"
    )
    return [*lines, "![accuracy against bytes](results.png)", ""]


def rates(folders: list[Path]) -> list[str]:
    """One network at several rates beside networks of one each, on the same teacher.

    folders: of a launch.train run with rates=N, and of a sweep over beta.
    """
    several, single = (report.read(folder) for folder in folders)
    facts, other = map(facts_of, folders)
    shared, own = (
        [(plots.mean_bytes(row), row.quality) for row in rows if row.payload_bytes]
        for rows in (several, single)
    )
    body = [
        f"    {other['command']}",
        "",
        *in_full([*several, *single]),
        "",
        *_bytes_of_one_network(own, shared),
        f"One seed; an accuracy's standard error is {_error(several[-1]):.1f} points.",
        *(f"Stopped before its end: {n}." for n in other.get("not finished", ())),
    ]
    title = "One network at several rates, and networks of one"
    if facts["data"] != EMBEDDED:
        title += f" ({page.anonymous(facts['data']).rpartition('/')[2]})"
    return page.section(title, measured(facts), facts["command"], body)


def _error(row: Row) -> float:
    return 100 * float(np.sqrt(row.quality * (1 - row.quality) / row.examples))


def _bytes_of_one_network(own: bd_rate.Curve, shared: bd_rate.Curve) -> list[str]:
    if reason := bd_rate.undefined(own, shared):
        return [f"No BD-rate: {reason}."]
    more, reach = bd_rate.bd_rate(own, shared), bd_rate.overlap(own, shared)
    if reach < bd_rate.LEAST_OVERLAP:
        return [f"No BD-rate: the others reach {reach:.0%} of its accuracies."]
    return [
        f"At equal accuracy the one network needs {more:+.1f} % bytes against the "
        f"others (BD-rate over {reach:.0%} of its accuracies)."
    ]


def facts_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())["facts"]


def measured(facts: dict) -> str:
    return f"{page.where(facts)}; split: {facts['split']}."


def in_full(rows: list[Row]) -> list[str]:
    return ["```", *report.table(rows).splitlines(), "```"]


def over_seeds(folders: list[Path]) -> list[str]:
    """Accuracy and bytes of each seed, beside the best image codec."""
    names = ["seed", "teacher top-1 %", "best image codec within 1 point", "its bytes"]
    names += ["Entropic Student top-1 %", "points below teacher", "bytes mean (p95)"]
    names += ["share of codec's bytes", "estimated bytes"]
    lines, columns = page.rows(names, []), []
    for folder in folders:
        rows = report.read(folder)
        teacher, student = rows[0], rows[-1]
        codec = best_classical(rows)
        mean, tail = student.payload_bytes or (0.0, 0.0)
        drop, share = teacher.quality - student.quality, mean / plots.mean_bytes(codec)
        columns.append((teacher.quality, student.quality, drop, mean, share))
        lines.append(
            f"| {facts_of(folder)['seed']} | {100 * teacher.quality:.2f} "
            f"| {codec.method} {codec.setting} | {plots.mean_bytes(codec):.1f} "
            f"| {100 * student.quality:.2f} "
            f"| {100 * drop:.2f} | {mean:.1f} ({tail:.0f}) | {100 * share:.1f} % | "
            f"{(student.estimated_bits or 0) / 8:.1f} |"
        )
    t, s, d, b, r = np.mean(columns, 0)
    lines.append(
        f"| mean | {100 * t:.2f} | | | {100 * s:.2f} | {100 * d:.2f} | {b:.1f} | "
        f"{100 * r:.1f} % | |"
    )
    return lines


def best_classical(rows: list[Row]) -> Row:
    """The smallest image file that stays within a point of the teacher."""
    teacher = next(r for r in rows if r.method == "teacher")
    close = [
        r
        for r in rows
        if r.family == "classical" and r.quality >= teacher.quality - WITHIN
    ]
    return min(close, key=plots.mean_bytes)


def claims(rows: list[Row]) -> list[str]:
    """The survey's ordering, read at the bytes of the quantised methods."""
    quantised = [r for r in rows if r.family == "learned" and "bit" in r.setting]
    students = sorted(
        (r for r in rows if r.method == "Entropic Student"), key=plots.mean_bytes
    )
    size = plots.mean_bytes(quantised[0])
    points = {r.method: 100 * r.quality for r in quantised}
    where = [plots.mean_bytes(r) for r in students]
    # Bytes differ by factors: accuracy between two sizes is straighter over their log.
    if where[0] <= size:
        curve = np.interp(
            np.log(size), np.log(where), [100 * r.quality for r in students]
        )
        points["Entropic Student"] = float(curve)
    ranked = sorted(points, key=lambda name: -points[name])
    order = " > ".join(f"{name} {points[name]:.2f}" for name in ranked)
    held = [
        f"{a} >= {b}: {'holds' if points[a] >= points[b] else 'does not hold'}"
        for a, b in pairwise(ORDER)
        if a in points and b in points
    ]
    return [
        f"At {size:.0f} bytes (Entropic Student by interpolation on log bytes between "
        f"its betas, or at its largest size if that is below), top-1 %: {order}.",
        "",
        "The survey's order at equal steps: " + "; ".join(held) + ".",
    ]
