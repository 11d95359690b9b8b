"""Sections of docs/results.md on early exits, from benchmarks.exit_methods."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sc_jax.evaluate.plots import COLOURS
from sc_jax.evaluate.report import human

QUARTERS = ("25 %", "50 %", "75 %", "100 %")
TITLES = {"fashion_mnist_12k": "the embedded set", "folder": "CIFAR-10"}
OVER = ("pooled", "held_out")
LOST, SHARE = 0.01, 0.7  # the bar: a point, at this share of the cost without exits
# (better, worse, at which quarters of the worse one's cost): what the papers claim.
CLAIMS = (
    ("imta", "msdnet", QUARTERS),
    ("phuong", "msdnet", ("25 %", "50 %")),
    ("boostnet", "msdnet", ("75 %", "100 %")),
    ("l2w_den", "msdnet", ("75 %", "100 %")),
    ("ranet", "msdnet", ("25 %", "50 %")),
    ("zero_time_waste", "shallow_deep:frozen=True,epochs=4.0", ("25 %", "50 %")),
)
SCORES = {
    "branchynet": "entropy",
    "ddnn": "normalised entropy",
    "pomponi": "confidence",
}
SCORES |= {"jei_dnn": "gate", "eenet": "scheduler"}


def by_recipe(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows of one recipe as it was asked for together, a row a seed."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["asked"], []).append(row)
    return found


def at(rows: list[dict], quarter: str) -> float | None:
    """Mean accuracy over seeds at a share of the whole cost; None: not to be had."""
    points = [p for row in rows if (p := row["quarters"][quarter]) is not None]
    if len(points) < len(rows):
        return None
    return float(np.mean([point["accuracy"] for point in points]))


def at_macs(row: dict, macs: float) -> float | None:
    """Accuracy at a mean cost, between the points of the budgeted curve."""
    points = sorted((p["mean_cost_macs"], p["accuracy"]) for p in row["budgeted"])
    costs, accuracies = zip(*points)
    if macs < costs[0]:
        return None
    return float(np.interp(macs, costs, accuracies))


def noise(rows: list[dict], other: list[dict]) -> float:
    """Standard error of the difference of two mean accuracies, tests unpaired."""
    accuracies = [row["anytime"][-1]["accuracy"] for row in (*rows, *other)]
    examples = rows[0]["anytime"][-1]["examples"] * min(len(rows), len(other))
    spread = float(np.mean(accuracies)) * (1 - float(np.mean(accuracies)))
    return (2 * spread / examples) ** 0.5


def verdict(gaps: list[float], error: float) -> str:
    """What the gaps say, in accuracy; within a standard error they say nothing."""
    if min(gaps) > error:
        return "holds"
    if max(gaps) < -error:
        return "does not hold"
    return "within noise" if max(map(abs, gaps)) <= error else "in part"


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
    """Whether that point loses at most a point, in all seeds together."""
    pairs = [(row, p) for row in seeds if (p := near_the_bar(row)) is not None]
    if len(pairs) < len(seeds):
        return "no budget so low"
    lost = np.mean([row["anytime"][-1]["accuracy"] - p["accuracy"] for row, p in pairs])
    cost = np.mean([p["cost_share"] / row["without_exits_share"] for row, p in pairs])
    met = "yes" if lost <= LOST + 1e-9 else "no"
    return f"{met}: {100 * lost:.2f} at {100 * cost:.0f} %"


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
    """The orderings that papers claim, at equal MACs, confirmed or not."""
    known, lines = by_recipe(rows), []
    for better, worse, quarters in CLAIMS:
        if better not in known or worse not in known:
            continue
        gaps = {}
        for quarter in quarters:
            share = float(quarter.split()[0]) / 100
            found = []
            for a, b in zip(known[better], known[worse]):
                macs = share * b["cost_macs"][-1]
                mine, theirs = at_macs(a, macs), at_macs(b, macs)
                if mine is not None and theirs is not None:
                    found.append(mine - theirs)
            if found:
                gaps[quarter] = float(np.mean(found))
        lines += _said(f"{better} >= {worse}", gaps, noise(known[better], known[worse]))
    return lines


def score_claims(rows: list[dict]) -> list[str]:
    """Learnt scores against the largest probability, on the same recorded answers."""
    lines = []
    for name, score in SCORES.items():
        seeds = by_recipe(rows).get(name, [])
        gaps = {}
        for i, quarter in enumerate(QUARTERS[:3]):
            pairs = [(r["quarters"][quarter], r["max_probability"][i]) for r in seeds]
            found = [a["accuracy"] - b["accuracy"] for a, b in pairs if a and b]
            if found:
                gaps[quarter] = float(np.mean(found))
        if gaps:
            title = f"{name}: its {score} >= the largest probability"
            lines += _said(title, gaps, noise(seeds, seeds))
    return lines


def _said(title: str, gaps: dict[str, float], error: float) -> list[str]:
    if not gaps:
        return []
    each = ", ".join(f"{100 * gap:+.2f} at {quarter}" for quarter, gap in gaps.items())
    made = verdict(list(gaps.values()), error)
    return [f"- {title}: {made} ({each}; standard error {100 * error:.2f})."]


def resplits(rows: list[dict]) -> list[str]:
    """Risk control over re-splits: how often the bound broke, and what it saved."""
    lines = [
        "| recipe | seed | re-splits | recorded for calibration / held out | method | "
        "over 1 point lost, all examples | held-out half | points lost there, mean | "
        "90th percentile | cost % |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        made = row.get("resplits", {})
        for method, found in made.get("methods", {}).items():
            halves = f"{made['calibration']} / {made['held_out']}"
            lost, worst = (100 * found[key] for key in ("lost_mean", "lost_p90"))
            over = [f"{100 * found[f'{key}_over']:.0f} %" for key in OVER]
            lines.append(
                f"| {row['asked']} | {row['seed']} | {made['times']} | {halves} | "
                f"{method} | {over[0]} | {over[1]} | {lost:.2f} | {worst:.2f} | "
                f"{100 * found['cost_share_mean']:.1f} |"
            )
    return lines


def draw(rows: list[dict], path: Path, title: str) -> None:
    """Accuracy against the share of the cost, a line a recipe, first seed (PNG)."""
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
    kind = made["data"].split(":")[0]
    name, picture = TITLES.get(kind, made["data"]), f"exits_{kind}.png"
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
        f"Steps a run, teachers left out: {steps[0]} to {steps[-1]}. Costs are mean "
        "MACs with all heads asked on the way, as shares of the whole network with its "
        "heads; whole is that network's last exit. The last column is the largest "
        "budget of the curve within 70 % of the network without early exits.",
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
            "them). The promise is of the risk over all inputs; a held-out half adds "
            "its own noise, and the re-splits share one network:",
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
