"""The trade of accuracy, bytes and milliseconds between heads: a section a run.

Its input is methods.head_vs_baselines with --workdirs=SET/PAIR/SEED=FOLDER,...; its
picture is drawn from the tables of all such sections, whenever they were measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_page import page
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
    averaged = []
    for dataset, pairs in found.items():
        first = next(iter(pairs.values()))
        for pair, seeds in pairs.items():
            # Seeds that only one pair has would compare different runs.
            shared = [
                (first[seed], row) for seed, row in seeds.items() if seed in first
            ]
            if not shared:
                continue
            means = np.mean([_numbers(base, row) for base, row in shared], 0)
            averaged.append(Point(dataset, pair, len(shared), *map(float, means)))
    return averaged


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


def trade(path: str | Path) -> list[str]:
    """The section of one run of methods.head_vs_baselines over several pairs."""
    report = json.loads(Path(path).read_text())
    found = points(report["rows"])
    if not found:
        raise UsageError(f"{path} has no heads of --workdirs=SET/PAIR/SEED=FOLDER")
    columns = ["set", "pair", "seeds", "top-1 %", "points", "framed bytes"]
    columns += ["more bytes", "head + coder ms", "ratio"]
    cells = [
        [
            p.dataset,
            p.pair,
            p.seeds,
            f"{100 * p.top1:.2f}",
            f"{p.points:+.2f}",
            f"{p.framed_bytes:,.1f}",
            f"{100 * p.more_bytes:+.1f} %",
            f"{p.device_ms:.3f}",
            f"{p.ratio:.2f}",
        ]
        for p in found
    ]
    sets = ", ".join(dict.fromkeys(p.dataset for p in found))
    body = [
        "Trained students, float32 heads as exported, accuracy and bytes over the "
        "whole test split, times of one core. Ratios, differences are to the set's "
        "first pair, seed by seed, within one run.",
        "",
        *page.rows(columns, cells),
        "",
        f"![accuracy, bytes and milliseconds of heads]({PICTURE})",
    ]
    title = f"{TITLE}: {sets}"
    return page.section(title, f"{page.where(report)}.", report["command"], body)


def recorded(folder: Path = page.PARTS) -> list[Point]:
    """The points of all such sections of the page, as they are printed there."""
    found = []
    for part in page.parts_of(TITLE, folder):
        for row in page.table(part):
            point = Point(
                dataset=row["set"],
                pair=row["pair"],
                seeds=int(row["seeds"]),
                top1=_number(row, "top-1 %") / 100,
                framed_bytes=_number(row, "framed bytes"),
                device_ms=_number(row, "head + coder ms"),
                ratio=_number(row, "ratio"),
                more_bytes=_number(row, "more bytes") / 100,
                points=_number(row, "points"),
            )
            found.append(point)
    return found


def _number(row: dict[str, str], column: str) -> float:
    return float(row[column].strip(" %").replace(",", ""))
