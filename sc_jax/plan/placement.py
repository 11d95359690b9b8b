"""Where exits stand: names of stages in the order of the network. NumPy, no jax.

`explicit`, `every`, `equal_macs` and `shares` place by costs alone: `names` are the S
stages after which an exit may stand, `cost` f[S] what the network takes up to each of
them, exit classifiers left out, in the unit of `whole`, the cost of all of it.

`dynamic_programme` places by recorded answers, after Chiang et al. (2021, Optimal
Branch Location for Cost-effective Inference on BranchyNet), who prove the choice
NP-complete and solve it optimally in pseudo-polynomial time. Reconstruction: the
recurrence is this library's. Assumed: who is confident at one candidate is confident at
all later ones. Then who comes to a branch depends on the branch kept last before it
alone, and cost and right answers are sums over neighbours. Where the assumption fails
they are predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc_jax.errors import UsageError, unknown

Places = tuple[str, ...]
QUARTERS = (0.25, 0.5, 0.75)


def explicit(names: Sequence[str], places: Sequence[str]) -> Places:
    """Exits at these places, in the network's order; each is known and stands once."""
    for place in places:
        if place not in names:
            raise unknown("place of an exit", place, names)
    if len(set(places)) < len(places):
        raise UsageError(f"an exit stands once at a place: {', '.join(places)}")
    return tuple(name for name in names if name in places)


