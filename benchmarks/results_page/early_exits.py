"""Parts of the results page on early exits, from methods.early_exits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.results_page import exit_picture, page
from benchmarks.results_page.exit_claims import (
    QUARTERS,
    at,
    by_recipe,
    claims,
    points,
    score_claims,
    spread,
)
from sc_jax.evaluate.reports.report import human

TITLES = {"fashion_mnist_12k": "the embedded set", "folder": "CIFAR-10"}
PICTURES = {"folder": "cifar10"}
OVER = ("held_out", "pooled")
RISK = (
    "At most 1 point worse than the whole network with probability 0.9, by the largest "
    "probability, over random halves of all recorded examples (validation and test "
    "pooled; nothing was trained on them). The held-out half adds its own noise to the "
    "risk over all inputs, which is what is promised; all examples include the half "
    "that calibrated, so that column flatters. The re-splits of a seed share one "
    "network; means over seeds, and how often the bound broke as the least and the "
    "most:"
)
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
    # The slack is for the float: a loss of exactly one point meets the bar.
    met = "yes" if np.mean(lost) <= LOST + 1e-9 else "no"
    worst = f" (worst {points(max(lost)):.2f})" if len(lost) > 1 else ""
    return f"{met}: {points(float(np.mean(lost))):.2f}{worst} at {100 * cost:.0f} %"


def methods(rows: list[dict]) -> list[str]:
    """One line a recipe: accuracy at shares of cost, and what a point less costs."""
    columns = ["recipe", "backbone", "seeds", "whole network top-1 %", "its MACs"]
    columns += [f"at {quarter}" for quarter in QUARTERS]
    columns += ["at most 1 point lost on validation: cost, points lost"]
    columns += ["risk control, 1 point: cost, points lost"]
    columns += ["at most 1 point lost at 70 %?"]
    lines = []
    for name, seeds in by_recipe(rows).items():
        whole = [row["anytime"][-1]["accuracy"] for row in seeds]
        cells = [name, seeds[0]["backbone"], str(len(seeds)), _percent(whole)]
        cells.append(human(seeds[0]["cost_macs"][-1]))
        cells += [_percent(at(seeds, quarter)) for quarter in QUARTERS]
        cells += [_cost(seeds, "cheapest"), _cost(seeds, "risk")]
        lines.append([*cells, _bar(seeds)])
    return page.rows(columns, lines)


def resplits(rows: list[dict]) -> list[str]:
    """Risk control over re-splits: how often the bound broke, and what it saved."""
    columns = ["recipe", "seeds", "re-splits of each"]
    columns += ["recorded for calibration / held out", "method"]
    columns += ["over 1 point lost, held-out half", "all examples"]
    columns += ["points lost on the held-out half, mean", "90th percentile", "cost %"]
    lines = []
    for name, seeds in by_recipe(rows).items():
        every = [row["resplits"] for row in seeds if row.get("resplits")]
        for method in every[0]["methods"] if every else ():
            found = [one["methods"][method] for one in every]
            over = [[f[f"{key}_over"] for f in found] for key in OVER]
            lost, p90, cost = (
                float(np.mean([f[key] for f in found]))
                for key in ("lost_mean", "lost_p90", "cost_share_mean")
            )
            counts = f"{every[0]['calibration']} / {every[0]['held_out']}"
            cells = [name, len(found), every[0]["times"], counts, method]
            cells += [_range(shares) for shares in over]
            cells += [f"{points(lost):.2f}", f"{points(p90):.2f}", f"{100 * cost:.1f}"]
            lines.append(cells)
    return page.rows(columns, lines)


def sections(file: str) -> list[str]:
    """The page's parts of one exit_methods.json; `draw` makes their picture."""
    report = json.loads(Path(file).read_text())
    kind = report["data"].split(":")[0]
    name = TITLES.get(kind) or str(report["data"])
    rows = report["rows"]
    name += backbone_of(rows)
    facts = f"{page.where(report)}; thresholds solved on validation, evaluated on test."
    body = [*_costs(rows), "", f"![accuracy against cost]({picture(name)})"]
    lines = page.section(heading(name), facts, report["command"], body)
    if claims(rows) or score_claims(rows):
        lines += [f"## {heading(name)}: what the papers claim", "", *_claims(rows), ""]
    if any(row.get("resplits") for row in rows):
        lines += [f"## {heading(name)}: risk control", "", RISK, "", *resplits(rows)]
    return [*lines, ""]


def heading(name: str) -> str:
    return f"Early exits on {name}"


def backbone_of(rows: list[dict]) -> str:
    """ ", resnet20": what a title adds where all rows are of one larger network."""
    names = {row["backbone"] for row in rows}
    return f", {names.pop()}" if len(names) == 1 and "cnn" not in names else ""


def picture(name: str) -> str:
    """The file of a heading's picture: "CIFAR-10, resnet20" -> exits_..._resnet20."""
    data, _, backbone = name.partition(", ")
    kind = next((kind for kind, title in TITLES.items() if title == data), data)
    words = "exits", PICTURES.get(kind, kind), backbone
    return "_".join(filter(None, words)) + ".png"


def draw(out: Path, folder: Path = page.PARTS) -> None:
    """The pictures of all such parts, from their tables."""
    start = heading("")
    for part in page.parts_of(start, folder):
        name = page.title(part).removeprefix(start)
        # What claims and risk control add to a title follows a colon.
        if ":" not in name and name.partition(", ")[0] in TITLES.values():
            curves = exit_picture.of_part(part)
            exit_picture.draw(curves, out / picture(name), heading(name))


def _costs(rows: list[dict]) -> list[str]:
    steps = sorted({sum(row["epochs"].values()) for row in rows})
    return [
        "That is the last of several calls into one file; the first column is the "
        "recipe with its knobs.",
        "",
        f"Steps a run, teachers left out: {steps[0]} to {steps[-1]}. Costs are mean "
        "MACs with every exit classifier up to the exit taken, as shares of the whole "
        "network with its exits; whole is that network's last exit. The last column is "
        "the largest budget of the curve within 70 % of the network without early "
        "exits. Means over seeds, ± their standard deviation where there are several. "
        "The picture shows the table, without rows on data of their own.",
        "",
        *methods(rows),
    ]


def _claims(rows: list[dict]) -> list[str]:
    return [
        "At equal MACs (quarters of the second one's cost) and these schedules:",
        "",
        *claims(rows),
        "",
        "Scores of the methods' own, on the same recorded answers:",
        "",
        *score_claims(rows),
    ]


def _percent(shares: list[float]) -> str:
    """Mean and, of several, their standard deviation; a dash of none."""
    if not shares:
        return "–"
    apart = f" ± {100 * spread(shares):.2f}" if len(shares) > 1 else ""
    return f"{100 * np.mean(shares):.2f}{apart}"


def _range(shares: list[float]) -> str:
    least, most = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return f"{least} %" if least == most else f"{least}–{most} %"


def _cost(seeds: list[dict], key: str) -> str:
    cost = np.mean([row[key]["cost_share"] for row in seeds])
    lost = np.mean(
        [row["anytime"][-1]["accuracy"] - row[key]["accuracy"] for row in seeds]
    )
    return f"{100 * cost:.1f} %, {points(float(lost)):.2f}"
