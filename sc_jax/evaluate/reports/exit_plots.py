"""The picture of a net with exits; matplotlib is imported only when it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sc_jax.evaluate.reports.plots import COLOURS

if TYPE_CHECKING:
    from sc_jax.evaluate.budgets import BudgetReport, Evaluated
    from sc_jax.evaluate.reports.exit_report import Row

_HATCHES = ("", "///", "...", "xxx")  # from the ninth exit on


def draw(found: BudgetReport, path: str | Path, title: str) -> None:
    """Accuracy against cost, and who leaves where at which budget (PNG)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10, "axes.unicode_minus": False}):
        figure = Figure(figsize=(12, 5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        _accuracy(left, found)
        _histogram(right, found)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        figure.savefig(path, dpi=150, format="png")


def compare(runs: Sequence[Mapping[str, Sequence[Row]]], path: str | Path) -> None:
    """Accuracy against MACs: a run's budgets as a line, its exits as squares (PNG)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods = [run["anytime"][0].method for run in runs]
    with matplotlib.rc_context({"font.size": 10, "axes.unicode_minus": False}):
        figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for i, (run, method) in enumerate(zip(runs, methods)):
            first, colour = run["anytime"][0], COLOURS[i % len(COLOURS)]
            alone = methods.count(method) == 1
            axes.plot(
                *_costs(run["budgeted"]), color=colour, linewidth=1.8,
                label=method if alone else f"{method}, {Path(first.run).name}",
            )  # fmt: skip
            axes.plot(
                *_costs(run["anytime"]), "s", color=colour, markeredgecolor="white",
                markersize=9,
            )  # fmt: skip
        axes.set_ylabel(f"top-1 accuracy, % ({runs[0]['anytime'][0].split})")
        _finish(axes, "MACs an example, mean (lines: budgets; squares: one exit)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        figure.savefig(path, dpi=150, format="png")


def _costs(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row.macs for row in rows], [100 * row.quality for row in rows]


def _accuracy(axes, found: BudgetReport) -> None:
    """Anytime, budgeted and oracle curves, and the policies that were solved."""
    budgets = [100 * (point.budget or 0.0) for point in found.curve]
    axes.plot(
        budgets, 100 * np.array(found.oracle), "--", color=COLOURS[7], linewidth=1.3,
        label="oracle (knows the labels)",
    )  # fmt: skip
    for points, colour, marker, label in (
        (found.curve, COLOURS[0], ".", f"budgeted ({found.score})"),
        (found.anytime, COLOURS[1], "s", "anytime (one exit for all)"),
    ):
        axes.plot(
            *_places(points), color=colour, marker=marker, markeredgecolor="white",
            markersize=9, linewidth=1.8, label=label,
        )  # fmt: skip
    marked = [
        (found.lowest_cost, "*", COLOURS[2]),
        (found.risk_controlled, "D", COLOURS[3]),
    ]
    marked += [(found.method_policy, "^", COLOURS[4])] if found.method_policy else []
    for point, marker, colour in marked:
        axes.plot(
            *_places([point]), marker, color=colour, markeredgecolor="black",
            markersize=10, label=point.name, zorder=4,
        )  # fmt: skip
    whole = 100 * found.anytime[-1].outcome.accuracy
    axes.axhline(whole, color="#555555", linewidth=1, zorder=1)
    axes.annotate(
        "whole network", (0.01, whole), xycoords=("axes fraction", "data"),
        xytext=(0, 3), textcoords="offset points", color="#555555", fontsize=8,
    )  # fmt: skip
    name = "top-1 accuracy" if found.metric == "accuracy" else f"mean {found.metric}"
    axes.set_ylabel(f"{name}, % ({found.split})")
    _finish(axes, "mean cost, % of the whole network with its exits")
    axes.legend(loc="lower right", fontsize=8)


def _histogram(axes, found: BudgetReport) -> None:
    """Stacked shares of the exits over the budgets."""
    budgets = np.array([100 * (point.budget or 0.0) for point in found.curve])
    shares = 100 * np.array([point.outcome.exit_shares for point in found.curve]).T
    width = 0.9 * np.diff(budgets).min() if len(budgets) > 1 else 5.0
    under = np.zeros(len(budgets))
    for e, (name, row) in enumerate(zip(found.exits, shares)):
        axes.bar(
            budgets, row, width, under, color=COLOURS[e % len(COLOURS)], label=name,
            hatch=_HATCHES[e // len(COLOURS) % len(_HATCHES)], edgecolor="white",
            linewidth=0.3,
        )  # fmt: skip
        under += row
    axes.set_ylim(0, 100)
    axes.set_ylabel(f"answered there, % ({found.split})")
    _finish(axes, "budget, % of the whole network with its exits")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)


def _places(points: list[Evaluated] | tuple[Evaluated, ...]) -> tuple[list, list]:
    costs = [100 * point.outcome.cost_share for point in points]
    return costs, [100 * point.outcome.accuracy for point in points]


def _finish(axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
