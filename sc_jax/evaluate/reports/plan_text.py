"""A plan in words: what it is, why it won, what is next, which bound binds."""

from __future__ import annotations

from collections.abc import Sequence

from sc_jax.plan.link import Link
from sc_jax.plan.partition.joint import needed
from sc_jax.plan.plan import BOUNDED, Certified, Plan

UNITS = {
    "latency_s": (1e3, "ms"),
    "energy_j": (1e3, "mJ"),
    "sent_bytes": (1.0, "bytes"),
    "memory_bytes": (1.0, "bytes"),
    "quality": (1.0, ""),
}


def figure_of(each: Plan) -> str:
    """What plans of several networks are compared by: a first objective they all have.

    Depth of an exit, or seconds of one side, say nothing across networks.
    """
    first = each.objective.split(",")[0]
    return first if first in UNITS else "latency_s"


def figures(each: Plan) -> str:
    """Latency, energy, bytes and quality in words; what is not known is left out."""
    words = []
    for figure in ("latency_s", "energy_j", "sent_bytes", "quality"):
        value, (factor, unit) = getattr(each, figure), UNITS[figure]
        if value is not None:
            name = "quality " * (figure == "quality")
            words.append(f"{name}{factor * value:,.4g} {unit}".strip())
    return ", ".join(words)


ENERGY = {
    "measured": "measured by a meter of the device; the radio by stated watts",
    "model": "a model, by stated watts; nothing was measured",
}


def text(
    best: Plan,
    found: Sequence[Plan],
    refused: Sequence[str],
    over: Link,
    energy: str | None = None,
) -> str:
    """The plan in a few lines: what it is, why it won, what is next, what binds.

    energy: where the device's joules come from, "measured" or "model".
    """
    lines = [
        f"{best.network}: {best.name} ({best.planner})",
        f"  takes       {figures(best)}",
        f"  on device   {_stages(best, 'device')}",
        f"  on edge     {_stages(best, 'edge')}",
        f"  link        {over.note or f'{over.up_bits_per_s / 1e6:g} Mbit/s up'}",
    ]
    if energy is not None and best.energy_j is not None:
        lines.insert(2, f"  energy      {ENERGY[energy]}")
    why = f"the first by {best.objective} within the bounds"
    if len(found) > 1:
        why += f"; over {len(found)} networks, the best by {figure_of(best)}"
    lines.append(f"  won as      {why}")
    if best.runner_up is not None:
        other = best.runner_up
        where = "" if other.network == best.network else f"{other.network}: "
        lines.append(f"  next best   {where}{other.name}: {figures(other)}")
    else:
        lines.append("  next best   there is no other within the bounds")
    if best.certified is not None:
        networks = len(found) + len(refused)
        lines.append(f"  certified   {_certified(best.certified, networks)}")
    if best.binding is None:
        lines.append("  binding     no bound refuses a better plan")
    else:
        figure = BOUNDED.get(best.binding)
        unit = {"private": "stages", "max_risk": "of quality"}.get(best.binding, "")
        factor, unit = UNITS[figure] if figure else (1.0, unit)
        slack = factor * (best.slack or 0.0)
        lines.append(f"  binding     {best.binding}, slack {slack:.4g} {unit}".rstrip())
    return "\n".join([*lines, *(f"  left out    {line}" for line in refused)])


def _certified(known: Certified, networks: int) -> str:
    words = (
        f"loses at most {known.max_risk:g} of the whole network's quality, with "
        f"probability {1 - known.delta:g}; {known.lost:.4f} on {known.examples:,} "
        f"{known.split} inputs"
    )
    least = needed(known.max_risk, known.delta / networks)
    if known.examples < least:
        words += f", too few to certify another plan: {least:,} are needed"
    return words


def _stages(best: Plan, place: str) -> str:
    names = [s for s, p in zip(best.stages, best.places) if p == place]
    if len(names) > 6:
        names = [*names[:2], f"... {len(names) - 3} more ...", names[-1]]
    return ", ".join(names) or "nothing"
