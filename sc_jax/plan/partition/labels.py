"""Label setting along a chain of two sides: what paths cost, of those that may win.

A label is f[D], what a path has cost so far in D figures; it is dropped where a bound
shows that it ends too high, or where two others are nowhere larger. Where all paths
that may win stand on one side of a place, the chain falls into sections in series,
each with few paths through it: those are merged from the widest section on into two
halves, so that long products of their choices are never written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc_jax.plan.partition.multipliers import Chain, remaining, spent, weighted
from sc_jax.plan.partition.options import TINY

FEW = 12  # labels that are not worth comparing
BLOCK = 128  # labels that are compared at once
EARLIER = np.triu(np.ones((BLOCK, BLOCK), bool), 1)
PAIRS = 1 << 18  # of both halves, that are joined at once


@dataclass(frozen=True, eq=False)
class Paths:
    """K paths: figures f[K, D], reduced f[K, M], what each row of weights has over its
    least, and what was taken, i[K, T]: crossings of T places, 0 for none, or choices.
    """

    figures: np.ndarray
    reduced: np.ndarray
    taken: np.ndarray

    def of(self, rows: np.ndarray) -> Paths:
        """Some of them."""
        return Paths(self.figures[rows], self.reduced[rows], self.taken[rows])


@dataclass(frozen=True, eq=False)
class Bounded:
    """A chain with what M rows of weights say of its steps: Lagrangian bounds.

    before, after: f[S + 1, 2, M], the least up to each place and behind it; over: f[S +
    1, 2, U, M], of all paths by a step.
    """

    chain: Chain
    weights: np.ndarray
    before: np.ndarray
    after: np.ndarray
    over: np.ndarray


def bounded(chain: Chain, weights: np.ndarray) -> Bounded:
    """The chain with its bounds."""
    before, after = spent(chain, weights), remaining(chain, weights)
    over = before[:, chain.source] + weighted(chain.into, weights) + after[:, :, None]
    return Bounded(chain, weights, before, after, over)


def paths(known: Bounded, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(figures f[P, D], crossings i[P, S + 1]) of the best paths, the best first.

    most: f[D], of each figure. At least two that are surely within `most` are among
    them, and all that are as good as those, where there are so many.
    """
    weights, places = known.weights, len(known.over)
    none = np.empty((0, len(most))), np.empty((0, places), int)
    # A weight of 0 is of no limit at all, which is inf.
    parts = np.zeros_like(weights)
    np.multiply(weights, most, out=parts, where=weights != 0)
    room = parts.sum(1) + TINY * np.abs(parts).sum(1)
    usable = (np.isfinite(known.over) & (known.over <= room)).all(-1)
    split = _sections(known, usable, room)
    if split is None:
        return none
    fixed, taken, sections = split
    slack = room - fixed @ weights.T
    ways = []
    for places_of, figures, crossings in sections:
        if not len(figures):
            return none
        lengths = figures @ weights.T
        least = lengths.min(0)
        slack = slack - least
        ways.append((places_of, Paths(figures, lengths - least, crossings)))
    rows, figures = _joined([each for _, each in ways], fixed, slack, most)
    taken = np.repeat(taken[None], len(rows), 0)
    for k, (places_of, each) in enumerate(ways):
        taken[:, places_of] = each.taken[rows[:, k]]
    return figures, taken


def _sections(known: Bounded, usable: np.ndarray, room: np.ndarray):
    """(figures f[D] and crossings i[S + 1] of what all paths share, sections), or None.

    A section: its places, f[K, D] and i[K, T] of the paths through it.
    """
    chain, places = known.chain, np.arange(len(usable))
    open_ = usable.any(2)
    if not open_.any(1).all():
        return None
    alone, side = open_.sum(1) == 1, open_.argmax(1)
    came = np.concatenate([[0], side[:-1]])
    easy = alone & np.concatenate([[True], alone[:-1]])
    steps = usable[places, side] & (chain.source[side] == came[:, None])
    count = steps.sum(1)
    if (easy & (count == 0)).any():
        return None
    forced = np.flatnonzero(easy & (count == 1))
    taken = np.zeros(len(places), int)
    taken[forced] = steps[forced].argmax(1)
    fixed = chain.into[forced, side[forced], taken[forced]].sum(0)
    stages = forced[forced > 0]
    fixed = fixed + chain.stage[stages - 1, came[stages]].sum(0)
    sections, begun = [], -1
    for end in np.flatnonzero(alone):
        here = slice(begun + 1, int(end) + 1)
        if end > begun + 1:
            start, stop = came[begun + 1] if begun >= 0 else 0, side[end]
            sections.append((here, *_through(known, usable, here, start, stop, room)))
        elif count[end] > 1:
            crossings = np.flatnonzero(steps[end])
            figures = chain.into[end, side[end], crossings]
            if end:
                figures = figures + chain.stage[end - 1, came[end]]
            sections.append((here, figures, crossings[:, None]))
        begun = int(end)
    return fixed, taken, sections


