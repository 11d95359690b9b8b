"""Several crossings between device and edge, after JointDNN (Eshratifar et al. 2019).

JointDNN: an efficient training and inference engine for intelligent mobile cloud
computing services, https://arxiv.org/abs/1801.08618. A shortest path over (stages done,
place): a stage costs its seconds at its place, a crossing up one of the cuts there, a
crossing down the stage's output_bytes, uncoded. Each crossing takes half a round trip.
JointDNN hands its constrained problems to an integer programme; here labels that no
two others dominate stay, so that the best and the next best path are exact, and of
those none that its Lagrangian bound shows to end above two known paths (multipliers).

Assumed: what several lossy cuts cost in quality adds up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, receive_s, send_s
from sc_jax.plan.partition.labels import Bounded, bounded, paths
from sc_jax.plan.partition.multipliers import (
    Chain,
    longest,
    multipliers,
    second_best,
    shortest_path,
    sums,
)
from sc_jax.plan.partition.options import (
    POWER,
    TINY,
    Load,
    Objective,
    energy_j,
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
from sc_jax.plan.profile import INPUT, Cut, Profile

Seconds = float | np.ndarray
FIGURES = ("latency_s", "energy_j", "sent_bytes", "memory_bytes", "loss")
KEPT = 3  # rows of multipliers that discard labels
FACTORS = 2.0, 8.0  # of the best row, more rows


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
    found = _search(moves, objective, limits)
    every = (_plan(profile, moves, path, objective) for path in found)
    plans = list(islice((p for p in every if not _missed(p, bounds)), 2))
    if not plans:
        raise UsageError(_infeasible(profile, moves, bounds, limits))
    binding = None
    if limits:
        free = _plan(profile, moves, _free(moves, objective), objective)
        hard = _missed(free, bounds)
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
    if profile.device_j:
        device[:, 1] = profile.device_j
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
    depths = {name: depth for depth, name in enumerate((INPUT, *profile.stages))}
    for cut, step in zip(cuts, steps):
        if (depth := depths[cut.after]) >= first:
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


Path = list[tuple[str, Cut | None]]  # steps: ("device" | "edge" | "up" | "down", cut)


def _search(
    moves: Moves,
    objective: str,
    limits: dict[str, float],
) -> Iterator[Path]:
    """Paths within the limits, best first, among which the best two of all are."""
    names = [objective, *(n for n in limits if n != objective)]
    chain = _chain(moves, [FIGURES.index(n) for n in names])
    most = np.array([limits.get(n, np.inf) for n in names], np.float64)
    own, rows = most[0], np.eye(len(names))[1:]
    if len(names) > 1:
        found = multipliers(chain, most[1:])[-KEPT:]
        # Of more for the limits paths are within them that the best bound's are not.
        more = [found[-1:] * [1.0, *[factor] * (len(names) - 1)] for factor in FACTORS]
        rows = np.concatenate([rows, *more, found])
    else:
        rows = np.ones((1, 1))
    known = bounded(chain, rows)
    before = -np.inf
    for top in _tops(known, most[1:]):
        most[0] = min(top, own)
        for figures, taken in zip(*paths(known, most)):
            if figures[0] > before:
                yield _steps(moves, taken)
        if top >= own:
            return
        before = top + TINY * abs(top)


def _tops(known: Bounded, limits: np.ndarray) -> list[float]:
    """Lengths to look up to in turn, from near the lower bound to two known paths.

    Near it few labels remain, and most often the best two paths are there.
    """
    chain, weights = known.chain, known.weights
    by = known.over[0].min((0, 1)) - weights[:, 1:] @ limits
    least = float(by[weights[:, 0] == 1].max())
    before = sums(chain.backwards, weights, known.before[::-1])[::-1]
    after = sums(chain, weights, known.after)
    top, share = second_best(chain, before, after, limits), 1 / 16
    if not np.isfinite(top):
        # No two are known to be within the limits: then any may be.
        top, share = longest(chain), 4.0**-8
    if not np.isfinite(top):  # there is no path
        return []
    if not top > least:
        return [top]
    shares = [share * 4**k for k in range(9) if share * 4**k < 1]
    return [*(least + each * (top - least) for each in shares), top]


def _chain(moves: Moves, columns: Sequence[int]) -> Chain:
    """Of some figures, without NaN: who does not say it keeps no bound."""
    most = max(len(cuts) for cuts in moves.up)
    into = np.full((len(moves.up), 2, 1 + max(most, 1), len(FIGURES)), np.inf)
    into[:, :, 0], into[:, 0, 1] = 0.0, moves.down
    for i, cuts in enumerate(moves.up):
        for k, (_, step) in enumerate(cuts):
            into[i, 1, 1 + k] = step
    stage = np.stack([moves.device, moves.edge], 1)
    known = (np.where(np.isnan(v), np.inf, v)[..., columns] for v in (stage, into))
    return Chain(*known)


def _steps(moves: Moves, taken: np.ndarray) -> Path:
    """The steps of the crossings taken at every place, 0 for none."""
    steps, side = [], 0
    for i, step in enumerate(taken):
        if step:
            steps.append(("down", None) if side else ("up", moves.up[i][step - 1][0]))
            side = 1 - side
        if i < len(taken) - 1:
            steps.append((EDGE if side else DEVICE, None))
    return steps


def _free(moves: Moves, objective: str) -> Path:
    """The shortest path without limits."""
    return _steps(moves, shortest_path(_chain(moves, [FIGURES.index(objective)])))


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
        for path in islice(_search(moves, column, others), 1):
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
