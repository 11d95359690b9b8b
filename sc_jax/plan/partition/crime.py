"""Where a whole input is computed, by its length, after CRIME (Jahier Pagliari 2020).

CRIME: input-dependent collaborative inference for recurrent neural networks,
https://doi.org/10.1109/TC.2020.3021199. The seconds of a recurrent network grow with
its input, those of a large server less: one line a machine, fitted by least squares,
and the round trip as it was met lately. Reconstruction of the fit and of the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import splits
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import INPUT, Cut, Profile


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


def crime(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    rtt_s: float | None = None,
) -> Plan:
    """The whole input on the device or on the edge, by its length (CRIME 2020).

    profile: `at_length` of this input, or any other: stages are never parted. rtt_s:
    the round trip as `tracked`; None is the link's.
    """
    whole = tuple(cut for cut in profile.cuts if cut.after == INPUT)
    over = link if rtt_s is None else replace(link, rtt_s=rtt_s)
    options = splits(replace(profile, cuts=whole), over)
    return choose("crime", options, bounds, "latency_s", [options.latency_s])