def _through(known: Bounded, usable, places: slice, start: int, stop: int, room):
    """(f[K, D], i[K, T]) of the paths through some places, from a side to a side."""
    chain, weights, source = known.chain, known.weights, known.chain.source
    first, figures = places.start, known.chain.stage.shape[-1]
    least = known.before[first, start]
    if first:
        least = least - chain.stage[first - 1, start] @ weights.T
    sides = [np.zeros((int(side == start), figures)) for side in (0, 1)]
    paths = [np.zeros((len(each), 0), np.int16) for each in sides]
    for i in range(first, places.stop):
        if i:
            sides = [each + chain.stage[i - 1, s] for s, each in enumerate(sides)]
        met, ways = [], []
        for s in (0, 1):
            labels, taken = [sides[s][:0]], [np.empty((0, i - first + 1), np.int16)]
            for step in np.flatnonzero(usable[i, s]):
                came = source[s, step]
                labels.append(sides[came] + chain.into[i, s, step])
                last = np.full((len(paths[came]), 1), step, np.int16)
                taken.append(np.concatenate([paths[came], last], 1))
            both, way = np.concatenate(labels), np.concatenate(taken)
            keep = _kept(both, both @ weights.T, room - least - known.after[i, s])
            met.append(both[keep])
            ways.append(way[keep])
        sides, paths = met, ways
    return sides[stop], paths[stop]


def _kept(figures: np.ndarray, lengths: np.ndarray, most: np.ndarray) -> np.ndarray:
    """i[...], of labels those within `most` that may still be among the best two."""
    with np.errstate(invalid="ignore"):
        keep = (lengths <= most).all(1).nonzero()[0]
    # Few are cheaper to keep than to compare.
    if len(keep) > FEW:
        keep = keep[np.lexsort(figures[keep].T[::-1])]
        keep = keep[_undominated(figures[keep])]
    return keep


def _joined(sections: list[Paths], fixed, slack, most) -> tuple[np.ndarray, np.ndarray]:
    """(i[P, sections], f[P, D]) of the best choices of a path in each."""
    order = sorted(range(len(sections)), key=lambda k: -sections[k].reduced.max())
    none = np.zeros((1, len(slack)))
    halves = [
        Paths(each[None], none, np.zeros((1, len(sections)), int))
        for each in (fixed, 0.0 * fixed)
    ]
    for k in order:
        few = int(len(halves[0].figures) > len(halves[1].figures))
        halves[few] = _merged(halves[few], sections[k], k, slack)
        if not len(halves[few].figures):
            break
    one, other = halves
    rows = np.argsort(one.figures[:, 0])
    pairs, top = [np.empty((0, 2), int)], most[0] + TINY * np.abs(most[0])
    values = [np.empty((0, len(most)))]
    size = max(1, PAIRS // max(1, len(other.figures)))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        found, totals = _within(one.figures[block], other.figures, [top, *most[1:]])
        pairs.append(np.stack([block[found[0]], found[1]], 1))
        values.append(totals)
        # Strictly: a sum in another order must keep them too.
        sure = (totals[:, 1:] <= most[1:] - TINY * np.abs(most[1:])).all(1)
        best = np.sort(np.concatenate([totals[sure, 0], [top, top]]))[1]
        top = min(top, best + TINY * abs(best))
    both, figures = np.concatenate(pairs), np.concatenate(values)
    order = np.lexsort(figures.T[::-1])
    order = order[figures[order, 0] <= top]
    both = both[order]
    return one.taken[both[:, 0]] + other.taken[both[:, 1]], figures[order]


def _merged(half: Paths, section: Paths, column: int, slack: np.ndarray) -> Paths:
    """Each path of the half with each of the section, of those that may win."""
    count = len(section.figures)
    both = (half.figures[:, None] + section.figures).reshape(-1, half.figures.shape[1])
    reduced = (half.reduced[:, None] + section.reduced).reshape(-1, len(slack))
    keep = _kept(both, reduced, slack)
    taken = half.taken[keep // count].copy()
    taken[:, column] = keep % count
    return Paths(both[keep], reduced[keep], taken)


def _within(one: np.ndarray, other: np.ndarray, most) -> tuple[tuple, np.ndarray]:
    """((i[P], i[P]), f[P, D]): pairs whose sums are at most so much."""
    inside = np.ones((len(one), len(other)), bool)
    for d, bound in enumerate(most):
        inside &= one[:, d, None] + other[:, d] <= bound + TINY * np.abs(bound)
    found = inside.nonzero()
    return found, one[found[0]] + other[found[1]]


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
    mask = np.zeros(count, bool)
    for start in range(0, count, BLOCK):
        # Who is dominated twice is so by two that stay, and come earlier.
        block = rows[start : start + BLOCK]
        n = len(block)
        over = np.count_nonzero(_below(rows[:start][mask[:start]], block), 0)
        over += np.count_nonzero(_below(block, block) & EARLIER[:n, :n], 0)
        mask[start : start + BLOCK] = over < 2
    return mask


def _below(earlier: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """bool[N, L]: nowhere larger, of rows in lexical order: so in the first figure."""
    found = earlier[:, 1, None] <= rows[:, 1]
    for d in range(2, rows.shape[1]):
        found &= earlier[:, d, None] <= rows[:, d]
    return found
