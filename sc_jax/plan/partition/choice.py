"""The best candidate within bounds, the bound that binds, and the next best.

Where none fits, one line names the bound that the nearest candidate misses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.plan.partition.options import LOCAL, POWER, Options, depth_of
from sc_jax.plan.plan import (
    BOUNDED,
    CLOUD,
    DEVICE,
    EDGE,
    Bounds,
    Plan,
    private_depth,
)


def slacks(options: Options, bounds: Bounds) -> dict[str, np.ndarray]:
    """f[C], what each candidate leaves of each bound, below 0 what it misses it by.

    -inf: the figure is not known.
    """
    found = {}
    for name, figure in BOUNDED.items():
        if (bound := getattr(bounds, name)) is None:
            continue
        values = getattr(options, figure)
        slack = values - bound if name == "quality" else bound - values
        found[name] = np.where(np.isnan(slack), -np.inf, slack)
    if needed := private_depth(options.profile, bounds):
        found["private"] = (options.depth - needed).astype(np.float64)
    return found


def choose(
    planner: str,
    options: Options,
    bounds: Bounds,
    objective: str,
    keys: Sequence[np.ndarray],
    more: Mapping[str, tuple[np.ndarray, float]] | None = None,
) -> Plan:
    """The first candidate by the keys, in their order, smaller first, in the bounds.

    Ties go to the earlier candidate. more: further bounds by name, what each candidate
    leaves of one, f[C], and the bound. UsageError where none fits: the bound that
    binds, and by how much the nearest candidate misses it.
    """
    name = options.profile.network
    if not len(options.cut):
        raise UsageError(
            f"{planner}: {name} has no cut to send at, and the device cannot run all "
            "of its stages"
        )
    if np.isnan(keys).any():
        raise UsageError(
            f"{planner}: {objective} is not known of every candidate of {name}: "
            + (POWER if "energy" in objective else "the profile does not say it")
        )
    more = more or {}
    left = slacks(options, bounds) | {n: slack for n, (slack, _) in more.items()}
    sizes = _sizes(options, bounds) | {n: bound for n, (_, bound) in more.items()}
    fits = np.all([slack >= 0 for slack in left.values()], axis=0)
    fits = np.broadcast_to(fits, options.cut.shape)
    if not fits.any():
        raise UsageError(_infeasible(planner, options, bounds, left, sizes))
    order = np.lexsort([*reversed(list(keys))])
    inside = order[fits[order]]
    best = inside[0]
    refused = order[: list(order).index(best)]
    # What is as good was not refused: it only came first.
    refused = refused[np.any([key[refused] != key[best] for key in keys], axis=0)]
    hard = _refusing({n: slack[refused] for n, slack in left.items()})
    relative = {n: _relative(float(left[n][best]), sizes[n]) for n in hard}
    tightest = min(relative, key=relative.__getitem__, default=None)
    next_best = None
    if len(inside) > 1:
        next_best = _plan(planner, options, int(inside[1]), objective)
    return replace(
        _plan(planner, options, int(best), objective),
        binding=tightest,
        slack=float(left[tightest][best]) if tightest else None,
        runner_up=next_best,
    )


def _refusing(left: Mapping[str, np.ndarray]) -> list[str]:
    """The bounds that refuse a candidate by themselves; where each misses several, all.

    left: f[R] of R refused candidates, each below 0 somewhere.
    """
    missed = {name: slack < 0 for name, slack in left.items()}
    count = sum(missed.values())
    alone = [name for name, each in missed.items() if (each & (count == 1)).any()]
    return alone or [name for name, each in missed.items() if each.any()]


def _sizes(options: Options, bounds: Bounds) -> dict[str, float]:
    """The bounds by name, "private" as stages."""
    known = {name: getattr(bounds, name) for name in BOUNDED}
    known["private"] = float(private_depth(options.profile, bounds))
    return {name: bound for name, bound in known.items() if bound is not None}


def _relative(slack: float, bound: float) -> float:
    """Slack as a share of its bound."""
    if bound:
        return slack / abs(bound)
    return float(np.sign(slack)) * np.inf if slack else 0.0


def _infeasible(
    planner: str,
    options: Options,
    bounds: Bounds,
    left: Mapping[str, np.ndarray],
    sizes: Mapping[str, float],
) -> str:
    share = {
        name: np.array([_relative(s, sizes[name]) for s in slack])
        for name, slack in left.items()
    }
    worst = np.min(list(share.values()), axis=0)
    near = int(worst.argmax())
    name = min(share, key=lambda n: share[n][near])
    plan = _plan(planner, options, near, "")
    start = f"{planner}: no plan of {plan.network} "
    if name == "private":
        return (
            f"{start}keeps {bounds.private[-1]} on the device: the nearest, "
            f"{plan.name}, sends {-left[name][near]:.0f} stages too early"
        )
    figure, bound = BOUNDED[name], getattr(bounds, name)
    sign = ">=" if name == "quality" else "<="
    value = getattr(plan, figure)
    if value is None:
        why = POWER if figure == "energy_j" else f"the profile does not say {figure}"
        return f"{start}is known to keep {figure} {sign} {bound:g}: {why}"
    return (
        f"{start}keeps {figure} {sign} {bound:g}: the nearest, {plan.name}, takes "
        f"{value:.6g} and misses it by {-left[name][near]:.6g}"
    )


def _plan(planner: str, options: Options, i: int, objective: str) -> Plan:
    profile, end, depth = options.profile, int(options.end[i]), int(options.depth[i])

    def known(values: np.ndarray) -> float | None:
        return None if np.isnan(values[i]) else float(values[i])

    cuts, edge_end = (), end
    if options.cut[i] != LOCAL:
        cuts = (profile.cuts[options.cut[i]],)
    if options.second[i] != LOCAL:
        cuts = (*cuts, profile.cuts[options.second[i]])
        edge_end = depth_of(profile, cuts[1])
    edge = max(0, edge_end - depth)
    return Plan(
        planner,
        profile.network,
        objective,
        profile.stages[:end],
        (DEVICE,) * min(depth, end) + (EDGE,) * edge + (CLOUD,) * (end - edge_end),
        cuts,
        profile.exits[options.exit[i]].after if options.exit[i] >= 0 else None,
        known(options.threshold),
        float(options.latency_s[i]),
        known(options.energy_j),
        float(options.sent_bytes[i]),
        known(options.quality),
        known(options.memory_bytes),
        device_s=float(options.device_s[i]),
    )
