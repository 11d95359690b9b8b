"""Exit, split, rate and threshold at once, with a bound on what the plan gets wrong.

No exit, each exit alone, or all with one threshold between them; each cut of the
profile (a rate of a codec is a cut of its own); and a grid of thresholds are one
search: other sets of exits, and a threshold an exit, are not tried. What a plan loses
against the whole network is at most `max_risk`, with probability 1 - delta over the
recorded examples, though it was chosen on them: Pareto testing (Laufer-Goldshtein et
al. 2023, https://arxiv.org/abs/2210.07913) orders candidates on one half, from surely
harmless to cheap, and tests them on the other in that order until the first failure
(fixed sequence testing, Angelopoulos et al. 2021, https://arxiv.org/abs/2110.01052);
all before it hold together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np

from sc_jax import spec
from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.p_values import betting, fixed_sequence
from sc_jax.plan.partition.choice import choose, slacks
from sc_jax.plan.partition.options import (
    LOCAL,
    POWER,
    Load,
    Objective,
    Options,
    candidates,
    check_order,
    cumulative,
    priced,
)
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Certified, Plan
from sc_jax.plan.profile import Profile
from sc_jax.plan.recorded import Records
from sc_jax.spec import Knob


@dataclass(frozen=True, eq=False)
class Tried:
    """P candidates on records: means in `options`; slowest_s f[P], losses f[P, N]."""

    options: Options
    slowest_s: np.ndarray
    losses: np.ndarray


def joint(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    records: Records,
    max_risk: Annotated[float, Knob("quality lost at most", above=0, below=1)] = 0.01,
    delta: Annotated[float, Knob("chance to lose more", above=0, below=1)] = 0.1,
    points: Annotated[int, Knob("thresholds of the grid", at_least=1)] = 20,
    objective: Objective = "latency_s",
    load: Load = 1.0,
    seed: int = 0,
) -> Plan:
    """Exit x split x rate x threshold under bounds, a certified risk among them.

    The deadline holds for every input, also one that no exit answers; latency_s and
    energy_j of the plan are means over the records. UsageError where the bounds leave
    nothing, or nothing of what they leave can be certified. The whole network on the
    device is no worse than itself, which needs no proof.
    """
    _check(profile, max_risk=max_risk, delta=delta, points=points, load=load)
    records = records.of(profile)
    order = np.random.default_rng(seed).permutation(records.whole.size)
    halves = order[: order.size // 2], order[order.size // 2 :]
    design, held = (records.take(rows) for rows in halves)
    grid = _grid(profile, design.score, points)
    designed = _tried(profile, link, load, design, grid)
    whole = _tried(profile, link, load, records, grid)
    inside = _fits(designed, bounds)
    if not inside.any():  # its line says which bound, and by how much
        # Of the same half: on all records one may fit that nothing has certified.
        slowest = replace(designed.options, latency_s=designed.slowest_s)
        return choose("joint", slowest, bounds, objective, [designed.slowest_s])
    p_values = betting(_unit(designed.losses), _unit(max_risk), delta)
    path = _frontier(p_values, getattr(designed.options, objective), inside)
    tested = _tried(profile, link, load, held, grid).losses[path]
    p_values = betting(_unit(tested), _unit(max_risk), delta)
    # All of these hold together, so that the choice among them may see every record.
    proven = _proven(whole.options, path, fixed_sequence(p_values, delta))
    if not (proven & _fits(whole, bounds)).any():
        raise UsageError(_unproven(profile, whole.losses[path[0]], max_risk, delta))
    plan = _chosen(whole, bounds, objective, proven, path, max_risk)
    assert plan.quality is not None, "records have every quality"
    lost = float(records.whole.mean()) - plan.quality
    size, score = records.whole.size, records.score_name
    known = Certified(max_risk, delta, records.split, size, lost, score)
    return replace(plan, certified=known)


def needed(max_risk: float, delta: float) -> int:
    """How many records certify a plan that loses on none of them: fewer, nothing.

    To a hundredth; the lossless plan is tested on half of them.
    """

    def enough(n: int) -> bool:
        # One row of losses that are all 0, as `joint` tests them.
        return betting(np.full(n, _unit(0.0)), _unit(max_risk), delta) <= delta

    # No bet gains more than the largest, from the first example on.
    most = math.log1p(0.75 / (1 - _unit(max_risk)) * max_risk / 2)
    low = high = max(1, math.ceil(-math.log(delta) / most))
    while not enough(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return 2 * high


def _proven(options: Options, path: np.ndarray, last: np.ndarray) -> np.ndarray:
    """bool[P]: the path to its `last` proven candidate, and what needs no proof."""
    proven = (options.cut == LOCAL) & np.isnan(options.threshold)
    proven[path[: int(last) + 1]] = True
    return proven


def _unproven(profile: Profile, losses: np.ndarray, max_risk, delta) -> str:
    least = needed(max_risk, delta)
    if losses.size < least:
        return (
            f"joint: {losses.size} records certify nothing at max_risk {max_risk:g} "
            f"and delta {delta:g}: at least {least:,} are needed"
        )
    return (
        f"joint: no plan of {profile.network} within the bounds is surely at most "
        f"{max_risk:g} worse than the whole network (delta {delta:g}, "
        f"{losses.size} records): the safest loses {losses.mean():.4f}; record more or "
        "allow more"
    )


def _chosen(
    whole: Tried,
    bounds: Bounds,
    objective: str,
    proven: np.ndarray,
    path: np.ndarray,
    max_risk: float,
) -> Plan:
    """The best that is proven and within the bounds."""
    options, lost = whole.options, whole.losses.mean(1)
    slack = max_risk - lost
    slack[proven] = np.maximum(slack[proven], 0.0)
    failed = np.setdiff1d(path, np.flatnonzero(proven))
    slack[failed] = np.minimum(slack[failed], -np.finfo(float).tiny)
    # Who was never tested, as a safer one was as fast, is refused by no bound.
    refused = (slack < 0) | ~_fits(whole, bounds)
    rows = np.flatnonzero(proven | (refused & ~np.isnan(getattr(options, objective))))
    more = {"max_risk": (slack[rows], max_risk)}
    if bounds.deadline_s is not None:
        # Kept by every input, not by the mean that `choose` would read.
        more["deadline_s"] = (
            bounds.deadline_s - whole.slowest_s[rows],
            bounds.deadline_s,
        )
    kept = _rows(options, rows)
    rest = replace(bounds, deadline_s=None)
    keys = [getattr(kept, objective)]
    return choose("joint", kept, rest, objective, keys, more)


def _check(profile: Profile, **knobs: float) -> None:
    known = spec.knobs_of(joint, skip=3)
    spec.check("planner joint", {name: known[name] for name in knobs}, knobs)
    check_order("joint", profile)


def _unit(losses):
    """Losses in -1..1, and their bound, in 0..1."""
    return (losses + 1) / 2


def _grid(profile: Profile, score: np.ndarray, points: int) -> list[tuple]:
    """(exits, thresholds f[points]): none, each alone, all with one threshold."""
    count = len(profile.exits)
    sets = [(k,) for k in range(count)] + ([tuple(range(count))] if count > 1 else [])
    shares = np.arange(points) / points
    grid: list[tuple] = [((), np.array([np.nan]))]
    return grid + [(s, np.quantile(score[list(s)], shares)[::-1]) for s in sets]


def _tried(
    profile: Profile, link: Link, load: float, records: Records, grid: list[tuple]
) -> Tried:
    """Every cut with the exits of the grid that stand before it."""
    end = len(profile.stages)
    before = [profile.stages.index(e.after) + 1 for e in profile.exits]
    device = cumulative(profile.device_s, end)
    rows, losses = [], []
    for cut, depth in zip(*candidates(profile, end)):
        last = records.behind[cut] if cut != LOCAL else records.whole
        for exits, thresholds in grid:
            if any(before[k] > depth for k in exits):
                continue
            spent, stays, right = _left(profile, records, exits, thresholds, depth)
            most_s = device[depth] + sum(profile.exits[k].device_s for k in exits)
            right = np.where(stays, last, right)
            losses.append(records.whole - right)
            exit = np.full(len(right), exits[0] if len(exits) == 1 else -1)
            place = np.full(len(right), cut), np.full(len(right), depth)
            means = spent.mean(1), 0 * exit + most_s, stays.mean(1), right.mean(1)
            rows.append(np.stack([*place, exit, thresholds, *means]))
    cut, depth, exit, thresholds, *means = np.concatenate(rows, 1)
    cut, depth, exit = cut.astype(int), depth.astype(int), exit.astype(int)
    spent_s, slowest_s, share, right = means
    sends = cut != LOCAL
    edge = cumulative(profile.edge_s, end)
    edge_s = np.where(sends, load * (edge[end] - edge[depth]), 0.0)
    price = partial(
        priced, profile, link, cut, depth,
        answers=0.0, end=end, exit=exit, threshold=thresholds,
    )  # fmt: skip
    share = share * sends
    means = price(device_s=spent_s, edge_s=share * edge_s, share=share)
    # As if all were sent: what the deadline is about.
    worst = price(device_s=slowest_s, edge_s=edge_s, share=sends.astype(np.float64))
    options = replace(means, quality=right)
    return Tried(options, worst.latency_s, np.concatenate(losses))


def _left(
    profile: Profile, records: Records, exits: tuple, thresholds: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(seconds on the device, whether nobody answered, quality where somebody did).

    [T, N], at each of T thresholds of the exits on the device's first `depth` stages.
    """
    device = cumulative(profile.device_s, len(profile.stages))
    stays = np.ones((len(thresholds), records.whole.size), bool)
    every = device[depth] + sum(profile.exits[k].device_s for k in exits)
    spent, right = np.full(stays.shape, every), np.zeros(stays.shape)
    passed = 0.0
    for k in exits:
        passed += profile.exits[k].device_s
        at = profile.stages.index(profile.exits[k].after) + 1
        leaves = stays & (records.score[k] >= thresholds[:, None])
        spent = np.where(leaves, device[at] + passed, spent)
        right = np.where(leaves, records.right[k], right)
        stays &= ~leaves
    return spent, stays, right


def _fits(tried: Tried, bounds: Bounds) -> np.ndarray:
    """bool[P]: within all bounds, the deadline by the slowest input."""
    slow = replace(tried.options, latency_s=tried.slowest_s)
    kept = np.ones(tried.slowest_s.shape, bool)
    for slack in slacks(slow, bounds).values():
        kept &= slack >= 0
    return kept


def _frontier(
    p_values: np.ndarray, objective: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """i[...], of those inside: from the safest on, each better in the objective."""
    if np.isnan(objective[inside]).any():
        raise UsageError(f"joint: the objective is not known of every plan: {POWER}")
    order = np.lexsort([objective, p_values])
    order = order[inside[order]]
    least = np.minimum.accumulate(objective[order])
    first = np.concatenate([[True], least[1:] < least[:-1]])
    return order[first]


def _rows(options: Options, rows: np.ndarray) -> Options:
    names = [n for n in Options.__dataclass_fields__ if n != "profile"]
    return Options(options.profile, **{n: getattr(options, n)[rows] for n in names})
