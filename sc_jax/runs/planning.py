"""A plan from files: profiles read and joined, the best network named, a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sc_jax import spec
from sc_jax.errors import UsageError, unknown
from sc_jax.evaluate.reports import plan_plots
from sc_jax.evaluate.reports.plan_text import figure_of, text
from sc_jax.plan import PARTITION, link, plan, profile, recorded
from sc_jax.plan.link import LINKS, Link
from sc_jax.plan.plan import Bounds, Plan
from sc_jax.plan.profile import Profile, only
from sc_jax.plan.recorded import Records


def run(
    devices: Sequence[str],
    servers: Sequence[str],
    *,
    link: str | None,
    planner: str | None = None,
    bounds: Bounds,
    max_risk: float | None = None,
    delta: float | None = None,
    records: Sequence[str] = (),
    batch: int = 1,
    out: str | None = None,
    picture: str | None = None,
) -> Plan:
    """Prints the best plan over all networks, and writes it and a picture.

    max_risk, delta: knobs of `joint`, which is the planner where one of them is given
    and the planner is not. Of M networks each is tested at delta / M, so that what is
    certified holds for the one that wins (Bonferroni). records: the networks' files,
    which else are those that their profiles name.
    """
    over = _link(link)
    networks = networks_of(devices, servers, batch)
    name, knobs = planner_of(planner, max_risk, delta)
    met = records_of(name, networks, devices, records)
    shared = _shared(name, knobs, len(networks))
    found, refused = [], []
    for network in networks:
        try:
            found.append(_planned(network, over, bounds, name, shared, met))
        except UsageError as error:
            refused.append(str(error))
    if not found:
        raise UsageError("; ".join(refused))
    best = _holding(best_of(found, name), len(networks))
    chosen = next(n for n in networks if n.network == best.network)
    print(text(best, found, refused, over, profile.energy_source(chosen)))
    if out:
        others = alternatives(networks, over, bounds, name, knobs, met)
        plan.write(out, followable(best, others, over, bounds))
    if picture:
        plan_plots.latency(chosen, over, picture)
    return best


def _link(text: str | None) -> Link:
    if text is None:
        names = ", ".join(LINKS)
        raise UsageError(f"give --link, of {names}, or as up=2e6,rtt=0.03")
    return link.parse(text)


def networks_of(
    devices: Sequence[str], servers: Sequence[str], batch: int = 1
) -> list[Profile]:
    """The networks of the files, each joined with the server's file of its name."""
    if not devices:
        raise UsageError("give --profile, a JSON file of a device's profile")
    sides = [profile.read(path) for path in devices]
    names = [side.network for side in sides]
    edges = [profile.read(path) for path in servers]
    for side, of_side in (("device", names), ("server", [e.network for e in edges])):
        for name in of_side:
            if of_side.count(name) > 1:
                raise UsageError(
                    f"two of the {side}'s profiles are of one network, {name}"
                )
    theirs = {edge.network: edge for edge in edges}
    for name in theirs:
        if name not in names:
            raise unknown("network of a server's profile", name, names)
    joined = []
    for side in sides:
        if side.network in theirs:
            side = profile.combined(side, theirs[side.network])
        joined.append(profile.at_batch(side, batch))
    return joined


def planner_of(
    text: str | None, max_risk: float | None = None, delta: float | None = None
) -> tuple[str, dict[str, Any]]:
    """(name, knobs) of a planner of splits, checked; max_risk, delta are joint's."""
    risk = {"max_risk": max_risk, "delta": delta}
    risk = {name: value for name, value in risk.items() if value is not None}
    name, knobs = spec.parse(text or ("joint" if risk else "neurosurgeon"), "planner")
    if name not in PARTITION:
        raise unknown("planner of splits", name, PARTITION)
    if risk and name != "joint":
        raise UsageError(f"--{next(iter(risk))} is kept by --planner=joint, not {name}")
    if twice := risk.keys() & knobs.keys():
        raise UsageError(f"{min(twice)} is given twice: as a flag and as a knob")
    knobs |= risk
    if name == "spinn" and isinstance(knobs.get("objectives"), str):
        knobs["objectives"] = tuple(knobs["objectives"].strip("()").split(","))
    known = spec.knobs_of(PARTITION[name], skip=3)
    known.pop("records", None)  # a file's, not a knob of the text
    spec.check(f"planner {name}", known, knobs)
    return name, knobs


