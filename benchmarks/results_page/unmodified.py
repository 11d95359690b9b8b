"""The section of benchmarks.methods.unmodified: training-free codecs at every cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results_page import page
from sc_jax.evaluate.reports.plots import COLOURS

TITLE = "Codecs of networks as they are"
KEPT = 1.0  # points that the best of a cut may lose


def best(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The fewest bytes that lose less than KEPT points; None: none does."""
    fits = [row for row in rows if row["points_lost"] < KEPT]
    return min(fits, key=lambda row: row["bytes"], default=None)


def section(path: str | Path, out: Path) -> list[str]:
    """A row a cut: what every codec sends and loses there; its picture in `out`."""
    report = json.loads(Path(path).read_text())
    cuts: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        cuts.setdefault(row["cut"], []).append(row)
    names = list(dict.fromkeys(row["compressor"] for row in report["rows"]))
    lines = []
    for cut, rows in cuts.items():
        shape = "x".join(map(str, rows[0]["shape"]))
        found = {row["compressor"]: row for row in rows}
        cells = [_cell(found.get(name)) for name in names]
        lines.append([cut, shape, *cells, _fewest(rows)])
    picture = f"codecs_{report['network']}.png"
    draw(report, out / picture)
    facts = (
        f"{page.where(report)}. {report['images']} test images of {report['data']}; "
        f"what a codec takes from activations is solved from {report['fitted']} "
        "training images. Each cell: bits an element, points of top-1 lost ± their "
        "standard error, paired with the whole network's answers. Bytes without frame."
    )
    columns = ["cut", "elements", *names, f"fewest bytes under {KEPT:g} point lost"]
    body = [*page.rows(columns, lines), "", f"![top-1 against bytes]({picture})"]
    title = f"{TITLE}: {report['network']}, {Path(report['data']).name}"
    return page.section(title, facts, report["command"], body)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    lost = f"{row['points_lost']:+.1f} ± {row['standard_error']:.1f}"
    return f"{row['bits_an_element']:.2f}, {lost}"


def _fewest(rows: Sequence[dict[str, Any]]) -> str:
    row = best(rows)
    return "" if row is None else f"{row['compressor']}: {row['bytes']:,.0f}"


def draw(report: dict[str, Any], path: str | Path) -> None:
    """Top-1 against bytes, a mark a cut, a colour a codec (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(dict.fromkeys(row["compressor"] for row in report["rows"]))
    for i, name in enumerate(names):
        rows = [row for row in report["rows"] if row["compressor"] == name]
        axes.plot(
            [row["bytes"] for row in rows], [row["top_1"] for row in rows],
            "s" if rows[0]["cut"] == "input" else "o", color=COLOURS[i % len(COLOURS)],
            mfc="none" if i >= len(COLOURS) else None, label=name,
        )  # fmt: skip
    whole = report["rows"][0]["top_1"] + report["rows"][0]["points_lost"]
    axes.axhline(whole, color="0.5", lw=1, ls=":")
    axes.set_ylim(whole - 15, whole + 4)
    axes.set_xscale("log")
    axes.set_xlabel("bytes an image")
    axes.set_ylabel("top-1 %")
    axes.set_title(
        f"{report['network']} as it is, a mark a cut; dotted: whole", size=10
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
