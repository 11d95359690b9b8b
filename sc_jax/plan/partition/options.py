"""Every single split of a network with its price.

What planners that enumerate share. Arrays are f64[C], one entry a candidate; NaN is
what the profile or the link does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.plan.link import (
    Link,
    receive_power_w,
    receive_s,
    send_s,
    transmit_power_w,
)
from sc_jax.plan.profile import INPUT, Cut, ExitCost, Profile
from sc_jax.spec import Knob

TINY = 1e-9  # a bound taken from a sum of floats must still fit
LOCAL = -1  # the cut of a candidate that sends nothing
POWER = (
    "energy needs compute_w (and idle_w, to send) of the profile and transmit_w and "
    "idle_w of the link"
)

# Knobs that planners share.
Objective = Annotated[Literal["latency_s", "energy_j"], Knob("what is least")]
Load = Annotated[float, Knob("factor on the edge's seconds", at_least=1)]


@dataclass(frozen=True, eq=False)
class Options:
    """C candidates: cut is an index into the profile's cuts or LOCAL.

    depth, end: stages on the device, and stages that run at all; exit: of each, the
    index of its exit or -1. threshold: NaN where none decides. device_s: what of the
    latency the device computes, its coder included. second: of three tiers the cut
    between edge and cloud, or LOCAL.
    """

    profile: Profile
    cut: np.ndarray
    depth: np.ndarray
    end: np.ndarray
    exit: np.ndarray
    threshold: np.ndarray
    latency_s: np.ndarray
    energy_j: np.ndarray
    sent_bytes: np.ndarray
    quality: np.ndarray
    memory_bytes: np.ndarray
    device_s: np.ndarray
    second: np.ndarray = None  # type: ignore  # nowhere, unless it is said

    def __post_init__(self) -> None:
        if self.second is None:
            object.__setattr__(self, "second", np.full(len(self.cut), LOCAL))


def joined(parts: Sequence[Options]) -> Options:
    """All candidates of several of one profile, in their order."""
    names = [n for n in Options.__dataclass_fields__ if n != "profile"]
    arrays = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    return Options(parts[0].profile, **arrays)


def unknown_as_nan(values: Sequence[float | None]) -> np.ndarray:
    """f64[...], NaN for None."""
    return np.array([np.nan if v is None else v for v in values], np.float64)


def cumulative(values: Sequence[float | None], count: int) -> np.ndarray:
    """f64[count + 1], of the first 0, 1, ... stages; NaN from the first None on."""
    if not values:
        return np.concatenate([[0.0], np.full(count, np.nan)])
    return np.concatenate([[0.0], np.cumsum(unknown_as_nan(values))])


def depth_of(profile: Profile, cut: Cut) -> int:
    """How many stages stand before the cut."""
    return 0 if cut.after == INPUT else profile.stages.index(cut.after) + 1


def check_order(planner: str, profile: Profile) -> None:
    """UsageError unless the exits stand in the network's order: inputs meet them so."""
    places = [ending.after for ending in profile.exits]
    if places != [name for name in profile.stages if name in places]:
        raise UsageError(
            f"{planner}: exits stand in the network's order, not {', '.join(places)}"
        )


def candidates(profile: Profile, end: int) -> tuple[np.ndarray, np.ndarray]:
    """(cut i[C], depth i[C]) that can run with `end` stages: local first, then cuts."""
    stages = len(profile.stages)
    device = cumulative(profile.device_s, stages)
    places = {name: i for i, name in enumerate((INPUT, *profile.stages))}
    depths = [places[cut.after] for cut in profile.cuts]
    found = [(LOCAL, end)] if not np.isnan(device[end]) else []
    if profile.edge_s:
        runs = (np.arange(stages + 1) < end) & ~np.isnan(device)
        found += [(i, depth) for i, depth in enumerate(depths) if runs[depth]]
    cut, depth = np.array(found, int).reshape(-1, 2).T
    return cut, depth


