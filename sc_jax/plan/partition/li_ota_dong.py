"""Many tasks on edge servers with bandwidth and capacity, after Li, Ota, Dong (2018).

Learning IoT in edge: deep learning for the Internet of Things with edge computing,
https://doi.org/10.1109/MNET.2018.1700202. As many tasks as can be are admitted; each
needs bandwidth to meet its deadline, and the server's time. A heuristic, no optimum:
`schedule` is greedy by demand, `admitted` decides as tasks come. Reconstruction: their
exact rules could not be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.partition.options import LOCAL, cumulative, depth_of, splits
from sc_jax.plan.profile import Profile
from sc_jax.plan.records import number

FULL = 1 + 1e-12  # sums of floats that fill a server exactly


@dataclass(frozen=True)
class Task:
    """Inputs of one network, so many a second, each answered within deadline_s."""

    name: str
    profile: Profile
    deadline_s: float
    inputs_per_s: float

    def __post_init__(self) -> None:
        number(f"deadline_s of {self.name}", self.deadline_s, above=0)
        number(f"inputs_per_s of {self.name}", self.inputs_per_s, above=0)


@dataclass(frozen=True)
class Server:
    """up_bits_per_s: shared by its tasks; capacity: seconds of computing a second."""

    name: str
    up_bits_per_s: float
    capacity: float = 1.0

    def __post_init__(self) -> None:
        number(f"up_bits_per_s of {self.name}", self.up_bits_per_s, above=0)
        number(f"capacity of {self.name}", self.capacity, above=0)


@dataclass(frozen=True)
class Demand:
    """What one cut of a task takes: bits a second of the link, seconds a second."""

    cut: str
    up_bits_per_s: float
    load: float


@dataclass(frozen=True)
class Admission:
    """server: None is local computing, which takes nothing of any."""

    task: str
    cut: str
    server: str | None


def demands(task: Task, link: Link) -> tuple[Demand, ...]:
    """Of each cut that can meet the deadline, with the least bandwidth that does.

    The link's own rate is not read: servers share theirs. Local computing, where the
    device is quick enough, comes first and takes nothing.
    """
    found = []
    for i, latency in _rows(task.profile, link):
        if i == LOCAL:
            # Inputs that come faster than the device answers would pile up.
            if latency <= task.deadline_s and latency * task.inputs_per_s <= 1:
                found.append(Demand("local", 0.0, 0.0))
            continue
        cut = task.profile.cuts[i]
        bits = 8 * cut.sent_bytes / (1 - link.loss)
        air_s = task.deadline_s - (latency - bits / link.up_bits_per_s)
        if air_s <= 0:
            continue
        depth = depth_of(task.profile, cut)
        busy_s = cumulative(task.profile.device_s, depth)[depth] + cut.encode_s
        # As of local computing: the head's inputs would pile up.
        if busy_s * task.inputs_per_s > 1:
            continue
        edge_s = sum(task.profile.edge_s[depth:]) + cut.decode_s
        # At least what arrives, or the queue of what is to be sent grows.
        rate = max(bits / air_s, bits * task.inputs_per_s)
        found.append(Demand(cut.name, rate, edge_s * task.inputs_per_s))
    return tuple(found)


def _rows(profile: Profile, link: Link) -> list[tuple[int, float]]:
    options = splits(profile, link)
    return list(zip(map(int, options.cut), map(float, options.latency_s)))


def schedule(
    tasks: Sequence[Task], servers: Sequence[Server], link: Link
) -> tuple[Admission, ...]:
    """Admissions by a greedy heuristic, not the optimum: least demand first.

    Each task's demands stand by the larger share that they take of all bandwidth or of
    all capacity; the first that fits a server is taken, where most is left.
    """
    _check(tasks, servers)
    rows = [(task, _ranked(task, servers, link)) for task in tasks]
    rows = [(task, ranked) for task, ranked in rows if ranked]
    left = {s.name: [s.up_bits_per_s, s.capacity] for s in servers}
    found = []
    for task, ranked in sorted(rows, key=lambda row: row[1][0][0]):
        for _, demand in ranked:
            if place := _fit(demand, servers, left):
                found.append(Admission(task.name, demand.cut, place[0]))
                break
    return tuple(found)


def admitted(
    tasks: Sequence[Task], servers: Sequence[Server], link: Link, reserve: float = 0.5
) -> tuple[Admission, ...]:
    """Tasks in the order in which they come, each answered at once: a heuristic.

    Who fits is admitted while more than `reserve` of everything is free; afterwards
    only who asks for no more than the mean of all that came.
    """
    _check(tasks, servers)
    left = {s.name: [s.up_bits_per_s, s.capacity] for s in servers}
    total = sum(s.up_bits_per_s for s in servers), sum(s.capacity for s in servers)
    found, came = [], []
    for task in tasks:
        if not (ranked := _ranked(task, servers, link)):
            continue
        came.append(ranked[0][0])
        free = min(sum(n[i] for n in left.values()) / total[i] for i in (0, 1))
        for share, demand in ranked:
            if free <= reserve and share > sum(came) / len(came):
                break
            if place := _fit(demand, servers, left):
                found.append(Admission(task.name, demand.cut, place[0]))
                break
    return tuple(found)


def _check(tasks: Sequence[Task], servers: Sequence[Server]) -> None:
    for what, items in (("task", tasks), ("server", servers)):
        names = [item.name for item in items]
        if len(set(names)) < len(names) or not names:
            raise UsageError(f"{what}s have names, each once: {', '.join(names)}")


def _ranked(task: Task, servers: Sequence[Server], link: Link):
    """[(share of everything, demand)], the least first."""
    bandwidth = sum(s.up_bits_per_s for s in servers)
    capacity = sum(s.capacity for s in servers)
    pairs = [
        (max(d.up_bits_per_s / bandwidth, d.load / capacity), d)
        for d in demands(task, link)
    ]
    return sorted(pairs, key=lambda pair: pair[0])


def _fit(demand: Demand, servers: Sequence[Server], left) -> tuple[str | None] | None:
    """(server or None for the device,), its share taken; None: it fits none."""
    if demand.cut == "local":
        return (None,)
    able = [
        s
        for s in servers
        if demand.up_bits_per_s <= left[s.name][0] * FULL
        and demand.load <= left[s.name][1] * FULL
    ]
    if not able:
        return None
    share = lambda s: min(  # noqa: E731
        left[s.name][0] / s.up_bits_per_s, left[s.name][1] / s.capacity
    )
    best = max(able, key=share)
    left[best.name][0] -= demand.up_bits_per_s
    left[best.name][1] -= demand.load
    return (best.name,)
