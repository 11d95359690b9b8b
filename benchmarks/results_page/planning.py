"""The section of speed.planning: what each planner takes by the number of stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results_page import page
from sc_jax.evaluate.reports.plots import COLOURS

PICTURE = "planning.png"
BAR_MS = 50.0


def planning(path: str | Path, out: Path) -> list[str]:
    """The section, and its picture in `out`."""
    report = json.loads(Path(path).read_text())
    ms = times(report)
    counts = sorted({row["stages"] for row in report["rows"]})
    cells = [[name, *(f"{own[n]:.1f}" for n in counts)] for name, own in ms.items()]
    draw(ms, out / PICTURE)
    facts = (
        f"{page.where(report)}; CPU milliseconds of one thread, medians of "
        f"{report['runs']} rounds in turns, beside other work; drawn profiles, two "
        f"cuts a stage, three exits, {report['inputs']} recorded inputs for spinn and "
        "joint, whose time grows with them too."
    )
    body = [
        f"![milliseconds of a plan by the number of stages]({PICTURE})",
        "",
        *page.rows(["ms at stages", *counts], cells),
    ]
    return page.section("What a plan takes", facts, report["command"], body)


def times(report: dict[str, Any]) -> dict[str, dict[int, float]]:
    """Milliseconds by planner and number of stages, in the report's order."""
    found: dict[str, dict[int, float]] = {}
    for row in report["rows"]:
        found.setdefault(row["planner"], {})[row["stages"]] = row["ms"]
    return found


def draw(ms: dict[str, dict[int, float]], path: str | Path) -> None:
    """A line a planner, both axes logarithmic; dashed: 50 ms (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    # From the slowest at the end: the legend reads as the lines do.
    ordered = sorted(ms.items(), key=lambda item: -item[1][max(item[1])])
    for i, (name, own) in enumerate(ordered):
        style = "-" if i < len(COLOURS) else "--"
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(list(own), list(own.values()), style, marker="o", markersize=3.5,
                  color=colour, label=name)  # fmt: skip
    axes.axhline(BAR_MS, color="#8C8C8C", linewidth=0.8, linestyle=":")
    counts = sorted({n for own in ms.values() for n in own})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xlabel("stages of the network")
    axes.set_ylabel("CPU milliseconds of one plan")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    figure.savefig(path)
