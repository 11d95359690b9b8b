"""Sections of docs/results.md on early exits, from benchmarks.methods.early_exits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.results_page.exit_claims import (
    QUARTERS,
    at,
    by_recipe,
    claims,
    points,
    score_claims,
    spread,
)
from sc_jax.evaluate.reports.plots import COLOURS
from sc_jax.evaluate.reports.report import human

TITLES = {"fashion_mnist_12k": "the embedded set", "folder": "CIFAR-10"}
PICTURES = {"folder": "cifar10"}
OVER = ("held_out", "pooled")
LOST, SHARE = 0.01, 0.7  # the bar: a point, at this share of the cost without exits


def near_the_bar(row: dict) -> dict | None:
    """The largest budget of a row's curve within 70 % of the network without exits.

    Chosen by its cost alone: the accuracy on test has no say.
    """
    most = SHARE * row["without_exits_share"]
    cheap = [
        p for p in row["budgeted"] if max(p["budget_share"], p["cost_share"]) <= most
    ]
    return max(cheap, key=lambda point: point["budget_share"], default=None)


def _bar(seeds: list[dict]) -> str:
    """Whether that point loses at most a point: the mean of all seeds, the worst."""
    pairs = [(row, p) for row in seeds if (p := near_the_bar(row)) is not None]
    if len(pairs) < len(seeds):
        return "no budget so low"
    lost = [row["anytime"][-1]["accuracy"] - p["accuracy"] for row, p in pairs]
    cost = np.mean([p["cost_share"] / row["without_exits_share"] for row, p in pairs])
    met = "yes" if np.mean(lost) <= LOST + 1e-9 else "no"
    worst = f" (worst {points(max(lost)):.2f})" if len(lost) > 1 else ""
    return f"{met}: {points(float(np.mean(lost))):.2f}{worst} at {100 * cost:.0f} %"


def methods(rows: list[dict]) -> list[str]:
    """One line a recipe: accuracy at shares of cost, and what a point less costs."""
    lines = [
        "| recipe | backbone | seeds | whole network top-1 % | its MACs | "
        + " | ".join(f"at {q}" for q in QUARTERS)
        + " | at most 1 point lost on validation: cost, points lost | risk control, 1 "
        "point: cost, points lost | at most 1 point lost at 70 %? |",
        "|---|---|---:|---:|---:|" + "---:|" * 4 + "---|---|---|",
    ]
    for name, seeds in by_recipe(rows).items():
        whole = [row["anytime"][-1]["accuracy"] for row in seeds]
        cells = [name, seeds[0]["backbone"], str(len(seeds)), _percent(whole)]
        cells.append(human(seeds[0]["cost_macs"][-1]))
        cells += [_percent(at(seeds, quarter)) for quarter in QUARTERS]
        cells += [_way(seeds, "cheapest"), _way(seeds, "risk")]
        cells.append(_bar(seeds))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def resplits(rows: list[dict]) -> list[str]:
    """Risk control over re-splits: how often the bound broke, and what it saved."""
    lines = [
        "| recipe | seeds | re-splits of each | recorded for calibration / held out | "
        "method | over 1 point lost, held-out half | all examples | points lost on the "
        "held-out half, mean | 90th percentile | cost % |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, seeds in by_recipe(rows).items():
        every = [row["resplits"] for row in seeds if row.get("resplits")]
        for method in every[0]["methods"] if every else ():
            found = [made["methods"][method] for made in every]
            over = [[f[f"{key}_over"] for f in found] for key in OVER]
            lost, p90, cost = (
                float(np.mean([f[key] for f in found]))
                for key in ("lost_mean", "lost_p90", "cost_share_mean")
            )
            lines.append(
                f"| {name} | {len(found)} | {every[0]['times']} | "
                f"{every[0]['calibration']} / {every[0]['held_out']} | {method} | "
                f"{_range(over[0])} | {_range(over[1])} | {points(lost):.2f} | "
                f"{points(p90):.2f} | {100 * cost:.1f} |"
            )
    return lines


def draw(rows: list[dict], path: Path, title: str) -> None:
    """Accuracy against cost, first seeds, without rows on data of their own (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = [row for row in rows if "data=" not in row["asked"]]
    for i, (name, seeds) in enumerate(by_recipe(rows).items()):
        curve = [point for row in seeds[:1] for point in row["budgeted"]]
        axes.plot(
            [100 * point["cost_share"] for point in curve],
            [100 * point["accuracy"] for point in curve],
            color=COLOURS[i % len(COLOURS)],
            linestyle=["-", "--", ":"][i // len(COLOURS) % 3],
            label=name,
        )
    axes.set(title=title, xlabel="mean cost, % of the whole network with its exits")
    axes.set_ylabel("top-1 % (test)")
    top = max(100 * point["accuracy"] for row in rows for point in row["budgeted"])
    axes.set_ylim(top - 16, top + 1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path)


def section(file: str, out: Path) -> list[str]:
    """The page's section of one exit_methods.json, and its picture."""
    made = json.loads(Path(file).read_text())
    kind = made["data"].split(":")[0]
    name = TITLES.get(kind, made["data"])
    picture = f"exits_{PICTURES.get(kind, kind)}.png"
    rows, machine = made["rows"], made["machine"]
    draw(rows, out / picture, f"Early exits on {name}")
    words = ", ".join(f"{key} {value}" for key, value in machine.items())
    steps = sorted({sum(row["epochs"].values()) for row in rows})
    page = [
        f"## Early exits on {name}",
        "",
        f"{made.get('date', '')}; {words}; thresholds solved on validation, judged on "
        "test.",
        "",
        f"    {made['command']}",
        "",
        "That is the last of several calls into one file; the first column is what "
        "each row was asked for.",
        "",
        f"Steps a run, teachers left out: {steps[0]} to {steps[-1]}. Costs are mean "
        "MACs with all heads asked on the way, as shares of the whole network with its "
        "heads; whole is that network's last exit. The last column is the largest "
        "budget of the curve within 70 % of the network without early exits. Means "
        "over seeds, ± their standard deviation where there are several.",
        "",
        *methods(rows),
        "",
        "What the papers claim, at equal MACs (quarters of the second one's cost) and "
        "these schedules:",
        "",
        *claims(rows),
        "",
        "Scores of the methods' own, on the same recorded answers:",
        "",
        *score_claims(rows),
        "",
        f"![accuracy against cost]({picture})",
        "",
    ]
    if any(row.get("resplits") for row in rows):
        page += [
            "Risk control: at most 1 point worse than the whole network with "
            "probability 0.9, by the largest probability, over random halves of all "
            "recorded examples (validation and test pooled; nothing was trained on "
            "them). The held-out half adds its own noise to the risk over all inputs, "
            "which is what is promised; all examples include the half that calibrated, "
            "so that column flatters. The re-splits of a seed share one network; means "
            "over seeds, and how often the bound broke as the least and the most:",
            "",
            *resplits(rows),
            "",
        ]
    return page


def _percent(shares: list[float]) -> str:
    """Mean and, of several, their standard deviation; a dash of none."""
    if not shares:
        return "–"
    apart = f" ± {100 * spread(shares):.2f}" if len(shares) > 1 else ""
    return f"{100 * np.mean(shares):.2f}{apart}"


def _range(shares: list[float]) -> str:
    least, most = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return f"{least} %" if least == most else f"{least}–{most} %"


def _way(seeds: list[dict], key: str) -> str:
    cost = np.mean([row[key]["cost_share"] for row in seeds])
    lost = np.mean(
        [row["anytime"][-1]["accuracy"] - row[key]["accuracy"] for row in seeds]
    )
    return f"{100 * cost:.1f} %, {points(float(lost)):.2f}"
