"""Exit, split, rate and threshold at once, with a bound on what the plan gets wrong.

No exit, each exit alone, or all with one threshold between them; each cut of the
profile (a rate of a codec is a cut of its own); and a grid of thresholds are one
search: other sets of exits, and a threshold an exit, are not tried. What a plan loses
against the whole network is at most `max_risk`, with probability 1 - delta over the
recorded examples, though it was chosen on them: Pareto testing (Laufer-Goldshtein et
al. 2023, https://arxiv.org/abs/2210.07913) orders candidates on one half, from surely
harmless to cheap, and tests them on the other in that order until the first failure
(fixed sequence testing, Angelopoulos et al. 2021, https://arxiv.org/abs/2110.01052);
all before it hold together. Any order of the first half is valid: it is that of the
test's capital to second order, which sums over inputs give, of all cuts and thresholds
in two matrix products.
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
class Grid:
    """G ways to leave early: no exit, each alone, all with one threshold.

    exits: of each, indices; thresholds f[G], NaN for no exit; depth i[G]: stages to the
    last of its exits.
    """

    exits: tuple[tuple[int, ...], ...]
    thresholds: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True, eq=False)
class Left:
    """What N inputs do at each of G ways to leave.

    stays: bool[G, N], whom nobody answered; right: f[G, N], the quality of the others'
    answers, else 0; left_s: f[G], the others' seconds on the device, as a mean over
    all; exits_s: f[G], of all exits.
    """

    stays: np.ndarray
    right: np.ndarray
    left_s: np.ndarray
    exits_s: np.ndarray


@dataclass(frozen=True, eq=False)
class Tried:
    """P candidates on records: means in `options`; slowest_s f[P].

    way: i[P] of the grid; last: f[C, N], the quality of the network's own answer by
    cut; cut: i[P] of those.
    """

    options: Options
    slowest_s: np.ndarray
    left: Left
    way: np.ndarray
    last: np.ndarray
    cut: np.ndarray
    whole: np.ndarray

    def losses(self, rows: np.ndarray) -> np.ndarray:
        """f[R, N] of some candidates, in -1..1."""
        way = self.way[rows]
        own = self.last[self.cut[rows]]
        return self.whole - np.where(self.left.stays[way], own, self.left.right[way])

    def sums(self, power: int) -> np.ndarray:
        """f[P]: the sums of the losses, or of their squares."""
        stays = self.left.stays.astype(np.float64)
        answered = ((1 - stays) * (self.whole - self.left.right) ** power).sum(1)
        sent = stays @ ((self.whole - self.last) ** power).T
        return sent[self.way, self.cut] + answered[self.way]


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
    capital = _capital(designed, max_risk, delta)
    path = _frontier(-capital, getattr(designed.options, objective), inside)
    tested = replace(
        designed,
        left=_left(profile, held, grid),
        last=_last(profile, held),
        whole=held.whole,
    )
    p_values = betting(_unit(tested.losses(path)), _unit(max_risk), delta)
    # All of these hold together, so that the choice among them may see every record.
    proven = _proven(whole.options, path, fixed_sequence(p_values, delta))
    if not (proven & _fits(whole, bounds)).any():
        raise UsageError(_unproven(profile, whole.losses(path[:1])[0], max_risk, delta))
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
    options, lost = whole.options, whole.sums(1) / whole.whole.size
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


def _grid(profile: Profile, score: np.ndarray, points: int) -> Grid:
    """None, each exit alone, all with one threshold: quantiles of the scores."""
    count = len(profile.exits)
    sets = [(k,) for k in range(count)] + ([tuple(range(count))] if count > 1 else [])
    shares = np.arange(points) / points
    thresholds = [np.quantile(score[list(s)], shares)[::-1] for s in sets]
    exits = ((), *(s for s in sets for _ in shares))
    ends = [profile.stages.index(e.after) + 1 for e in profile.exits]
    depth = [max((ends[k] for k in some), default=0) for some in exits]
    return Grid(exits, np.concatenate([[np.nan], *thresholds]), np.array(depth))


def _left(profile: Profile, records: Records, grid: Grid) -> Left:
    """Who leaves where, way by way."""
    device = cumulative(profile.device_s, len(profile.stages))
    shape = (len(grid.exits), records.whole.size)
    stays, right = np.ones(shape, bool), np.zeros(shape)
    left_s, exits_s = np.zeros(shape[0]), np.zeros(shape[0])
    for some in dict.fromkeys(grid.exits):
        ways = np.array([own == some for own in grid.exits])
        for k in some:
            exits_s[ways] += profile.exits[k].device_s
            at = profile.stages.index(profile.exits[k].after) + 1
            sure = records.score[k] >= grid.thresholds[ways, None]
            leaves = stays[ways] & sure
            spent_s = device[at] + exits_s[ways]
            left_s[ways] += leaves.mean(1) * np.where(leaves.any(1), spent_s, 0.0)
            right[ways] += np.where(leaves, records.right[k], 0.0)
            stays[ways] &= ~sure
    return Left(stays, right, left_s, exits_s)


def _last(profile: Profile, records: Records) -> np.ndarray:
    """f[C, N] of all candidates: the quality of the last answer over each."""
    cut, _ = candidates(profile, len(profile.stages))
    rows = np.concatenate([records.behind, records.whole[None]])
    return rows[cut]  # LOCAL, -1, is the last


def _tried(
    profile: Profile, link: Link, load: float, records: Records, grid: Grid
) -> Tried:
    """Every cut with the exits of the grid that stand before it."""
    end = len(profile.stages)
    cuts, depths = candidates(profile, end)
    device, edge = (cumulative(s, end) for s in (profile.device_s, profile.edge_s))
    own, way = (grid.depth <= depths[:, None]).nonzero()
    left, last = _left(profile, records, grid), _last(profile, records)
    cut, depth = cuts[own], depths[own]
    alone = np.array([some[0] if len(some) == 1 else -1 for some in grid.exits])
    slowest_s = device[depth] + left.exits_s[way]
    stays = left.stays.mean(1)[way]
    sends = cut != LOCAL
    edge_s = np.where(sends, load * (edge[end] - edge[depth]), 0.0)
    price = partial(
        priced, profile, link, cut, depth,
        answers=0.0, end=end, exit=alone[way], threshold=grid.thresholds[way],
    )  # fmt: skip
    share = stays * sends
    spent_s = left.left_s[way] + stays * slowest_s
    means = price(device_s=spent_s, edge_s=share * edge_s, share=share)
    # As if all were sent: what the deadline is about.
    worst = price(device_s=slowest_s, edge_s=edge_s, share=sends.astype(np.float64))
    tried = Tried(means, worst.latency_s, left, way, last, own, records.whole)
    quality = records.whole.mean() - tried.sums(1) / records.whole.size
    return replace(tried, options=replace(means, quality=quality))


def _capital(tried: Tried, max_risk: float, delta: float) -> np.ndarray:
    """f[P]: the logarithm of what `betting` gains, to second order, by one bet each.

    As there, of losses in 0..1, and with the same observation more for the variance.
    """
    n, epsilon = tried.whole.size, _unit(max_risk)
    total, squares = tried.sums(1), tried.sums(2)
    mean = _unit(total / n)
    spread = np.maximum(squares - total**2 / n, 0.0) / 4
    bets = np.sqrt(2 * math.log(1 / delta) * (n + 1) / (n * (0.25 + spread)))
    bets = np.minimum(bets, 0.75 / (1 - epsilon))
    gained = n * (epsilon - mean)
    return bets * gained - bets**2 / 2 * (spread + gained**2 / n)


def _fits(tried: Tried, bounds: Bounds) -> np.ndarray:
    """bool[P]: within all bounds, the deadline by the slowest input."""
    slow = replace(tried.options, latency_s=tried.slowest_s)
    kept = np.ones(tried.slowest_s.shape, bool)
    for slack in slacks(slow, bounds).values():
        kept &= slack >= 0
    return kept


def _frontier(
    risk: np.ndarray, objective: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """i[...], of those inside: from the safest on, each better in the objective."""
    if np.isnan(objective[inside]).any():
        raise UsageError(f"joint: the objective is not known of every plan: {POWER}")
    order = np.lexsort([objective, risk])
    order = order[inside[order]]
    least = np.minimum.accumulate(objective[order])
    first = np.concatenate([[True], least[1:] < least[:-1]])
    return order[first]


def _rows(options: Options, rows: np.ndarray) -> Options:
    names = [n for n in Options.__dataclass_fields__ if n != "profile"]
    return Options(options.profile, **{n: getattr(options, n)[rows] for n in names})
