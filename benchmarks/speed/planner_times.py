"""Networks drawn for planners, and the CPU milliseconds that each planner takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from sc_jax.plan import PARTITION, Bounds, Cut, ExitCost, Link, Plan, Profile, Records

LINK = Link(1e8, 0.01, transmit_w=1.0, receive_w=1.0, idle_w=0.1)
INPUTS = 500


def drawn(stages: int, seed: int = 0) -> Profile:
    """A profile of random seconds and bytes."""
    rng = np.random.default_rng(seed)
    names = tuple(f"s{i}" for i in range(stages))
    column = lambda top: tuple(rng.uniform(0, top, stages).tolist())  # noqa: E731
    cuts = tuple(
        Cut(after, f"c{k}", float(rng.uniform(10, 20_000)), 1e-3, 1e-3, 0.9 - 0.01 * k)
        for after in ("input", *names[:-1])
        for k in range(2)
    )
    places = [names[stages * k // 4] for k in (1, 2, 3)]
    return Profile(
        f"{stages} stages", names, column(0.05),
        tuple(rng.choice([0.001, 0.05], stages).tolist()),
        output_bytes=column(20_000), memory_bytes=column(1e6), cuts=cuts,
        exits=tuple(ExitCost(place, 1e-3, 1e-3, 0.8) for place in places),
        quality=0.9, reply_bytes=400.0, compute_w=2.0, idle_w=0.5,
    )  # fmt: skip


def met(profile: Profile, seed: int = 0) -> Records:
    """What drawn inputs met: exits surer where they are right, cuts that lose 1 %."""
    rng = np.random.default_rng(seed)
    ease, exits = rng.random(INPUTS), len(profile.exits)
    right = rng.random((exits, INPUTS)) < 0.7 + 0.3 * ease
    behind = rng.random((len(profile.cuts), INPUTS)) < 0.99
    return Records(
        profile.network, "validation", tuple(e.after for e in profile.exits),
        tuple(cut.name for cut in profile.cuts), np.tile(ease, (exits, 1)), right,
        behind, np.ones(INPUTS),
    )  # fmt: skip


def planners(profile: Profile) -> dict[str, Callable[[], Plan]]:
    """Calls by the name of a row."""
    records, several = met(profile), PARTITION["jointdnn"]
    fastest, leanest = (
        several(profile, LINK, objective=name) for name in ("latency_s", "energy_j")
    )
    assert fastest.energy_j is not None and leanest.energy_j is not None
    energy = (fastest.energy_j + leanest.energy_j) / 2
    sent = (fastest.sent_bytes + leanest.sent_bytes) / 2 + 1e4
    knobs = {"joint": {"max_risk": 0.1}, "spinn": {}}
    calls = {
        name: partial(planner, profile, LINK)
        if name not in knobs
        else partial(planner, profile, LINK, records=records, **knobs[name])
        for name, planner in sorted(PARTITION.items())
    }
    one, two = Bounds(energy_j=energy), Bounds(energy_j=energy, sent_bytes=sent)
    return calls | {
        "jointdnn, one bound": partial(several, profile, LINK, one),
        "jointdnn, two bounds": partial(several, profile, LINK, two),
    }


def milliseconds(calls: dict[str, Callable[[], Plan]], runs: int) -> dict[str, float]:
    """Median CPU milliseconds of each, over rounds in which they take turns.

    Of the calling thread: BLAS' other threads spin where a machine is loaded.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs + 1):
        for name, call in calls.items():
            begun = time.thread_time()
            call()
            taken[name].append(1e3 * (time.thread_time() - begun))
    return {name: float(np.median(values[1:])) for name, values in taken.items()}