def splits(
    profile: Profile, link: Link, *, load: float = 1.0, ending: ExitCost | None = None
) -> Options:
    """Every way to run the network, or up to one exit, with at most one cut.

    load: factor on the edge's seconds.
    """
    if not 1 <= load < np.inf:
        raise UsageError(f"load is 1 (an idle server) or more, not {load}")
    stages = len(profile.stages)
    end = stages if ending is None else profile.stages.index(ending.after) + 1
    cut, depth = candidates(profile, end)
    device = cumulative(profile.device_s, stages)[depth]
    edge = cumulative(profile.edge_s, stages)
    sends = cut != LOCAL
    edge_s = np.where(sends, edge[end] - edge[depth], 0.0)
    if ending is not None:
        device = device + np.where(sends, 0.0, ending.device_s)
        edge_s = edge_s + np.where(sends, ending.edge_s, 0.0)
    quality = profile.quality if ending is None else ending.quality
    stages_j = None
    if profile.device_j:
        stages_j = cumulative(profile.device_j, stages)[depth]
        if ending is not None:
            added = ending.device_s * unknown_as_nan([profile.compute_w])[0]
            stages_j = stages_j + np.where(sends, 0.0, added)
    return priced(
        profile, link, cut, depth,
        device_s=device, edge_s=load * edge_s, share=sends.astype(np.float64),
        answers=unknown_as_nan([quality])[0], end=end,
        exit=-1 if ending is None else profile.exits.index(ending),
        whole=ending is None, stages_j=stages_j,
    )  # fmt: skip


def priced(
    profile: Profile,
    link: Link,
    cut: np.ndarray,
    depth: np.ndarray,
    *,
    device_s: np.ndarray,
    edge_s: np.ndarray,
    share: np.ndarray,
    answers: np.ndarray | float,
    end: int,
    exit: np.ndarray | int = -1,
    threshold: np.ndarray | float = np.nan,
    whole: bool = True,
    stages_j: np.ndarray | None = None,
) -> Options:
    """Candidates with their figures, means over inputs of which `share` are sent.

    device_s, edge_s: stages and exits, without the codec. answers: the quality were
    nothing lost in the cut; what its own quality lacks of the network's is taken off
    the share that is sent. whole: whether every input runs to the network's end.
    stages_j: the joules of device_s where they were measured; else at compute_w.
    """

    def of_cut(values: Sequence[float | None], local: float = 0.0) -> np.ndarray:
        # LOCAL, -1, is the last.
        return np.append(unknown_as_nan(values), local)[cut]

    cuts = profile.cuts
    sent = of_cut([c.sent_bytes for c in cuts])
    coder = of_cut([c.encode_s for c in cuts])
    decode = of_cut([c.decode_s for c in cuts])
    air = of_cut([send_s(link, c.sent_bytes) for c in cuts])
    own = of_cut([c.quality for c in cuts], np.nan)
    reply = receive_s(link, profile.reply_bytes)
    busy, waited = device_s + share * coder, edge_s + share * (decode + link.rtt_s)
    coded = busy if stages_j is None else share * coder
    joules = energy_j(profile, link, coded, share * air, share * reply, waited)
    memory = cumulative(profile.memory_bytes, len(profile.stages))[depth]
    rest = np.ones(len(cut))
    return Options(
        profile, cut, depth, (rest * end).astype(int), (rest * exit).astype(int),
        rest * threshold,
        latency_s=busy + waited + share * (air + reply),
        energy_j=joules if stages_j is None else joules + stages_j,
        sent_bytes=share * sent,
        quality=_quality(profile, own, share, rest * answers, whole),
        memory_bytes=memory if profile.memory_bytes else rest * np.nan,
        device_s=busy,
    )  # fmt: skip


def energy_j(profile, link, busy_s, sent_s, received_s, waited_s) -> np.ndarray:
    """Joules of the device: it computes, sends, receives and waits; NaN: not known.

    While the radio is on and while it waits, the device draws its own idle_w too.
    """
    powers = [profile.compute_w, profile.idle_w, transmit_power_w(link), link.idle_w]
    compute_w, rest_w, send_w, wait_w = unknown_as_nan(powers)
    receive_w = unknown_as_nan([receive_power_w(link)])[0]
    parts = (
        (busy_s, compute_w),
        (sent_s, send_w + rest_w),
        (received_s, receive_w + rest_w),
        (waited_s, wait_w + rest_w),
    )
    # A power that is not needed may be unknown: 0 s of NaN W are 0 J.
    joules = [np.where(np.equal(s, 0), 0.0, np.multiply(s, w)) for s, w in parts]
    return sum(joules[1:], joules[0])


def _quality(
    profile: Profile,
    own: np.ndarray,
    share: np.ndarray,
    answers: np.ndarray,
    whole: bool,
) -> np.ndarray:
    if whole:
        return np.where(share > 0, own, answers)
    known = np.nan if profile.quality is None else profile.quality
    lost = np.where(share > 0, share * (known - own), 0.0)
    return answers - lost
