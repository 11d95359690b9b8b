"""Strategies of answering an input on a device and an edge server, planned alike.

A strategy is a set of networks, each a profile that says what may be done: where it
may be cut, and whether the device may compute it whole. Its plan is the fastest that
keeps the bounds; the planner's own choice is the fastest of all strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sc_jax.errors import UsageError
from sc_jax.plan import Bounds, Link, Plan, Profile, neurosurgeon
from sc_jax.train.recipe import Recipe

LOCAL = "local"
LAYERS = "network unmodified, float32"
FILE = "image file"
FREE = "training-free codec"
STUDENT = "trained pair"
EXITS = "early exits, then a cut"


def strategy_of(recipe: Recipe, kind: str = "") -> str:
    """Of a run with a split, by what it sends; of any other network LAYERS.

    kind: of the split's codec.
    """
    if not recipe.net.splits:
        return LAYERS
    if recipe.net.exit_names[:-1]:
        return EXITS
    (split,) = recipe.net.splits
    if kind == "image":
        # What loses nothing is how an unmodified network is computed on the edge.
        return LAYERS if getattr(split.compressor, "quality", 0) is None else FILE
    if kind == "raw":
        return LAYERS
    return STUDENT if split.after == "encoder" else FREE


def sending(profile: Profile) -> Profile:
    """The same without local computing."""
    return replace(profile, device_s=(*profile.device_s[:-1], None))


def on_device(profile: Profile) -> Profile:
    """The same without exits behind the cut, where nobody is asked."""
    (cut,) = profile.cuts
    end = profile.stages.index(cut.after)
    early = (e for e in profile.exits if profile.stages.index(e.after) <= end)
    return replace(profile, exits=tuple(early))


def strategies(
    kinds: Mapping[str, str], profiles: Mapping[str, Profile]
) -> dict[str, dict[str, Profile]]:
    """{strategy: {run: profile}}; kinds: strategy of each run, the whole one's LAYERS.

    Networks that were cut to send something are computed locally by no strategy.
    """
    found: dict[str, dict[str, Profile]] = {}
    for name, kind in kinds.items():
        whole = kind == LAYERS and profiles[name].quality is not None
        if whole:
            found.setdefault(LOCAL, {})[name] = replace(profiles[name], cuts=())
        known = profiles[name] if whole else sending(profiles[name])
        if kind == EXITS:
            known = on_device(known)
        found.setdefault(kind, {})[name] = known
    return found


def slower(profile: Profile, factor: float) -> Profile:
    """The network on a device `factor` times slower, its coder and exits too."""
    return replace(
        profile,
        device_s=tuple(None if s is None else factor * s for s in profile.device_s),
        cuts=tuple(
            replace(cut, encode_s=factor * cut.encode_s) for cut in profile.cuts
        ),
        exits=tuple(
            replace(each, device_s=factor * each.device_s) for each in profile.exits
        ),
    )


def best(
    networks: Mapping[str, Profile],
    link: Link,
    bounds: Bounds,
    factor: float = 1.0,
    risk: Mapping[str, Callable] | None = None,
) -> tuple[str, Plan] | None:
    """(run, its plan): the fastest within the bounds; None: there is none.

    risk: of networks with exits, a planner that says who leaves, such as `joint`.
    """
    found: list[tuple[str, Plan]] = []
    for name, profile in networks.items():
        planner = (risk or {}).get(name, neurosurgeon)
        try:
            found.append((name, planner(slower(profile, factor), link, bounds)))
        except UsageError:  # no plan of this network keeps the bounds
            continue
    return min(found, key=lambda pair: pair[1].latency_s, default=None)


def plans(
    every: Mapping[str, Mapping[str, Profile]],
    link: Link,
    bounds: Bounds,
    factor: float = 1.0,
    risk: Mapping[str, Callable] | None = None,
) -> dict[str, tuple[str, Plan]]:
    """{strategy: (run, plan)} of those that have one within the bounds; see `best`."""
    found = {
        name: best(networks, link, bounds, factor, risk)
        for name, networks in every.items()
    }
    return {name: pair for name, pair in found.items() if pair is not None}


def chosen(planned: Mapping[str, tuple[str, Plan]]) -> str:
    """The strategy that the planner takes: of the fastest plan, the first of equals."""
    return min(planned, key=lambda name: planned[name][1].latency_s)


def regions(
    every: Mapping[str, Mapping[str, Profile]],
    rates: Sequence[float],
    factors: Sequence[float],
    rtt_s: float,
    bounds: Bounds,
    risk: Mapping[str, Callable] | None = None,
) -> list[list[str]]:
    """The planner's strategy by predicted latency, [factor][rate] of a symmetric link.

    rates: bit/s.
    """
    return [
        [
            chosen(plans(every, Link(rate, rtt_s), bounds, factor, risk))
            for rate in rates
        ]
        for factor in factors
    ]