def every(names: Sequence[str], step: int, first: int = 0) -> Places:
    """Exits after each `step`-th stage, from the `first`-th on.

    first: counted from 1; 0 is the `step`-th. MSDNet (Huang et al. 2018,
    https://arxiv.org/abs/1703.09844) and Phuong and Lampert (2019) place so: first=4,
    step=2.
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
    """`count` exits nearest to equal shares of the network's MACs: i / (count + 1).

    As SPINN (Laskaridis et al. 2020, https://arxiv.org/abs/2008.06402) and Zero Time
    Waste (Wołczyk et al. 2021, https://arxiv.org/abs/2106.05409) do.
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
    known, targets = _cost(names, cost, whole), np.asarray(wanted, np.float64) * whole
    rising = np.concatenate([[0.0], targets.ravel(), [whole]])
    if targets.ndim != 1 or not targets.size or not (np.diff(rising) > 0).all():
        raise UsageError(f"shares rise between 0 and 1, both excluded: {wanted}")
    if len(targets) > len(names):
        raise UsageError(f"{len(targets)} exits for {len(names)} places")
    return tuple(names[i] for i in _nearest(known, targets))


def _cost(names: Sequence[str], cost: Sequence[float], whole: float) -> np.ndarray:
    known = np.asarray(cost, np.float64)
    if known.shape != (len(names),):
        raise UsageError(f"{known.size} costs for {len(names)} places")
    if not np.isfinite(known).all() or (np.diff(known) < 0).any():
        raise UsageError(f"costs never fall along the network: {known.tolist()}")
    if known.size and not (known[0] >= 0 and known[-1] <= whole * (1 + 1e-9)):
        raise UsageError(
            f"costs of places are in 0..whole = {whole:.6g}, not {known[0]:.6g} to "
            f"{known[-1]:.6g}: give whole, the network's, in their unit"
        )
    return known


def _nearest(cost: np.ndarray, targets: np.ndarray) -> list[int]:
    """Rising indices of places, one for each target, of least total |cost - target|.

    least[m, s]: the first m targets among the first s places. Ties: the earlier ones.
    """
    apart = np.abs(cost - targets.reshape(-1, 1))
    least = np.full((len(targets) + 1, len(cost) + 1), np.inf)
    least[0] = 0.0
    for m, s in np.ndindex(apart.shape):
        least[m + 1, s + 1] = min(least[m + 1, s], least[m, s] + apart[m, s])
    chosen, s = [], len(cost)
    for m in range(len(targets), 0, -1):
        while least[m, s - 1] == least[m, s]:
            s -= 1
        s -= 1
        chosen.append(s)
    return chosen[::-1]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Branches at S places, and what each answers on N examples.

    Costs are of one example, in the unit of the budget.
    """

    places: tuple[str, ...]  # [S], in the network's order
    leaves_at: np.ndarray  # i[N], the first branch that is confident; S: none is
    correct: np.ndarray  # bool[S + 1, N], of each branch, and of the network's end
    trunk_cost: np.ndarray  # f64[S + 1], up to each place and to the end, without exits
    exit_cost: np.ndarray  # f64[S], what the exit classifier of each branch adds

    def __post_init__(self) -> None:
        kinds = {
            "leaves_at": int,
            "correct": bool,
            "trunk_cost": float,
            "exit_cost": float,
        }
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        s, n = len(self.places), len(self.leaves_at)
        problem = ""
        if (
            self.correct.shape != (s + 1, n)
            or self.trunk_cost.shape != (s + 1,)
            or self.exit_cost.shape != (s,)
            or not n
        ):
            problem = (
                f"{s} places and {n} examples with answers {list(self.correct.shape)}, "
                f"trunk {list(self.trunk_cost.shape)}, exits "
                f"{list(self.exit_cost.shape)}"
            )
        elif not (self.leaves_at.min() >= 0 and self.leaves_at.max() <= s):
            problem = f"first confident branches are in 0..{s}, one is not"
        elif not np.isfinite([*self.trunk_cost, *self.exit_cost]).all():
            problem = "a cost is NaN or infinite"
        elif min(0, self.trunk_cost[0], *np.diff(self.trunk_cost), *self.exit_cost) < 0:
            problem = "costs of the trunk never fall, those of exits are 0 or more"
        if problem:
            raise UsageError(f"candidates: {problem}")


def first_confident(sure: np.ndarray) -> np.ndarray:
    """i[N], the first of S branches that is sure, S where none is; sure: bool[S, N]."""
    never = np.ones((1, sure.shape[1]), bool)
    return np.concatenate([sure, never]).argmax(0)


def stays_confident(sure: np.ndarray) -> float:
    """Share of the examples for which the assumption holds; sure: bool[S, N]."""
    return float((sure == np.logical_or.accumulate(sure)).all(0).mean())


def expected(candidates: Candidates, places: Sequence[str]) -> tuple[float, float]:
    """(mean cost, accuracy) with exits at these places alone, by the assumption."""
    for place in places:
        if place not in candidates.places:
            raise unknown("place of an exit", place, candidates.places)
    end = len(candidates.places)
    kept = [*(i for i, p in enumerate(candidates.places) if p in places), end]
    exits = np.append(candidates.exit_cost, 0.0)[kept]
    cost = candidates.trunk_cost[kept] + np.cumsum(exits)
    taken = np.searchsorted(kept, candidates.leaves_at)
    own = np.arange(len(taken))
    correct = candidates.correct[np.asarray(kept)[taken], own]
    return float(cost[taken].mean()), float(correct.mean())


def dynamic_programme(candidates: Candidates, budget: float) -> tuple[str, ...]:
    """The places with most right answers at a mean cost within `budget`, as recorded.

    Of equals the cheapest. least[j, r]: the least cost at which r answers are right
    when j is kept and what stands behind it is still to come. So the steps grow with N
    and costs may be any numbers, where Chiang et al. count integer time.
    """
    answers, paid = _between(candidates)
    end, examples = len(candidates.places) + 1, len(candidates.leaves_at)
    least = np.full((end + 1, examples + 1), np.inf)
    least[0, 0] = 0.0
    before = np.zeros(least.shape, int)
    for j in range(1, end + 1):
        for i in range(j):
            gain = answers[i, j]
            # r answers by j come from r - gain by i, whatever stood before i.
            cost = least[i, : examples + 1 - gain] + paid[i, j]
            better = cost < least[j, gain:]
            least[j, gain:][better] = cost[better]
            before[j, gain:][better] = i
    # Costs are sums of floats: a budget taken from one of them must still fit.
    fits = np.flatnonzero(least[end] <= budget * (1 + 1e-9))
    right = int(fits[-1] if fits.size else least[end].argmin())
    kept, j = [], end
    while i := int(before[j, right]):
        kept.append(candidates.places[i - 1])
        right, j = right - int(answers[i, j]), i
    places = tuple(reversed(kept))
    if not fits.size:
        raise UsageError(
            f"no places of exits meet a mean cost of {budget:.6g}: the cheapest "
            f"({', '.join(places) or 'none'}) take {least[end].min():.6g}, the network "
            f"without exits {candidates.trunk_cost[-1]:.6g}"
        )
    return places


def _between(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """(right answers i[S + 2, S + 2], mean cost f[...]) of going from i straight to j.

    0 is the input, S + 1 the end; no exit stands between i and j. Of those that i lets
    on, all pay for the stages up to j and for its exit, and those confident by then
    answer there.
    """
    s, n = len(candidates.places), len(candidates.leaves_at)
    # of_first[j, f]: answered rightly at j by those first confident at f
    sure_at = np.eye(s + 1, dtype=int)[candidates.leaves_at]
    of_first = candidates.correct.astype(int) @ sure_at
    still = n - np.concatenate([[0], np.cumsum(sure_at.sum(0))[:-1]])
    trunk = np.concatenate([[0.0], candidates.trunk_cost])
    exits = np.concatenate([[0.0], candidates.exit_cost, [0.0]])
    answers, paid = np.zeros((s + 2, s + 2), int), np.zeros((s + 2, s + 2))
    for j in range(1, s + 2):
        for i in range(j):
            answers[i, j] = of_first[j - 1, i:j].sum()
            paid[i, j] = still[i] / n * (trunk[j] - trunk[i] + exits[j])
    return answers, paid
