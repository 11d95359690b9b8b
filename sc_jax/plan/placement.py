"""Where exits stand: names of stages in the order of the network. NumPy, no jax.

The first functions place by costs alone: `names` are the S stages after which an exit
may stand, `cost` f[S] what the network takes up to each of them, heads left out, in the
unit of `whole`, the cost of all of it. `dynamic_programme` places by recorded answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.plan.exit_placement import dynamic_programme as dynamic_programme

Places = tuple[str, ...]
QUARTERS = (0.25, 0.5, 0.75)


def explicit(names: Sequence[str], places: Sequence[str]) -> Places:
    """The places given, in the network's order; each is known and stands once."""
    for place in places:
        if place not in names:
            raise unknown("place of an exit", place, names)
    if len(set(places)) < len(places):
        raise UsageError(f"an exit stands once at a place: {', '.join(places)}")
    return tuple(name for name in names if name in places)


def every(names: Sequence[str], step: int, first: int = 0) -> Places:
    """Each `step`-th stage, the `first`-th (from 1 on; 0: the `step`-th) to begin with.

    MSDNet and Phuong and Lampert (2019) place so: first=4, step=2.
    """
    begin = first or step
    if not (step >= 1 and 1 <= begin <= len(names)):
        raise UsageError(
            f"exits at every {step}th stage from the {begin}th on: step is 1 or more, "
            f"first is in 1..{len(names)}"
        )
    return tuple(names[begin - 1 :: step])


def equal_macs(
    names: Sequence[str], cost: Sequence[float], count: int, whole: float = 1.0
) -> Places:
    """`count` exits nearest to equal shares i / (count + 1) of the network's MACs.

    SPINN (Laskaridis et al. 2020), Zero Time Waste (Wolczyk et al. 2021).
    """
    if count < 1:
        raise UsageError(f"count of exits is 1 or more, not {count}")
    even = np.arange(1, count + 1) / (count + 1)
    return shares(names, cost, even.tolist(), whole)


def shares(
    names: Sequence[str],
    cost: Sequence[float],
    wanted: Sequence[float] = QUARTERS,
    whole: float = 1.0,
) -> Places:
    """Exits nearest to these shares of the cost: distinct, least distance in all."""
    given, marks = _cost(names, cost, whole), np.asarray(wanted, np.float64) * whole
    rising = np.concatenate([[0.0], marks.ravel(), [whole]])
    if marks.ndim != 1 or not marks.size or not (np.diff(rising) > 0).all():
        raise UsageError(f"shares rise between 0 and 1, both excluded: {wanted}")
    if len(marks) > len(names):
        raise UsageError(f"{len(marks)} exits asked for, {len(names)} places")
    return tuple(names[i] for i in _nearest(given, marks))


def _cost(names: Sequence[str], cost: Sequence[float], whole: float) -> np.ndarray:
    given = np.asarray(cost, np.float64)
    if given.shape != (len(names),):
        raise UsageError(f"{given.size} costs for {len(names)} places")
    if not np.isfinite(given).all() or (np.diff(given) < 0).any():
        raise UsageError(f"costs never fall along the network: {given.tolist()}")
    if given.size and not (given[0] >= 0 and given[-1] <= whole * (1 + 1e-9)):
        raise UsageError(
            f"costs of places are in 0..whole = {whole:.6g}, not {given[0]:.6g} to "
            f"{given[-1]:.6g}: give whole, the network's, in their unit"
        )
    return given


def _nearest(cost: np.ndarray, marks: np.ndarray) -> list[int]:
    """Rising indices of places, one for each mark, of least total |cost - mark|.

    least[m, s]: of the first m marks among the first s places. Ties: the earlier ones.
    """
    apart = np.abs(cost - marks.reshape(-1, 1))
    least = np.full((len(marks) + 1, len(cost) + 1), np.inf)
    least[0] = 0.0
    for m, s in np.ndindex(apart.shape):
        least[m + 1, s + 1] = min(least[m + 1, s], least[m, s] + apart[m, s])
    chosen, s = [], len(cost)
    for m in range(len(marks), 0, -1):
        while least[m, s - 1] == least[m, s]:
            s -= 1
        s -= 1
        chosen.append(s)
    return chosen[::-1]
