"""Pictures of results; matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sc_jax.evaluate.reports.report import Row

# Okabe and Ito 2008: told apart with every common colour blindness.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
COLOURS += ["#7F3C00", "#000000"]
_MARKERS = "osD^vPX*"
_DASHES = ["--", ":", "-."]
_CORNERS = [(-1, 1), (1, -1), (1, 1), (-1, -1)]  # left or right, above or below


def shown(row: Row) -> float:
    """Quality in its unit: a share in percent."""
    return 100 * row.quality if row.unit == "%" else row.quality


def mean_bytes(row: Row) -> float:
    """Mean payload bytes an example; 0 where nothing is sent."""
    return row.payload_bytes[0] if row.payload_bytes else 0.0


def curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that send something, a curve a method, fewest bytes first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if mean_bytes(row) > 0:
            found.setdefault(row.method, []).append(row)
    return {m: sorted(curve, key=mean_bytes) for m, curve in found.items()}


def rate_accuracy(
    rows: Sequence[Row], path: str | Path, title: str, *, split: str = "test"
) -> None:
    """Accuracy against bytes: a line a method, a level where nothing is sent (PNG)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10, "axes.unicode_minus": False}):
        figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        drawn = curves(rows)
        for i, (method, curve) in enumerate(drawn.items()):
            _curve(axes, i, method, curve)
        levels = [row for row in rows if mean_bytes(row) <= 0]
        for i, row in enumerate(levels):
            name = " ".join(filter(None, [row.method, row.setting]))
            axes.axhline(
                shown(row),
                color="#555555",
                linestyle=_DASHES[i % len(_DASHES)],
                linewidth=1.3,
                zorder=1,
                label=f"{name} ({shown(row):.4g} {row.unit})",
            )
        _finish(axes, title, split, log=bool(drawn))
        if drawn:
            _label(figure, axes, drawn)
        figure.savefig(path, dpi=150, format="png")


def _curve(axes, index: int, method: str, curve: list[Row]) -> None:
    """One method's line."""
    x, y = [mean_bytes(row) for row in curve], [shown(row) for row in curve]
    colour = COLOURS[index % len(COLOURS)]
    axes.plot(
        x,
        y,
        color=colour,
        marker=_MARKERS[index % len(_MARKERS)],
        markersize=7,
        markeredgecolor="white",
        linewidth=1.8,
        zorder=3,
        label=method,
    )


def _label(figure, axes, drawn: dict[str, list[Row]]) -> None:
    """Settings beside their points, each at the corner with the most room."""
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()  # fixes the layout, so that pixels mean something
    pixels = {
        method: axes.transData.transform([(mean_bytes(r), shown(r)) for r in curve])
        for method, curve in drawn.items()
    }
    taken = np.concatenate([_filled(p) for p in pixels.values()])
    halo = withStroke(linewidth=2.5, foreground="white")
    for i, (method, curve) in enumerate(drawn.items()):
        for row, point in zip(curve, pixels[method]):
            if not row.setting:
                continue
            half = np.array([5.5 * len(row.setting), 9.0])  # of the text, in pixels
            dx, dy = max(_CORNERS, key=lambda c: _room(taken, point, half, c))
            taken = np.concatenate([taken, _text(point, half, (dx, dy))])
            text = axes.annotate(
                row.setting,
                point,
                xycoords="figure pixels",
                xytext=(6 * dx, 5 * dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right",
                va="bottom" if dy > 0 else "top",
                fontsize=8,
                color=COLOURS[i % len(COLOURS)],
                zorder=4,
            )
            text.set_path_effects([halo])


def _filled(points: np.ndarray) -> np.ndarray:
    """f[P, 2] corners of a polyline -> points along it, 16 a segment."""
    steps = np.linspace(0, 1, 17)[:, None, None]
    between = points[:-1] + steps * (points[1:] - points[:-1])
    return np.concatenate([points, between.reshape(-1, 2)])


def _text(point: np.ndarray, half: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """Five points along the middle of a text written at a corner of a point."""
    middle = point + np.array(corner) * (half + 12)
    return middle + np.linspace(-1, 1, 5)[:, None] * half * [1, 0]


def _room(
    taken: np.ndarray, point: np.ndarray, half: np.ndarray, corner: tuple[int, int]
) -> float:
    """Pixels from a text to what is drawn nearest, 40 at most: more is no better."""
    text = _text(point, half, corner)
    return min(float(np.linalg.norm(taken[:, None] - text, axis=-1).min()), 40.0)


def _finish(axes, title: str, split: str, *, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel("bytes per example (payload, mean)")
    axes.set_ylabel(f"top-1 accuracy, % ({split})")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
