"""The picture of head_vs_baselines: a panel a run, lines over link rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.methods.deployments import SERVER
from sc_jax.evaluate.reports.plots import COLOURS
from sc_jax.plan import Link, break_even_bytes, send_s

RATES = np.geomspace(1e4, 1e8, 81)  # bit/s
Curve = tuple[str, np.ndarray]


def groups(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows by group, and of several dtypes the one that is fastest on the device."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(report["rows"], key=lambda row: -row["device_s"]):
        found.setdefault(row["group"], {})[row["deployment"]] = row
    order = list(dict.fromkeys(row["group"] for row in report["rows"]))
    return {
        group: [
            found[group][name]
            for name in dict.fromkeys(
                row["deployment"] for row in report["rows"] if row["group"] == group
            )
        ]
        for group in order
    }


def latency_curves(rows: list[dict[str, Any]]) -> list[Curve]:
    """ms at every rate, without the round trip."""
    curves = []
    for row in rows:
        sent, server = row["framed_bytes"], row["seconds"].get(SERVER, 0.0)
        air = np.array([send_s(Link(rate, 0.0), sent) for rate in RATES])
        label = f"{row['deployment']} {row['dtype']}".strip()
        label += f"\n{100 * row['top1']:.2f} %" + (f", {sent:.0f} B" if sent else "")
        curves.append((label, 1e3 * (row["device_s"] + air + server)))
    return curves


def saving_curves(rows: list[dict[str, Any]], reference: str) -> list[Curve]:
    """Bytes to save at every rate, of the deployments that claim no bytes."""
    fast = next(row["device_s"] for row in rows if row["deployment"] == reference)
    curves = []
    for row in rows:
        if row["framed_bytes"] is not None:
            continue
        slow = row["device_s"]
        needed = [break_even_bytes(Link(rate, 0.0), slow, fast) for rate in RATES]
        label = f"{row['deployment']} {row['dtype']}\n{1e3 * slow:.1f} ms"
        curves.append((label, np.array(needed)))
    return curves


def draw(report: dict[str, Any], path: str) -> None:
    """Latency, or bytes to save, against the link's rate; log-log (PNG)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = groups(report)
    with matplotlib.rc_context({"font.size": 10, "axes.unicode_minus": False}):
        size = (9, 0.6 + 4.4 * len(panels))
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for ax, (name, rows) in zip(axes, panels.items()):
            if rows[0]["top1"] is None:
                _savings(ax, name, rows, report["reference"])
            else:
                _curves(ax, latency_curves(rows))
                ax.set_title(f"{name}: image to answer", loc="left", fontweight="bold")
                ax.set_ylabel("latency, ms, without the round trip")
            _finish(ax)
            _presets(ax, report["links"], round_trip=rows[0]["top1"] is not None)
        figure.savefig(path, dpi=150, format="png")


def _curves(ax, drawn: list[Curve]) -> None:
    for i, (label, values) in enumerate(drawn):
        flat = np.ptp(values) == 0
        ax.plot(
            RATES,
            values,
            color="#555555" if flat else COLOURS[i % len(COLOURS)],
            linestyle="--" if flat else "-",
            linewidth=1.3 if flat else 1.8,
            label=label,
        )


def _savings(ax, name: str, rows: list[dict[str, Any]], reference: str) -> None:
    _curves(ax, saving_curves(rows, reference))
    # Who must save more than the whole file can never be as early.
    whole = next(row["framed_bytes"] for row in rows if row["deployment"] == reference)
    ax.axhspan(whole, 10 * whole, color="#dddddd", zorder=0)
    ax.text(
        1.15e4, 1.1 * whole, f"more than all of {reference} ({whole / 1e3:.1f} kB): "
        "the file is earlier", va="bottom", fontsize=9,
    )  # fmt: skip
    ax.set_ylim(1, 10 * whole)
    title = f"{name}: bytes a head must save against {reference}"
    ax.set_title(title, loc="left", fontweight="bold")
    ax.set_ylabel("bytes to save to be as early")


def _finish(ax) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(RATES[0], RATES[-1])
    plain = FuncFormatter(lambda v, _: f"{v:,g}")
    ax.yaxis.set_major_formatter(plain)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1e6:,g}"))
    ax.grid(True, color="#eeeeee", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)


def _presets(ax, links: dict[str, dict[str, Any]], *, round_trip: bool) -> None:
    """A vertical line a preset, with the round trip that its latency adds."""
    from matplotlib.patheffects import withStroke

    for name, link in links.items():
        rate, text = link["up_bits_per_s"], f" {name}"
        if round_trip:
            text += f"\n +{1e3 * link['rtt_s']:g} ms"
        ax.axvline(rate, color="#999999", linewidth=0.8, zorder=1)
        label = ax.text(
            rate, 0.99, text, transform=ax.get_xaxis_transform(), va="top",
            fontsize=8, color="#333333", zorder=4,
        )  # fmt: skip
        label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    what = " (grey: presets" + (", and their round trip)" if round_trip else ")")
    ax.set_xlabel("uplink, Mbit/s" + what)
