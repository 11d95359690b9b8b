"""Several crossings between device and edge, after JointDNN (Eshratifar et al. 2019).

JointDNN: an efficient training and inference engine for intelligent mobile cloud
computing services, https://arxiv.org/abs/1801.08618. A shortest path over (stages done,
place): a stage costs its seconds at its place, a crossing up one of the cuts there, a
crossing down the stage's output_bytes, uncoded. Each crossing takes half a round trip.
JointDNN hands its constrained problems to an integer programme; here labels that no
two others dominate stay, so that the best and the next best path are exact.

Assumed: what several lossy cuts cost in quality adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, receive_s, send_s
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import (
    POWER,
    Load,
    Objective,
    depth_of,
    energy_j,
    splits,
    unknown_as_nan,
)
from sc_jax.plan.plan import (
    BOUNDED,
    DEVICE,
    EDGE,
    NO_BOUNDS,
    Bounds,
    Plan,
    private_depth,
)
from sc_jax.plan.profile import Cut, Profile

Seconds = float | np.ndarray
FIGURES = ("latency_s", "energy_j", "sent_bytes", "memory_bytes", "loss")
TINY = 1e-9  # a bound taken from a sum of floats must still fit


@dataclass(frozen=True, eq=False)
class Moves:
    """What each step adds, in FIGURES: f[..., 5]; inf: it cannot be taken."""

    device: np.ndarray  # [S, 5]
    edge: np.ndarray  # [S, 5]
    up: tuple[tuple[tuple[Cut, np.ndarray], ...], ...]  # [S + 1] cuts after i stages
    down: np.ndarray  # [S + 1, 5], of what i stages put out; the last is the reply


def jointdnn(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    objective: Objective = "latency_s",
    load: Load = 1.0,
) -> Plan:
    """Several crossings between the two sides, by shortest path (JointDNN 2019)."""
    moves = _moves(profile, link, load, bounds)
    if objective == "energy_j" and _unknown_energy(moves):
        raise UsageError(
            f"jointdnn: energy_j is not known of every step of {profile.network}: "
            + POWER
        )
    limits = _limits(profile, bounds)
    # Single splits are paths too: whatever is worse than two of them can go.
    ceiling = _second_split(profile, link, load, bounds, objective)
    found = _search(profile, moves, objective, limits, ceiling)
    plans = [_plan(profile, moves, path, objective) for path in found]
    plans = [plan for plan in plans if not _missed(plan, bounds)][:2]
    if not plans:
        raise UsageError(_infeasible(profile, moves, bounds, limits))
    binding = None
    if limits:
        free = _search(profile, moves, objective, {}, ceiling)
        hard = _missed(_plan(profile, moves, free[0], objective), bounds)
        relative = {n: _relative(plans[0], bounds, n) for n in hard}
        binding = min(relative, key=relative.__getitem__, default=None)
    return replace(
        plans[0],
        binding=binding,
        slack=None if binding is None else _slack(plans[0], bounds, binding),
        runner_up=plans[1] if len(plans) > 1 else None,
    )


def _unknown_energy(moves: Moves) -> bool:
    known = [moves.device, *(v for cuts in moves.up for _, v in cuts)]
    known += [moves.edge, moves.down] if any(moves.up) else []
    return any(np.isnan(values[..., 1]).any() for values in known)


def _moves(profile: Profile, link: Link, load: float, bounds: Bounds) -> Moves:
    if not 1 <= load < np.inf:
        raise UsageError(f"load is 1 (an idle server) or more, not {load}")
    stages = len(profile.stages)

    def rows(
        busy: Seconds = 0.0,
        sent: Seconds = 0.0,
        received: Seconds = 0.0,
        waited: Seconds = 0.0,
        more: Sequence[tuple[int, Any]] = (),
    ) -> np.ndarray:
        seconds = busy + sent + received + waited
        joules = energy_j(profile, link, busy, sent, received, waited)
        extra = [0.0 * seconds] * 3
        for column, values in more:
            extra[column] = values
        return np.stack([seconds, joules, *extra], 1)

    memory = np.array(profile.memory_bytes or (np.nan,) * stages)
    seconds = unknown_as_nan(profile.device_s or (None,) * stages)
    device = rows(busy=seconds, more=[(1, memory)])
    device[np.isnan(seconds)] = np.inf
    edge = rows(waited=load * np.array(profile.edge_s or (np.inf,) * stages))
    # Never after no stage: the input is on the device.
    outputs = unknown_as_nan((*profile.output_bytes[:-1], profile.reply_bytes))
    air = [receive_s(link, out) for out in outputs]
    half = link.rtt_s / 2
    known = rows(received=np.array(air), waited=half + 0 * outputs)
    down = np.full((stages + 1, 5), np.inf)
    down[stages + 1 - len(known) :] = known
    return Moves(device, edge, _ups(profile, link, bounds, rows), down)


def _ups(profile: Profile, link: Link, bounds: Bounds, rows):
    """The cuts after i stages with what each adds, for every i."""
    up: list[list] = [[] for _ in range(len(profile.stages) + 1)]
    first, cuts = private_depth(profile, bounds), profile.cuts
    if not profile.edge_s or not cuts:
        return tuple(map(tuple, up))
    column = lambda name: unknown_as_nan([getattr(c, name) for c in cuts])  # noqa: E731
    sent = column("sent_bytes")
    lost = unknown_as_nan([profile.quality])[0] - column("quality")
    steps = rows(
        column("encode_s"), np.array([send_s(link, each) for each in sent]),
        0 * sent, link.rtt_s / 2 + column("decode_s"), [(0, sent), (2, lost)],
    )  # fmt: skip
    for cut, step in zip(cuts, steps):
        if (depth := depth_of(profile, cut)) >= first:
            up[depth].append((cut, step))
    return tuple(map(tuple, up))


def _limits(profile: Profile, bounds: Bounds) -> dict[str, float]:
    """Of FIGURES, the most that a path may take."""
    found = {
        figure: getattr(bounds, name)
        for name, figure in BOUNDED.items()
        if figure != "quality" and getattr(bounds, name) is not None
    }
    if bounds.quality is not None:
        whole = np.nan if profile.quality is None else profile.quality
        found["loss"] = whole - bounds.quality
    return found


def _second_split(profile, link, load, bounds, objective) -> float:
    """What the second best single split within the bounds takes; inf: there is none."""
    options = splits(profile, link, load=load)
    try:
        found = choose("", options, bounds, objective, [getattr(options, objective)])
    except UsageError:
        return np.inf
    return getattr(found.runner_up, objective) if found.runner_up else np.inf


Path = list[tuple[str, Cut | None]]  # steps: ("device" | "edge" | "up" | "down", cut)


def _search(
    profile: Profile,
    moves: Moves,
    objective: str,
    limits: dict[str, float],
    ceiling: float = np.inf,
) -> list[Path]:
    """Paths within the limits, best first, among which the best two of all are."""
    names = [objective, *(n for n in limits if n != objective)]
    columns = [FIGURES.index(n) for n in names]
    most = np.array([limits.get(n, np.inf) for n in names], np.float64)
    most[0] = min(most[0], ceiling)
    # NaN: who does not say it keeps no bound.
    cost = lambda v: np.where(np.isnan(v), np.inf, v)[..., columns]  # noqa: E731
    device, edge, down = cost(moves.device), cost(moves.edge), cost(moves.down)
    up = [[cost(step) for _, step in cuts] for cuts in moves.up]
    rest = _rest(device, edge, up, down)
    with np.errstate(invalid="ignore"):
        # NaN, of inf - inf: the end cannot be reached, and no label is as small.
        room = [most + TINY * np.abs(most) - each for each in rest]
    here, there = np.zeros((1, len(names))), np.empty((0, len(names)))
    history = []
    for i in range(len(profile.stages) + 1):
        if i:
            here, there = here + device[i - 1], there + edge[i - 1]
        parts = [here, there + down[i]], [there, *(here + step for step in up[i])]
        (here, of_here), (there, of_there) = (
            _pruned(part, room[side][i]) for side, part in enumerate(parts)
        )
        history.append((of_here, of_there))
    order = np.lexsort(here.T[::-1])
    return [_traced(history, moves, int(k)) for k in order]


def _rest(device, edge, up, down) -> tuple[np.ndarray, np.ndarray]:
    """The least still to come, of each figure apart, on the device and on the edge."""
    stages = len(device)
    here, there = np.zeros_like(down), np.full_like(down, np.inf)
    for i in range(stages - 1, -1, -1):
        up_again = [there[i + 1] + step for step in up[i + 1]]
        here[i] = device[i] + np.min([here[i + 1], *up_again], axis=0)
        back = down[i + 1] + here[i + 1]
        there[i] = edge[i] + np.minimum(there[i + 1], back)
    return here, there


def _pruned(parts: Sequence[np.ndarray], most: np.ndarray):
    """(labels f[L, D] that may still be among the best two, (part, label) of each)."""
    labels = np.concatenate(parts)
    part = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    index = np.concatenate([np.arange(len(p)) for p in parts])
    keep = np.flatnonzero((np.isfinite(labels) & (labels <= most)).all(1))
    if len(keep) > 2:
        keep = keep[np.lexsort(labels[keep].T[::-1])]
        keep = keep[_undominated(labels[keep])]
    return labels[keep], np.stack([part[keep], index[keep]], 1)


def _undominated(rows: np.ndarray) -> np.ndarray:
    """bool[L], of rows in lexical order: fewer than two others are nowhere larger."""
    count = len(rows)
    if rows.shape[1] == 1:
        return np.arange(count) < 2
    if rows.shape[1] == 2:
        values = rows[:, 1]
        least = np.minimum.accumulate(values)
        # The second smallest so far: what falls out when a smaller one comes.
        before = np.concatenate([[np.inf], least[:-1]])
        second = np.minimum.accumulate(np.maximum(values, before))
        return values < np.concatenate([[np.inf], second[:-1]])
    kept: list[int] = []
    mask = np.zeros(count, bool)
    for k in range(count):
        # Who is dominated twice is so by two that stay.
        if (rows[kept] <= rows[k]).all(1).sum() < 2:
            kept.append(k)
            mask[k] = True
    return mask


def _traced(history, moves: Moves, label: int) -> Path:
    """The steps to the label, in their order."""
    steps, side = [], 0
    for i in range(len(history) - 1, -1, -1):
        part, label = history[i][side][label]
        if part:
            cut = moves.up[i][part - 1][0] if side else None
            steps.append(("up" if side else "down", cut))
            side = 1 - side
        if i:
            steps.append((EDGE if side else DEVICE, None))
    return steps[::-1]


def _figures(moves: Moves, path: Path) -> np.ndarray:
    """f[5], summed as the search does."""
    total, done = np.zeros(5), 0
    for kind, cut in path:
        if cut is not None:
            total = total + dict(moves.up[done])[cut]
        elif kind == "down":
            total = total + moves.down[done]
        else:
            total = total + (moves.edge if kind == EDGE else moves.device)[done]
            done += 1
    return total


def _plan(profile: Profile, moves: Moves, path: Path, objective: str) -> Plan:
    latency, energy, sent, memory, lost = _figures(moves, path)
    cuts = tuple(cut for _, cut in path if cut is not None)
    quality = profile.quality
    if len(cuts) == 1:
        quality = cuts[0].quality
    elif cuts:
        quality = None if np.isnan(lost) else float(profile.quality - lost)
    places = tuple(kind for kind, _ in path if kind in (DEVICE, EDGE))
    busy = [s for place, s in zip(places, moves.device[:, 0]) if place == DEVICE]
    return Plan(
        "jointdnn", profile.network, objective, profile.stages,
        places, cuts, None, None,
        float(latency), None if np.isnan(energy) else float(energy), float(sent),
        quality, None if not profile.memory_bytes else float(memory),
        device_s=float(sum(busy) + sum(cut.encode_s for cut in cuts)),
    )  # fmt: skip


def _slack(plan: Plan, bounds: Bounds, name: str) -> float:
    value, bound = getattr(plan, BOUNDED[name]), getattr(bounds, name)
    if value is None:
        return -np.inf
    return value - bound if name == "quality" else bound - value


def _relative(plan: Plan, bounds: Bounds, name: str) -> float:
    slack, bound = _slack(plan, bounds, name), abs(getattr(bounds, name))
    return slack / bound if bound else np.sign(slack) * np.inf if slack else 0.0


def _missed(plan: Plan, bounds: Bounds) -> list[str]:
    names = [n for n in BOUNDED if getattr(bounds, n) is not None]
    return [n for n in names if _slack(plan, bounds, n) < 0]


def _infeasible(profile: Profile, moves: Moves, bounds: Bounds, limits: dict) -> str:
    """The bound that is missed by the least share when all others are kept."""
    start = f"jointdnn: no plan of {profile.network} "
    said = {"quality": profile.quality, "memory_bytes": profile.memory_bytes or None}
    for name, values in said.items():
        if values is None and (bound := getattr(bounds, name)) is not None:
            sign = ">=" if name == "quality" else "<="
            why = f"the profile does not say {name}"
            return f"{start}is known to keep {name} {sign} {bound:g}: {why}"
    near = {}
    for name, figure in BOUNDED.items():
        if getattr(bounds, name) is None:
            continue
        column = "loss" if figure == "quality" else figure
        others = {n: limit for n, limit in limits.items() if n != column}
        for path in _search(profile, moves, column, others)[:1]:
            plan = _plan(profile, moves, path, "")
            near[name] = (_relative(plan, bounds, name), plan)
    if not near:
        if not limits:
            return (
                f"{start}is there: the device cannot run all stages, and no cut that "
                "the bounds allow stands before what it cannot"
            )
        names = [f"{n}={getattr(bounds, n):g}" for n in BOUNDED if getattr(bounds, n)]
        return f"{start}is known to keep {', '.join(names)}, nor all but one of them"
    name = max(near, key=lambda n: near[n][0])
    plan, figure = near[name][1], BOUNDED[name]
    sign = ">=" if name == "quality" else "<="
    return (
        f"{start}keeps {figure} {sign} {getattr(bounds, name):g}: the nearest, "
        f"{plan.name}, takes {getattr(plan, figure):.6g} and misses it by "
        f"{-_slack(plan, bounds, name):.6g}"
    )
