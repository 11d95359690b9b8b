"""Where a whole input is computed, by its length, after CRIME (Jahier Pagliari 2020).

CRIME: input-dependent collaborative inference for recurrent neural networks,
https://doi.org/10.1109/TC.2020.3021199. The seconds of a recurrent network grow with
its input, those of a large server less: one line a machine, fitted by least squares,
and the round trip as it was met lately. Reconstruction of the fit and of the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import Objective, splits
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import INPUT, ByLength, Cut, Profile
from sc_jax.spec import Knob


@dataclass(frozen=True)
class LengthModel:
    """Seconds of an input of n items: seconds_per_item n + base_s."""

    seconds_per_item: float
    base_s: float

    def seconds(self, length: float) -> float:
        """Of one input; never below 0, where a fitted line may cross it."""
        return max(0.0, self.seconds_per_item * length + self.base_s)


def fitted(lengths: Sequence[float], seconds: Sequence[float]) -> LengthModel:
    """The line of least squares through timings [N] of two lengths or more."""
    x, y = np.asarray(lengths, np.float64), np.asarray(seconds, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(np.unique(x)) < 2:
        raise UsageError(
            "a line of seconds by length takes a second for each length, and two "
            f"lengths or more: got {x.shape} lengths and {y.shape} seconds"
        )
    if not np.isfinite([*x, *y]).all():
        raise UsageError("a length or second is NaN or infinite")
    slope, base = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y)[0]
    return LengthModel(float(slope), float(base))


def measured(lengths: Sequence[float], seconds: Sequence[float]) -> ByLength:
    """The line of `fitted` with its timings and what it misses, as a profile holds it.

    Jahier Pagliari et al. 2020: seconds linear in the length, fitted before use.
    """
    line = fitted(lengths, seconds)
    predicted = line.seconds_per_item * np.asarray(lengths, np.float64) + line.base_s
    residual_s = float(np.sqrt(np.mean((np.asarray(seconds) - predicted) ** 2)))
    return ByLength(
        line.seconds_per_item, line.base_s, residual_s,
        tuple(map(float, lengths)), tuple(map(float, seconds)),
    )  # fmt: skip


def tracked(rtt_s: float | None, met_s: float, weight: float = 0.2) -> float:
    """The round trip after one more was met: an exponentially weighted mean.

    rtt_s: the mean so far, None before the first. weight: of the newest, in 0..1.
    """
    if not 0 < weight <= 1 or not 0 <= met_s < np.inf:
        raise UsageError(f"a round trip of {met_s} s with weight {weight}, of 0..1")
    return met_s if rtt_s is None else (1 - weight) * rtt_s + weight * met_s


def at_length(
    length: float, device: LengthModel, edge: LengthModel, item_bytes: float
) -> Profile:
    """The profile of one input of so many items: one stage, sent whole or not."""
    if not 0 < length < np.inf:
        raise UsageError(f"length is above 0, not {length}")
    return Profile(
        "network", ("network",), (device.seconds(length),), (edge.seconds(length),),
        cuts=(Cut(INPUT, "raw", length * item_bytes),),
        modelled=("device_s", "edge_s", "sent_bytes"),
    )  # fmt: skip


def resized(profile: Profile, length: float) -> Profile:
    """The profile, whole, of an input of so many positions, by its measured lines.

    Assumed: bytes and coder's seconds at the input grow as its length does. The quality
    at another length is not known.
    """
    device, edge, own = (
        profile.device_by_length, profile.edge_by_length, profile.input_length,
    )  # fmt: skip
    if device is None or edge is None or own is None:
        raise UsageError(
            "crime: a length needs seconds by length of both sides: launch.profile "
            "--lengths=96,128,... measures them"
        )
    share = length / own
    lines = [LengthModel(s.seconds_per_item, s.base_s) for s in (device, edge)]
    here, there = (line.seconds(length) for line in lines)
    cuts = tuple(
        replace(
            cut, sent_bytes=share * cut.sent_bytes, encode_s=share * cut.encode_s,
            decode_s=share * cut.decode_s,
            quality=cut.quality if share == 1 else None,
        )
        for cut in profile.cuts
        if cut.after == INPUT
    )  # fmt: skip
    return Profile(
        profile.network, ("network",), (here if profile.local else None,), (there,),
        cuts=cuts, quality=profile.quality if share == 1 else None,
        reply_bytes=profile.reply_bytes, compute_w=profile.compute_w,
        idle_w=profile.idle_w, modelled=("device_s", "edge_s", "sent_bytes"),
    )  # fmt: skip


def crime(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    rtt_s: float | None = None,
    length: Annotated[float | None, Knob("positions of the input", above=0)] = None,
    objective: Objective = "latency_s",
) -> Plan:
    """The whole input on the device or on the edge, by its length (CRIME 2020).

    profile: `at_length` of this input, or any other: stages are never parted. rtt_s:
    the round trip as `tracked`; None is the link's. length: of an input, by the lines
    that the profile has measured; None: the profile's own. objective: latency, or the
    device's joules. UsageError where there are no lines.
    """
    if length is not None:
        profile = resized(profile, length)
    whole = tuple(cut for cut in profile.cuts if cut.after == INPUT)
    over = link if rtt_s is None else replace(link, rtt_s=rtt_s)
    options = splits(replace(profile, cuts=whole), over)
    keys = [getattr(options, objective)]
    return choose("crime", options, bounds, objective, keys)
