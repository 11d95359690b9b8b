"""The picture of many recipes with exits: a small panel each, ordered by backbone.

It draws what the page's table says, so that it is drawn again without the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results_page import page
from sc_jax.evaluate.reports.plots import COLOURS

ACROSS = 5  # panels in a row
QUARTERS = (25, 50, 75, 100)


@dataclass(frozen=True)
class Curve:
    """One recipe: accuracy against mean cost, both in percent.

    cost: of the whole network with its exits, rising. whole: its last exit's accuracy.
    """

    recipe: str
    backbone: str
    cost: tuple[float, ...]
    accuracy: tuple[float, ...]
    whole: float


def of_part(text: str) -> list[Curve]:
    """From the table of the page: means over seeds at each quarter of the cost.

    Rows on data of their own are left out: their accuracies stand beside no other.
    """
    curves = []
    for row in page.table(text):
        if "data=" in row["recipe"]:
            continue
        known = [
            (share, float(row[f"at {share} %"].split()[0]))
            for share in QUARTERS
            if row[f"at {share} %"] != "–"
        ]
        cost, accuracy = zip(*known)
        whole = float(row["whole network top-1 %"].split()[0])
        curves.append(Curve(row["recipe"], row["backbone"], cost, accuracy, whole))
    return curves


def draw(curves: Sequence[Curve], path: str | Path, title: str) -> None:
    """Draws each recipe before the others of its backbone, in grey (PNG).

    A dashed line is the accuracy of the recipe's whole network. Panels of one backbone
    share their axis, so that its recipes compare by eye; no legend is needed.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    backbones = list(dict.fromkeys(curve.backbone for curve in curves))
    ordered = sorted(curves, key=lambda curve: backbones.index(curve.backbone))
    down = -(-len(ordered) // ACROSS)
    with matplotlib.rc_context({"font.size": 8, "axes.unicode_minus": False}):
        figure = Figure(figsize=(11, 0.5 + 1.9 * down), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(down, ACROSS, sharex=True, squeeze=False).ravel()
        for axes, curve in zip(panels, ordered):
            beside = [other for other in curves if other.backbone == curve.backbone]
            colour = COLOURS[backbones.index(curve.backbone) % len(COLOURS)]
            _panel(axes, curve, beside, colour)
        for axes in panels[len(ordered) :]:
            axes.set_visible(False)
        for axes in panels[max(0, len(ordered) - ACROSS) : len(ordered)]:
            axes.tick_params(labelbottom=True)  # the lowest of its column
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        figure.supxlabel(
            "mean cost, % of the whole network with its exits; dashed: that network"
        )
        figure.supylabel("top-1 % (test)")
        figure.savefig(path)


def _panel(axes, curve: Curve, beside: Sequence[Curve], colour: str) -> None:
    for other in beside:
        axes.plot(other.cost, other.accuracy, color="#cccccc", linewidth=0.8, zorder=1)
    axes.axhline(curve.whole, color=colour, linewidth=1, linestyle="--", zorder=2)
    axes.plot(
        curve.cost, curve.accuracy, color=colour, linewidth=1.8, marker="o",
        markersize=3, zorder=3,
    )  # fmt: skip
    values = [v for other in beside for v in (*other.accuracy, other.whole)]
    # Never closer than three points: within a panel noise must not look like a slope.
    middle, half = (max(values) + min(values)) / 2, (max(values) - min(values)) / 2
    half = max(half, 1.5) * 1.1
    axes.set_ylim(middle - half, middle + half)
    axes.set_xlim(0, 104)
    axes.set_xticks((0, *QUARTERS))
    name, _, knobs = curve.recipe.partition(":")
    axes.set_title(
        f"{name} · {curve.backbone}\n{_short(knobs)}", loc="left", fontsize=8
    )
    axes.grid(True, color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(knobs: str) -> str:
    """Knobs without the folders of their files, cut to a panel's width."""
    text = ",".join(
        f"{key}={value.rpartition('/')[2]}" if equals else key
        for key, equals, value in (knob.partition("=") for knob in knobs.split(","))
    )
    return text if len(text) <= 30 else text[:29] + "…"
