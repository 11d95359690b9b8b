"""Where to cut and when to leave early, after SPINN (Laskaridis et al. 2020).

SPINN: synergistic progressive inference of neural networks over device and cloud,
https://arxiv.org/abs/2008.06402. A design point is a cut and one confidence threshold
of all exits; hard constraints filter the points, then the objectives order them, first
things first. Exits before the cut answer on the device; later ones on the edge, where
its server leaves early too (`edge_exits`), which launch.serve does not. What
SPINN scales online, measured seconds and rates, are the profile and the link here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.plan.link import Link
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import (
    LOCAL,
    Load,
    candidates,
    check_order,
    cumulative,
    priced,
)
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import Profile
from sc_jax.plan.recorded import Records

OBJECTIVES = (
    "latency_s", "energy_j", "sent_bytes", "quality", "device_s", "edge_s",
    "throughput_per_s",
)  # fmt: skip
THRESHOLDS = tuple(i / 20 for i in range(21))


def spinn(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    records: Records,
    objectives: Sequence[str] = ("latency_s",),
    thresholds: Sequence[float] = THRESHOLDS,
    load: Load = 1.0,
    edge_exits: bool = False,
) -> Plan:
    """A cut and a threshold: hard bounds, then ordered objectives (SPINN 2020).

    records: an input leaves at the first exit of the profile whose score is at least
    the threshold, else at the end; the mean quality of the answers is the plan's, less
    what the cut loses of the profile's, for exits behind a cut were recorded without
    it. All figures are means over the inputs. objectives: of OBJECTIVES; quality and
    throughput_per_s (of the busier side) are as large as can be, others as small.
    edge_exits: whether the server leaves at exits behind the cut, as SPINN's does; else
    it runs to the end.
    """
    if not 1 <= load < np.inf:
        raise UsageError(f"load is 1 (an idle server) or more, not {load}")
    for name in objectives:
        if name not in OBJECTIVES:
            raise unknown("objective of spinn", name, OBJECTIVES)
    if not objectives or not thresholds:
        raise UsageError("spinn needs an objective and a threshold")
    check_order("spinn", profile)
    records = records.of(profile)
    cut, depth = candidates(profile, len(profile.stages))
    count = len(thresholds)
    taken = np.full(len(cut), len(profile.exits))
    if not edge_exits:
        ends = [profile.stages.index(e.after) + 1 for e in profile.exits]
        taken = np.searchsorted(ends, depth, side="right")
    points = [_at(profile, records, cut, depth, taken, t) for t in thresholds]
    device_s, edge_s, share, right = np.concatenate(points, 1)
    options = priced(
        profile, link, np.tile(cut, count), np.tile(depth, count), device_s=device_s,
        edge_s=load * edge_s, share=share, answers=right, end=len(profile.stages),
        threshold=np.repeat(thresholds, len(cut)), whole=False,
    )  # fmt: skip
    decode = np.append([each.decode_s for each in profile.cuts], 0.0)[options.cut]
    device_s, edge_s = options.device_s, load * edge_s + share * decode
    keys = {
        "latency_s": options.latency_s,
        "energy_j": options.energy_j,
        "sent_bytes": options.sent_bytes,
        "quality": -options.quality,
        "device_s": device_s,
        "edge_s": edge_s,
        "throughput_per_s": np.maximum(device_s, edge_s),
    }
    goal = ", then ".join(objectives)
    return choose("spinn", options, bounds, goal, [keys[n] for n in objectives])


def _at(
    profile: Profile,
    records: Records,
    cut: np.ndarray,
    depth: np.ndarray,
    taken: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """f[4, C]: device_s, edge_s, share that is sent and quality at one threshold.

    taken: i[C], how many of the first exits may answer.
    """
    found = np.empty((4, len(cut)))
    for count in np.unique(taken):
        rows = taken == count
        correct = np.concatenate([records.right[:count], records.whole[None]])
        shares, right = _leaving(records.score[:count], correct, threshold)
        found[:3, rows] = _sides(profile, count, cut[rows], depth[rows], shares)
        found[3, rows] = right
    return found


def _leaving(
    scores: np.ndarray, correct: np.ndarray, threshold: float
) -> tuple[np.ndarray, float]:
    """(share f[E + 1] that leaves at each exit and the end, mean quality)."""
    sure = np.concatenate([scores >= threshold, np.ones((1, scores.shape[1]), bool)])
    leaves = sure.argmax(0)
    shares = np.bincount(leaves, minlength=len(sure)) / scores.shape[1]
    return shares, float(correct[leaves, np.arange(scores.shape[1])].mean())


def _sides(
    profile: Profile, count: int, cut: np.ndarray, depth: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f[C] (device_s, edge_s, share that is sent) of one threshold, without codecs.

    count: of the first exits, which may answer.
    """
    stages, exits = len(profile.stages), profile.exits[:count]
    device = cumulative(profile.device_s, stages)
    edge = cumulative(profile.edge_s, stages)
    ends = np.array([profile.stages.index(e.after) + 1 for e in exits], int)
    exit_device = np.array([e.device_s for e in exits])
    exit_edge = np.array([e.edge_s for e in exits])
    # Of each exit in turn the inputs that come to it, of the end those that remain.
    arriving = np.cumsum(shares[::-1])[::-1]
    device_s, edge_s = np.zeros(len(cut)), np.zeros(len(cut))
    before = 0
    for e, end in enumerate((*ends, stages)):
        # Stages from the exit before on, and the exit, on the side where they stand.
        here = np.minimum(end, depth)
        device_s += arriving[e] * (device[here] - device[np.minimum(before, depth)])
        if cut.size and (cut != LOCAL).any():
            there = np.maximum(end, depth)
            more = edge[there] - edge[np.maximum(before, depth)]
            edge_s += np.where(cut != LOCAL, arriving[e] * more, 0.0)
        if e < len(ends):
            inside = end <= depth
            device_s += np.where(inside, arriving[e] * exit_device[e], 0.0)
            edge_s += np.where(inside, 0.0, arriving[e] * exit_edge[e])
        before = end
    # Of an exit or the end that is the first behind the cut.
    later = arriving[np.searchsorted(ends, depth, side="right")]
    return device_s, edge_s, np.where(cut == LOCAL, 0.0, later)
