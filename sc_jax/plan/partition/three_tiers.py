"""Two cuts over device, edge and cloud, by enumeration.

The tiers of DDNN (Teerapittayanon, McDanel & Kung 2017,
https://arxiv.org/abs/1709.01921), the choice of Neurosurgeon (Kang et al. 2017,
https://doi.org/10.1145/3037697.3037698) with one hop more.

Assumed: a codec takes the edge, where it encodes, and the cloud, where it decodes, the
seconds that the profile has of device and edge; losses of two cuts in quality add up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, receive_s, send_s
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import (
    LOCAL,
    Load,
    Objective,
    Options,
    candidates,
    cumulative,
    depth_of,
    joined,
    priced,
    splits,
    unknown_as_nan,
)
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import Profile


def three_tiers(
    profile: Profile,
    link: Link,
    cloud: Profile,
    onward: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    objective: Objective = "latency_s",
    load: Load = 1.0,
) -> Plan:
    """The best of local computing, one cut to the edge, and two cuts, on to the cloud.

    profile: of device and edge. cloud: of the same stages; its edge_s are the cloud's
    seconds. link: device to edge; onward: edge to cloud. With two cuts the edge runs a
    stage at least. bounds, energy_j and memory are of the device, sent_bytes of its own
    link. load: factor on the edge's seconds, as for `neurosurgeon`.
    """
    if cloud.stages != profile.stages or not cloud.edge_s:
        raise UsageError(
            f"three_tiers: the cloud's profile has edge_s of the stages of "
            f"{profile.network}: {', '.join(profile.stages)}"
        )
    one = splits(profile, link, load=load)
    options = joined([one, _two(profile, link, cloud, onward, load)])
    keys = [getattr(options, objective)]
    return choose("three_tiers", options, bounds, objective, keys)


def _two(
    profile: Profile, link: Link, cloud: Profile, onward: Link, load: float
) -> Options:
    """Every pair of a cut and one behind it."""
    stages = len(profile.stages)
    cut, depth = candidates(profile, stages)
    cut, depth = cut[cut != LOCAL], depth[cut != LOCAL]
    # The edge computes up to the second cut whatever the device can.
    ends = np.array([depth_of(profile, c) for c in profile.cuts], int)
    first, second = np.nonzero(depth[:, None] < ends[None])
    cut, depth, end = cut[first], depth[first], ends[second]
    device = cumulative(profile.device_s, stages)[depth]
    edge, far = (cumulative(p.edge_s, stages) for p in (profile, cloud))
    rows = [profile.cuts[i] for i in second]
    column = lambda name: unknown_as_nan([getattr(c, name) for c in rows])  # noqa: E731
    air = np.array([send_s(onward, c.sent_bytes) for c in rows])
    reply = receive_s(onward, profile.reply_bytes)
    behind = column("encode_s") + air + onward.rtt_s + column("decode_s") + reply
    found = priced(
        profile, link, cut, depth,
        device_s=device,
        edge_s=load * (edge[end] - edge[depth]) + behind + far[stages] - far[end],
        share=np.ones(len(rows)), answers=np.nan, end=stages,
    )  # fmt: skip
    whole = unknown_as_nan([profile.quality])[0]
    lost = whole - column("quality")
    return replace(found, quality=found.quality - lost, second=second)
