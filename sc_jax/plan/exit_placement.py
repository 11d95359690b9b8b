"""Which of many trained branches to keep, by a dynamic programme. NumPy, no jax.

After Chiang et al. (2021), who prove the choice NP-complete and solve it optimally in
pseudo-polynomial time. Reconstruction: the recurrence is this library's.

Assumed: who is confident at one candidate is confident at all later ones. Then who
comes to a branch depends on the branch kept last before it alone, and cost and right
answers are sums over neighbours. Where the assumption fails they are predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc_jax.errors import UsageError, unknown


@dataclass(frozen=True, eq=False)
class Candidates:
    """Branches at S places, all asked about N examples.

    Costs are of one example, in the unit in which the budget will be given.
    """

    places: tuple[str, ...]  # [S], in the network's order
    first: np.ndarray  # i[N], the first branch that is confident; S: none is
    right: np.ndarray  # bool[S + 1, N], of each branch, and of the network's end
    trunk: np.ndarray  # f64[S + 1], up to each place and to the end, heads left out
    heads: np.ndarray  # f64[S], what asking each branch adds

    def __post_init__(self) -> None:
        kinds = {"first": int, "right": bool, "trunk": float, "heads": float}
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        s, n = len(self.places), len(self.first)
        problem = ""
        if (
            self.right.shape != (s + 1, n)
            or self.trunk.shape != (s + 1,)
            or self.heads.shape != (s,)
            or not n
        ):
            problem = (
                f"{s} places and {n} examples with answers "
                f"{list(self.right.shape)}, trunk {list(self.trunk.shape)}, heads "
                f"{list(self.heads.shape)}"
            )
        elif not (self.first.min() >= 0 and self.first.max() <= s):
            problem = f"first confident branches are in 0..{s}, one is not"
        elif not np.isfinite([*self.trunk, *self.heads]).all():
            problem = "a cost is NaN or infinite"
        elif min(0, self.trunk[0], *np.diff(self.trunk), *self.heads) < 0:
            problem = "costs of the trunk never fall, those of heads are 0 or more"
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
    heads = np.append(candidates.heads, 0.0)[kept]
    cost = candidates.trunk[kept] + np.cumsum(heads)
    taken = np.searchsorted(kept, candidates.first)
    own = np.arange(len(taken))
    right = candidates.right[np.asarray(kept)[taken], own]
    return float(cost[taken].mean()), float(right.mean())


def dynamic_programme(candidates: Candidates, budget: float) -> tuple[str, ...]:
    """The places that answer most examples rightly at a mean cost within `budget`.

    Of equals the cheapest. least[j, r]: the least cost at which r answers are right
    when j is kept and what stands behind it is still to come. So the steps grow with N
    and costs may be any numbers, where Chiang et al. count integer time.
    """
    answers, paid = _between(candidates)
    end, examples = len(candidates.places) + 1, len(candidates.first)
    least = np.full((end + 1, examples + 1), np.inf)
    least[0, 0] = 0.0
    before = np.zeros(least.shape, int)
    for j in range(1, end + 1):
        for i in range(j):
            gain = answers[i, j]
            cost = least[i, : examples + 1 - gain] + paid[i, j]
            better = cost < least[j, gain:]
            least[j, gain:][better] = cost[better]
            before[j, gain:][better] = i
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
            f"without exits {candidates.trunk[-1]:.6g}"
        )
    return places


def _between(candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """(right answers i[S + 2, S + 2], mean cost f[...]) of going from i straight to j.

    0 is the input, S + 1 the end; i asks nobody else before j. Of those that i lets on,
    all pay for the way to j and for its head, and those confident by then answer there.
    """
    s, n = len(candidates.places), len(candidates.first)
    # of_first[j, f]: answered rightly at j by those first confident at f
    sure_at = np.eye(s + 1, dtype=int)[candidates.first]
    of_first = candidates.right.astype(int) @ sure_at
    still = n - np.concatenate([[0], np.cumsum(sure_at.sum(0))[:-1]])
    trunk = np.concatenate([[0.0], candidates.trunk])
    heads = np.concatenate([[0.0], candidates.heads, [0.0]])
    answers, paid = np.zeros((s + 2, s + 2), int), np.zeros((s + 2, s + 2))
    for j in range(1, s + 2):
        for i in range(j):
            answers[i, j] = of_first[j - 1, i:j].sum()
            paid[i, j] = still[i] / n * (trunk[j] - trunk[i] + heads[j])
    return answers, paid
