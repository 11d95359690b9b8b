"""The trade of accuracy, bytes and milliseconds between heads, read from measured runs.

Its input: benchmarks.methods.head_vs_baselines with --workdirs=SET/PAIR/SEED=FOLDER,...
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_page.heads import where
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports.plots import COLOURS

PICTURE = "trade.png"
TITLE = "What a cheaper head costs"


@dataclass(frozen=True)
class Point:
    """One pair on one set: means over its seeds. framed_bytes an image."""

    dataset: str
    pair: str
    seeds: int
    top1: float
    framed_bytes: float
    device_ms: float
    ratio: float  # device_ms over that of the set's first pair, seed by seed
    more_bytes: float  # share of bytes above the first pair's
    points: float  # of accuracy above the first pair's


def points(rows: Sequence[dict[str, Any]], dtype: str = "float32") -> list[Point]:
    """Heads of one number format; the set's first pair is what ratios are to."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        label = row["group"].split("/")
        if (
            row["deployment"] == "head + coder"
            and row["dtype"] == dtype
            and len(label) == 3
        ):
            found.setdefault(label[0], {}).setdefault(label[1], {})[label[2]] = row
    made = []
    for dataset, pairs in found.items():
        first = next(iter(pairs.values()))
        for pair, seeds in pairs.items():
            shared = [
                (first[seed], row) for seed, row in seeds.items() if seed in first
            ]
            if not shared:
                continue
            means = np.mean([_numbers(base, row) for base, row in shared], 0)
            made.append(Point(dataset, pair, len(shared), *map(float, means)))
    return made


def _numbers(base: dict[str, Any], row: dict[str, Any]) -> tuple[float, ...]:
    return (
        row["top1"],
        row["framed_bytes"],
        1e3 * row["device_s"],
        row["device_s"] / base["device_s"],
        row["framed_bytes"] / base["framed_bytes"] - 1,
        100 * (row["top1"] - base["top1"]),
    )


def draw(found: Sequence[Point], path: str | Path) -> None:
    """A panel a set: accuracy against bytes, area of a mark by milliseconds (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(p.dataset for p in found))
    pairs = list(dict.fromkeys(p.pair for p in found))
    figure = Figure(figsize=(4 * len(sets), 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(sets, start=1):
        axes = figure.add_subplot(1, len(sets), number)
        own = [p for p in found if p.dataset == name]
        slowest = max(p.device_ms for p in own)
        for i, p in enumerate(own):
            side = -1 if i % 2 else 1  # labels above and below in turn
            colour = COLOURS[pairs.index(p.pair) % len(COLOURS)]
            area = 900 * p.device_ms / slowest
            axes.scatter(p.framed_bytes, 100 * p.top1, area, colour, alpha=0.75)
            axes.annotate(
                f"{p.pair}\n{p.device_ms:.3g} ms", (p.framed_bytes, 100 * p.top1),
                (0, 18 * side), textcoords="offset points", ha="center",
                va="top" if side < 0 else "bottom", fontsize=9,
            )  # fmt: skip
        axes.set_xlim(_spread([p.framed_bytes for p in own], 0.1))
        axes.set_ylim(_spread([100 * p.top1 for p in own], 0.02))
        axes.set_title(name)
        axes.set_xlabel("framed bytes an image")
        axes.set_ylabel("top-1 %" if number == 1 else "")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path)


def _spread(values: Sequence[float], least: float) -> tuple[float, float]:
    """Limits around the values, at least this share of them wide: noise stays small."""
    middle = (min(values) + max(values)) / 2
    half = max((max(values) - min(values)), least * middle)
    return middle - half, middle + half


def trade(paths: Sequence[str], out: Path, old: str = "") -> list[str]:
    """The section of docs/results.md, and its picture under `out`.

    Sets that the files lack stay as they stand in `old`, the page so far.
    """
    reports = [json.loads(Path(path).read_text()) for path in paths]
    found, origins = [], {}
    for report in reports:
        own = points(report["rows"])
        found += own
        names = tuple(dict.fromkeys(p.dataset for p in own))
        origins[names] = f"{where(report)}.", report["command"].strip()
    if not found:
        raise UsageError("no heads of --workdirs=SET/PAIR/SEED=FOLDER in the files")
    new = {p.dataset for p in found}
    text = next((t for t in old.split("\n## ") if t.startswith(TITLE)), "")
    found = [p for p in _rows(text) if p.dataset not in new] + found
    before = {
        tuple(name for name in names if name not in new): at
        for names, at in _origins(text).items()
    }
    origins = {names: at for names, at in before.items() if names} | origins
    draw(found, out / PICTURE)
    lines = [
        f"| {p.dataset} | {p.pair} | {p.seeds} | {100 * p.top1:.2f} | "
        f"{p.points:+.2f} | {p.framed_bytes:,.1f} | {100 * p.more_bytes:+.1f} % | "
        f"{p.device_ms:.3f} | {p.ratio:.2f} |"
        for p in found
    ]
    told = []
    for names, (measured, command) in origins.items():
        told += [f"**{', '.join(names)}.** {measured}", "", f"    {command}", ""]
    return [
        f"## {TITLE}",
        "",
        "Trained students, float32 heads as exported, accuracy "
        "and bytes over the whole test split, times of one core. Ratios, differences "
        "are to the set's first pair, seed by seed, within one run.",
        "",
        *told,
        "| set | pair | seeds | top-1 % | points | framed bytes | more bytes |"
        " head + coder ms | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
        f"![accuracy, bytes and milliseconds of heads]({PICTURE})",
        "",
    ]


def _rows(text: str) -> list[Point]:
    """The table of `trade`, read back."""
    made = []
    for line in text.splitlines():
        cells = [cell.strip(" %").replace(",", "") for cell in line.split("|")[1:-1]]
        if len(cells) == 9 and cells[2].isdecimal():
            dataset, pair, seeds, top1, gain, framed, more, ms, ratio = cells
            numbers = float(top1) / 100, float(framed), float(ms), float(ratio)
            more = float(more) / 100
            made.append(Point(dataset, pair, int(seeds), *numbers, more, float(gain)))
    return made


def _origins(text: str) -> dict[tuple[str, ...], tuple[str, str]]:
    """Sets of a run -> (when and where it was measured, its command), read back."""
    found = re.findall(r"^\*\*(.+)\.\*\* (.+)\n\n    (.+)$", text, re.MULTILINE)
    return {tuple(names.split(", ")): (at, command) for names, at, command in found}