def _shared(planner: str, knobs: Mapping[str, Any], networks: int) -> dict[str, Any]:
    """The knobs of one of several networks, of which the best will be chosen."""
    known = spec.knobs_of(PARTITION[planner], skip=3)
    if "delta" not in known:
        return dict(knobs)
    return {**knobs, "delta": knobs.get("delta", known["delta"].default) / networks}


def _holding(best: Plan, networks: int) -> Plan:
    """The plan with what is certified of it as the best of all networks."""
    if (known := best.certified) is None:
        return best
    return replace(best, certified=replace(known, delta=known.delta * networks))


def _planned(
    network: Profile,
    over: Link,
    bounds: Bounds,
    planner: str,
    knobs: Mapping[str, Any],
    met: Mapping[str, Records],
) -> Plan:
    more = {"records": met[network.network]} if met else {}
    return PARTITION[planner](network, over, bounds, **knobs, **more)


def alternatives(
    networks: Sequence[Profile],
    over: Link,
    bounds: Bounds,
    planner: str,
    knobs: Mapping[str, Any],
    met: Mapping[str, Records],
) -> tuple[Plan, ...]:
    """What a device may change to: local computing and each cut of every network.

    The planner's own plan of a network that has this one option, in all bounds but the
    deadline, which another link may keep. A risk is certified for each by itself.
    """
    lasting, found = replace(bounds, deadline_s=None), []
    for network in networks:
        for cut in (None, *network.cuts):
            with suppress(UsageError):  # it keeps no other bound
                alone = only(network, cut)
                one = _planned(alone, over, lasting, planner, knobs, met)
                found.append(replace(one, binding=None, slack=None, runner_up=None))
    return tuple(found)


def followable(best: Plan, others: Sequence[Plan], over: Link, bounds: Bounds) -> Plan:
    """The plan with what a device needs to follow it; itself first of what it may."""
    own = replace(best, binding=None, slack=None, runner_up=None)
    rest = tuple(o for o in others if (o.network, o.name) != (own.network, own.name))
    return replace(
        best, link=over, deadline_s=bounds.deadline_s, alternatives=(own, *rest)
    )


def records_of(
    planner: str, networks: Sequence[Profile], devices: Sequence[str], files: Sequence
) -> dict[str, Records]:
    """By network, for a planner that reads records; {} for the others.

    networks: of the files `devices`, in their order.
    """
    if "records" not in spec.knobs_of(PARTITION[planner], skip=3):
        if files:
            raise UsageError(f"--records are for joint and spinn, {planner} reads none")
        return {}
    beside = [
        Path(path).with_name(network.records)
        for path, network in zip(devices, networks)
        if network.records is not None
    ]
    found = [recorded.read(path) for path in files or beside]
    names = [each.network for each in found]
    for network in networks:
        if names.count(network.network) != 1:
            raise UsageError(
                f"{planner} reads what inputs of {network.network} met, one file of "
                "it: launch.profile --records=validation makes one, --records=FILE.npz "
                "gives it"
            )
    return dict(zip(names, found))


def best_of(found: Sequence[Plan], planner: str) -> Plan:
    """The best network's plan; its runner-up may be another network's."""
    figure = figure_of(found[0])
    sign = -1 if figure == "quality" else 1

    def key(each: Plan) -> float:
        value = getattr(each, figure)
        return math.inf if value is None else sign * value  # not known: the worst

    ranked = sorted(found, key=key)
    best = ranked[0]
    others = [p for p in (best.runner_up, *ranked[1:]) if p is not None]
    other = min(others, key=key, default=None)
    if other is not None:
        other = replace(other, runner_up=None)
    return replace(best, runner_up=other)
