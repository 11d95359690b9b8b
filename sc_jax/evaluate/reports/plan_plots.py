"""The picture of a plan: latency of every strategy over the link's rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sc_jax.evaluate.reports.plots import COLOURS
from sc_jax.plan.link import Link
from sc_jax.plan.partition.options import LOCAL, splits
from sc_jax.plan.profile import INPUT, Profile

RATES = np.geomspace(1e4, 1e8, 161)  # bit/s
NAMED = 8  # strategies that get a colour and a name


def strategies(profile: Profile, link: Link) -> dict[str, np.ndarray]:
    """Latency f[R] over RATES: "local", and each cut by its name; seconds."""
    found = [splits(profile, replace(link, up_bits_per_s=rate)) for rate in RATES]
    names = ["local" if i == LOCAL else profile.cuts[i].name for i in found[0].cut]
    return dict(zip(names, np.array([each.latency_s for each in found]).T))


def winners(curves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """bool[R] by name: where the strategy is the fastest; the first of equals."""
    fastest = np.array(list(curves.values())).argmin(0)
    return {name: fastest == i for i, name in enumerate(curves)}


def latency(profile: Profile, link: Link, path: str | Path) -> None:
    """Latency against bandwidth, log-log, with the lower envelope marked (PNG)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = strategies(profile, link)
    wins = winners(curves)
    # Who is never the fastest comes last, and pale where colours run out.
    order = sorted(curves, key=lambda name: (-int(wins[name].sum()), name))
    with matplotlib.rc_context({"font.size": 10, "axes.unicode_minus": False}):
        figure = Figure(figsize=(9, 5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        for i, name in enumerate(order):
            named = i < min(NAMED, len(COLOURS))
            ax.plot(
                RATES / 1e6, 1e3 * curves[name],
                color=COLOURS[i] if named else "#cccccc",
                linestyle=_dashes(name), linewidth=1.4 if named else 0.7,
                label=_label(name) if named else None, zorder=3 if named else 2,
            )  # fmt: skip
        envelope = 1e3 * np.min(list(curves.values()), axis=0)
        ax.plot(
            RATES / 1e6, envelope, color="#000000", alpha=0.18, linewidth=7,
            solid_capstyle="butt", zorder=1, label="lower envelope",
        )  # fmt: skip
        own = link.up_bits_per_s / 1e6
        ax.axvline(own, color="#999999", linewidth=0.8, zorder=1)
        _finish(ax, profile, link)
        figure.savefig(path, dpi=150, format="png")


def _dashes(name: str) -> str:
    if name == "local":
        return "--"
    return ":" if name.startswith(f"{INPUT}/") else "-"


def _label(name: str) -> str:
    if name.startswith(f"{INPUT}/"):
        return f"edge only, {name.removeprefix(f'{INPUT}/')}"
    return name if name == "local" else f"cut {name}"


def _finish(ax, profile: Profile, link: Link) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(RATES[0] / 1e6, RATES[-1] / 1e6)
    plain = FuncFormatter(lambda v, _: f"{v:,g}")
    ax.xaxis.set_major_formatter(plain)
    ax.yaxis.set_major_formatter(plain)
    ax.set_xlabel(f"uplink, Mbit/s (grey line: {link.up_bits_per_s / 1e6:g})")
    ax.set_ylabel(f"latency, ms, with {1e3 * link.rtt_s:g} ms round trip")
    ax.set_title(f"{profile.network}: input to answer", loc="left", fontweight="bold")
    ax.grid(True, color="#eeeeee", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
