"""Sections of docs/results.md on early exits, from benchmarks.exit_methods."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sc_jax.evaluate.plots import COLOURS
from sc_jax.evaluate.report import human

QUARTERS = ("25 %", "50 %", "75 %", "100 %")
LOST, SHARE = 0.01, 0.7  # the bar of every recipe: a point, at this share of its cost
# (better, worse, at which shares of the whole cost): what the papers claim.
CLAIMS = (
    ("imta", "msdnet", QUARTERS),
    ("phuong", "msdnet", ("25 %", "50 %")),
    ("boostnet", "msdnet", ("75 %", "100 %")),
    ("l2w_den", "msdnet", ("75 %", "100 %")),
    ("ranet", "msdnet", ("25 %", "50 %")),
    ("zero_time_waste", "shallow_deep", ("25 %", "50 %")),
    ("jei_dnn", "zero_time_waste", ("50 %", "75 %")),
    ("eenet", "branchynet", ("50 %", "75 %")),
    ("dynexit", "eenet", ("50 %", "75 %")),
)


def by_recipe(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows of one recipe and setting together, a row a seed."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["recipe"], []).append(row)
    return found


def at(rows: list[dict], quarter: str) -> float | None:
    """Mean accuracy over seeds at a share of the whole cost; None: not to be had."""
    points = [p for row in rows if (p := row["quarters"][quarter]) is not None]
    if len(points) < len(rows):
        return None
    return float(np.mean([point["accuracy"] for point in points]))


def near_the_bar(row: dict) -> dict | None:
    """The largest budget of a row's curve that stays at 70 % of the cost, or None.

    Chosen by its cost alone: the accuracy on test has no say.
    """
    cheap = [
        p for p in row["budgeted"] if max(p["budget_share"], p["cost_share"]) <= SHARE
    ]
    return max(cheap, key=lambda point: point["budget_share"], default=None)


def _bar(seeds: list[dict]) -> str:
    """Whether that point loses at most a point, in all seeds together."""
    pairs = [(row, p) for row in seeds if (p := near_the_bar(row)) is not None]
    if len(pairs) < len(seeds):
        return "no budget so low"
    lost = np.mean([row["anytime"][-1]["accuracy"] - p["accuracy"] for row, p in pairs])
    cost = np.mean([point["cost_share"] for _, point in pairs])
    return f"{'yes' if lost <= LOST else 'no'}: {100 * lost:.2f} at {100 * cost:.0f} %"


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
        whole = np.mean([row["anytime"][-1]["accuracy"] for row in seeds])
        cells = [name, seeds[0]["backbone"], str(len(seeds)), f"{100 * whole:.2f}"]
        cells.append(human(seeds[0]["cost_macs"][-1]))
        cells += [_percent(at(seeds, quarter)) for quarter in QUARTERS]
        cells += [_way(seeds, "cheapest"), _way(seeds, "risk")]
        cells.append(_bar(seeds))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def claims(rows: list[dict]) -> list[str]:
    """The orderings that papers claim, confirmed or not."""
    known, lines = by_recipe(rows), []
    for better, worse, quarters in CLAIMS:
        if better not in known or worse not in known:
            continue
        gaps = []
        for quarter in quarters:
            a, b = at(known[better], quarter), at(known[worse], quarter)
            if a is not None and b is not None:
                gaps.append((100 * (a - b), quarter))
        if gaps:
            held = sum(gap >= 0 for gap, _ in gaps)
            said = ", ".join(f"{gap:+.2f} at {quarter}" for gap, quarter in gaps)
            verdict = {len(gaps): "holds", 0: "does not hold"}.get(held, "in part")
            lines.append(f"- {better} >= {worse}: {verdict} ({said}).")
    return lines


def resplits(rows: list[dict]) -> list[str]:
    """Risk control over re-splits: how often the bound broke, and what it saved."""
    lines = [
        "| recipe | seed | re-splits | calibration / held out | method | over 1 point "
        "lost | points lost, mean | 90th percentile | cost % |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        made = row.get("resplits", {})
        for method, found in made.get("methods", {}).items():
            halves = f"{made['calibration']} / {made['held_out']}"
            lost, worst = (100 * found[key] for key in ("lost_mean", "lost_p90"))
            lines.append(
                f"| {row['recipe']} | {row['seed']} | {made['times']} | {halves} | "
                f"{method} | {100 * found['violations']:.0f} % | {lost:.2f} | "
                f"{worst:.2f} | {100 * found['cost_share_mean']:.1f} |"
            )
    return lines


def draw(rows: list[dict], path: Path, title: str) -> None:
    """Accuracy against the share of the cost, a line a recipe (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, (name, seeds) in enumerate(by_recipe(rows).items()):
        points = [point for row in seeds[:1] for point in row["budgeted"]]
        axes.plot(
            [100 * point["cost_share"] for point in points],
            [100 * point["accuracy"] for point in points],
            color=COLOURS[i % len(COLOURS)],
            linestyle=["-", "--", ":"][i // len(COLOURS) % 3],
            label=name,
        )
    axes.set(title=title, xlabel="mean cost, % of the whole network with its exits")
    axes.set_ylabel("top-1 % (test)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path)


def section(file: str, out: Path) -> list[str]:
    """The page's section of one exit_methods.json, and its picture."""
    made = json.loads(Path(file).read_text())
    data = made["data"].split(":")[0]
    name = {"fashion_mnist_12k": "the embedded set", "folder": "CIFAR-10"}[data]
    picture = f"exits_{'embedded' if data != 'folder' else 'cifar10'}.png"
    rows, machine = made["rows"], made["machine"]
    draw(rows, out / picture, f"Early exits on {name}")
    words = ", ".join(f"{key} {value}" for key, value in machine.items())
    steps = sorted({sum(row["epochs"].values()) for row in rows})
    page = [
        f"## Early exits on {name}",
        "",
        f"{made.get('date', '')}; {words}; thresholds solved on validation, judged on "
        "test; no accelerator.",
        "",
        f"    {made['command']}",
        "",
        f"Steps a run, teachers left out: {steps[0]} to {steps[-1]}. Costs are mean "
        "MACs with all heads asked on the way, as shares of the whole network with its "
        "heads. The last column is the largest budget of the curve within 70 %.",
        "",
        *methods(rows),
        "",
        "What the papers claim, at these schedules:",
        "",
        *claims(rows),
        "",
        f"![accuracy against cost]({picture})",
        "",
    ]
    if any(row.get("resplits") for row in rows):
        page += [
            "Risk control: at most 1 point worse than the whole network with "
            "probability 0.9, over random halves of all recorded examples (validation "
            "and test pooled; nothing was trained on them):",
            "",
            *resplits(rows),
            "",
        ]
    return page


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"


def _way(seeds: list[dict], key: str) -> str:
    cost = np.mean([row[key]["cost_share"] for row in seeds])
    lost = np.mean(
        [row["anytime"][-1]["accuracy"] - row[key]["accuracy"] for row in seeds]
    )
    return f"{100 * cost:.1f} %, {100 * lost:.2f}"
