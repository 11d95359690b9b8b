"""Pictures of results; matplotlib is imported only when one is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sc_jax.evaluate.reports import labels

if TYPE_CHECKING:
    from sc_jax.evaluate.reports.report import Row

# Okabe and Ito 2008: distinct with every common colour blindness.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
COLOURS += ["#7F3C00", "#000000"]
# What the methods are held against: pale, distinct by their markers first.
PALE = ["#8C8C8C", "#B09C82", "#8AA695", "#A893B0", "#BFB07A", "#93AEBF"]
_MARKERS = "osD^vPX*"
_DASHES = ["--", ":", "-."]
_DPI = 150
_BASELINE = "classical"  # the family that methods are held against


class _Style(NamedTuple):
    """How a curve is drawn: the methods strongest, on top of the rest."""

    colour: str
    marker: str
    marker_size: float
    line_width: float
    layer: float


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
    """Quality against bytes: a line a method, a level where nothing is sent (PNG)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10, "axes.unicode_minus": False}):
        # No pyplot: it would keep the figure, and choose a display.
        figure = Figure(figsize=(8, 5), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        # Methods first: in the legend, and in the choice of places for labels.
        drawn = dict(
            sorted(curves(rows).items(), key=lambda item: _is_baseline(item[1]))
        )
        styles = dict(zip(drawn, _styles([*drawn.values()])))
        for method, curve in drawn.items():
            _curve(axes, method, curve, styles[method])
        unit, levels = rows[0].unit, _levels(rows)
        for dash, (level, names) in enumerate(levels.items()):
            axes.axhline(
                level,
                color="#555555",
                linestyle=_DASHES[dash % len(_DASHES)],
                linewidth=1.3,
                zorder=1,
                label=f"{', '.join(names)} ({f'{level:.4g} {unit}'.strip()})",
            )
        heading = ", ".join(filter(None, [rows[0].metric, unit]))
        _finish(axes, title, f"{heading} ({split})")
        if drawn:
            _bytes_axis(axes)
            _label(figure, axes, drawn, styles, [*levels])
        figure.savefig(path, dpi=_DPI, format="png")


def _is_baseline(curve: Sequence[Row]) -> bool:
    return curve[0].family == _BASELINE


def _styles(drawn: Sequence[list[Row]]) -> Iterator[_Style]:
    own = pale = 0
    for i, curve in enumerate(drawn):
        marker = _MARKERS[i % len(_MARKERS)]
        if _is_baseline(curve):
            yield _Style(PALE[pale % len(PALE)], marker, 6.5, 1.3, 2)
            pale += 1
        else:
            yield _Style(COLOURS[own % len(COLOURS)], marker, 11, 2.8, 4)
            own += 1


def _levels(rows: Sequence[Row]) -> dict[float, list[str]]:
    """Qualities of what sends nothing; equal ones are one line of several names."""
    found: dict[float, list[str]] = {}
    for row in rows:
        if mean_bytes(row) <= 0:
            name = " ".join(filter(None, [row.method, row.setting]))
            found.setdefault(shown(row), []).append(name)
    return found


def _curve(axes, method: str, curve: list[Row], style: _Style) -> None:
    """One method's line."""
    axes.plot(
        [mean_bytes(row) for row in curve],
        [shown(row) for row in curve],
        color=style.colour,
        marker=style.marker,
        markersize=style.marker_size,
        markeredgecolor="white",
        markeredgewidth=style.marker_size / 11,
        linewidth=style.line_width,
        zorder=style.layer,
        label=method,
    )


def _label(figure, axes, drawn: dict, styles: dict, levels: list[float]) -> None:
    """Settings beside their points: of the methods first, then of curves' ends."""
    from matplotlib.patheffects import withStroke

    halo = withStroke(linewidth=2.5, foreground="white")
    figure.draw_without_rendering()  # fixes the layout, so that pixels mean something
    pixels = {
        method: axes.transData.transform([(mean_bytes(r), shown(r)) for r in curve])
        for method, curve in drawn.items()
    }
    room = labels.Room(axes.get_window_extent().extents)
    for method, points in pixels.items():
        room.add_curve(points, styles[method].marker_size * _DPI / 144)
    for level in levels:
        room.add_level(axes.transData.transform([(1, level)])[0, 1])
    for method, curve in drawn.items():
        style, own = styles[method], not _is_baseline(curve)
        names = own_parts([row.setting for row in curve])
        for index in labels.ends_first(len(curve)):
            if not names[index]:
                continue
            text = axes.annotate(
                names[index],
                (mean_bytes(curve[index]), shown(curve[index])),
                textcoords="offset points",
                xytext=(0, 0),
                ha="center",
                va="center",
                fontsize=9 if own else 7,
                fontweight="bold" if own else "normal",
                color=style.colour if own else "#555555",
                zorder=style.layer + 1,
            )
            # Labels are placed by pixels of this layout: they must not change it.
            text.set_in_layout(False)
            text.set_path_effects([halo])
            size = np.array(text.get_window_extent().size)
            radius = style.marker_size * _DPI / 144
            offset = room.place(pixels[method][index], size, radius, always=own)
            if offset is None:
                text.remove()
            else:
                text.set_position(tuple(offset * 72 / _DPI))


def own_parts(settings: Sequence[str]) -> list[str]:
    """Each setting without the parts, between commas, that all of them share."""
    parts = [setting.split(", ") for setting in settings]
    shared = set(parts[0]).intersection(*parts)
    if len(parts) < 2:  # alone: it shares nothing
        shared = set()
    return [", ".join(p for p in own if p not in shared) for own in parts]


def _bytes_axis(axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _finish(axes, title: str, heading: str) -> None:
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel("bytes per example (payload, mean)")
    axes.set_ylabel(heading)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
