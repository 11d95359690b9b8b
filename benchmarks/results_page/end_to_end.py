"""The section of benchmarks.serving.end_to_end: predicted, measured, who wins where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_page import page
from sc_jax.evaluate.reports.plots import COLOURS

LOCAL = "local"  # of serving.strategies, which loads jax
MS = ("device_s", "predicted_s", "p50_s", "mean_s", "p95_s")
WITHIN = 0.1  # of the best measured strategy
Cell = tuple[str, float]  # link, how much slower the device is


def cells(rows: Sequence[dict[str, Any]]) -> dict[Cell, list[dict[str, Any]]]:
    """Measured rows by cell, in their order."""
    found: dict[Cell, list[dict[str, Any]]] = {}
    for row in rows:
        if "p50_s" in row:
            found.setdefault((row["link"], row["factor"]), []).append(row)
    return found


def took_s(row: dict[str, Any]) -> float:
    """What a plan took: the median, or the mean where some leave at an exit.

    Those and the others are two heaps, and a median is of one of them.
    """
    return row["mean_s"] if row.get("stays", 1.0) < 1 else row["p50_s"]


def winner(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The least latency of a cell; of equals the first."""
    return min(rows, key=took_s)


def choice(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What the planner chose in a cell; None: no run sends that."""
    return next((row for row in rows if row["chosen"]), None)


def loss(rows: Sequence[dict[str, Any]]) -> float:
    """Share by which the planner's choice is slower than the cell's best; 0: none.

    NaN where the choice was not run.
    """
    taken = choice(rows)
    return took_s(taken) / took_s(winner(rows)) - 1 if taken else np.nan


def pace(rows: Sequence[dict[str, Any]]) -> float:
    """Seconds of local computing in a cell over those of its profile."""
    (local,) = (row for row in rows if row["strategy"] == LOCAL)
    return local["p50_s"] / local["predicted_s"]


def errors(found: dict[Cell, list[dict[str, Any]]], paced: bool = False) -> np.ndarray:
    """|predicted / measured - 1| of every row that was run.

    paced: with the predicted seconds of device and server at the cell's pace, without
    local computing itself.
    """
    off = []
    for rows in found.values():
        factor = pace(rows) if paced else 1.0
        for row in rows:
            if paced and not row["on_link_s"]:
                continue
            computed = row["predicted_s"] - row["on_link_s"]
            predicted = factor * computed + row["on_link_s"]
            off.append(abs(predicted / took_s(row) - 1))
    return np.array(off)


def summary(report: dict[str, Any]) -> list[str]:
    """How often the planner was right, and how far its seconds were off."""
    found = cells(report["rows"])
    lines = []
    for factor in sorted({factor for _, factor in found}):
        every = {link: loss(rows) for (link, f), rows in found.items() if f == factor}
        own = {link: share for link, share in every.items() if share == share}
        if unrun := [link for link in every if link not in own]:
            names = ", ".join(unrun)
            lines.append(f"- device x{factor:g}: the choice was not run on {names}")
        near = sum(share <= WITHIN for share in own.values())
        worst = max(own, key=own.__getitem__)
        lines.append(
            f"- device x{factor:g}: the planner's choice is within {WITHIN:.0%} of the "
            f"best measured on {near} of {len(own)} links, at worst {own[worst]:+.0%} "
            f"({worst})"
        )
    off, own = errors(found), errors(found, paced=True)
    paces = [pace(rows) for rows in found.values()]
    lines.append(
        f"- predicted against measured latency, {len(off)} of them: off by "
        f"{np.median(off):.0%} in the median, {np.percentile(off, 90):.0%} at the 90th "
        f"percentile; the machine took {min(paces):.2f} to {max(paces):.2f} of its "
        f"profile's seconds for local computing, cell by cell: at that pace what is "
        f"sent was off by {np.median(own):.0%} and {np.percentile(own, 90):.0%}"
    )
    return lines


def end_to_end(path: str | Path, out: Path) -> list[str]:
    """The section, and its picture in `out`."""
    report = json.loads(Path(path).read_text())
    picture = f"{Path(path).stem}.png"
    draw(report, out / picture)
    watts = "; ".join(
        f"{part}: " + ", ".join(f"{name} {value:g}" for name, value in values.items())
        for part, values in report["watts"].items()
    )
    facts = (
        f"{page.where(report)}; {report['network']}, {report['local_quality']:.1%} of "
        f"the test set; plans that keep {report['floor']:.1%}. Links in user space; a "
        "device x4 sleeps three times its seconds. Joules are modelled from assumed "
        f"watts ({watts})."
    )
    cores = report.get("cores", ["0", "1"])
    if len({*cores}) == 1:
        facts += f" Device and server take turns on core {cores[0]}."
    columns = (
        "link", "device", "strategy", "plan", "answered here", "bytes", "top-1 %",
        "device ms", "predicted ms", "p50 ms", "mean ms", "p95 ms", "mJ", "",
    )  # fmt: skip
    lines = []
    for (link, factor), rows in cells(report["rows"]).items():
        for row in rows:
            said = "planner" * row["chosen"], "best" * (row is winner(rows))
            ms = (1e3 * row[name] if name in row else None for name in MS)
            here = row.get("left", row["images"] * (not row["sent_bytes"]))
            energy = row["energy_j"]
            lines.append(
                [
                    link, f"x{factor:g}", row["strategy"], row["plan"],
                    f"{here} of {row['images']}", f"{row['sent_bytes']:,.0f}",
                    f"{100 * row['quality']:.1f}",
                    *("" if value is None else f"{value:,.1f}" for value in ms),
                    "" if energy is None else f"{1e3 * energy:,.0f}",
                    ", ".join(filter(None, said)),
                ]
            )  # fmt: skip
    body = [
        *summary(report),
        "",
        f"![who wins by link and device speed]({picture})",
        "",
        *page.rows(columns, lines),
    ]
    title = f"Plans and what they took: {report['network']}"
    return page.section(title, facts, report["command"], body)


def draw(report: dict[str, Any], path: str | Path) -> None:
    """Left measured: link x device, the winner; right predicted over rates (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    found = cells(report["rows"])
    names = list(dict.fromkeys(row["strategy"] for row in report["rows"]))
    figure = Figure(figsize=(12, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _measured(left, found, names)
    if "regions" in report:
        _predicted(right, report["regions"], names)
    else:
        right.axis("off")
    figure.legend(
        handles=[Patch(color=COLOURS[i], label=n) for i, n in enumerate(names)],
        loc="outside lower center", ncols=len(names), frameon=False, fontsize=9,
    )  # fmt: skip
    figure.savefig(path)


def _measured(axes, found: dict[Cell, list[dict[str, Any]]], names: list[str]) -> None:
    links = list(dict.fromkeys(link for link, _ in found))
    factors = sorted({factor for _, factor in found})
    for (link, factor), rows in found.items():
        x, y, best = links.index(link), factors.index(factor), winner(rows)
        colour = COLOURS[names.index(best["strategy"])]
        axes.add_patch(_square(x, y, colour))
        text = f"{1e3 * took_s(best):,.0f} ms"
        taken = choice(rows)
        if taken is None:
            text += "\nplan: not run"
        elif taken is best:
            text += "\nplanned"
        else:
            text += f"\nplan: {taken['strategy']}\n+{100 * loss(rows):.0f} %"
        axes.text(x, y, text, ha="center", va="center", color="white", fontsize=8)
    axes.set_xlim(-0.5, len(links) - 0.5)
    axes.set_ylim(-0.5, len(factors) - 0.5)
    axes.set_xticks(range(len(links)), [name.replace(",", "\n") for name in links])
    axes.set_yticks(range(len(factors)), [f"x{f:g}" for f in factors])
    axes.set_ylabel("device slower by")
    axes.set_title("measured: the fastest strategy", fontsize=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _square(x: float, y: float, colour: str):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, color=colour)


def _predicted(axes, regions: dict[str, Any], names: list[str]) -> None:
    from matplotlib.colors import ListedColormap

    grid = [[names.index(name) for name in row] for row in regions["strategies"]]
    axes.pcolormesh(
        regions["rates"], regions["factors"], grid, shading="nearest",
        cmap=ListedColormap(COLOURS[: len(names)]), vmin=-0.5, vmax=len(names) - 0.5,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log", base=2)
    axes.set_xlabel("bit/s both ways")
    axes.set_ylabel("device slower by")
    axes.set_title(
        f"predicted at a round trip of {1e3 * regions['rtt_s']:g} ms", fontsize=10
    )
