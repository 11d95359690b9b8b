"""A net with exits whose thresholds send given shares out, and what to time of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.execute import Decision, bucketed, capacity, cond, run_all
from sc_jax.exits.execute.segments import segments_of
from sc_jax.exits.policies import Threshold, TopFraction
from sc_jax.exits.scores import Scoring
from sc_jax.exits.solve.threshold_search import shares_to_thresholds
from sc_jax.nets.backbones.registry import exit_net
from sc_jax.nets.net import FINAL, Net
from sc_jax.nets.run import Variables, init, run
from sc_jax.traces.cost import macs

CLASSES = 10
TWENTY = 20  # single examples that stand for the shares at batch 1


@dataclass(frozen=True)
class Case:
    """What executors are timed on. cost: MACs of an answer at each exit, heads too."""

    net: Net
    variables: Variables
    images: np.ndarray  # uint8[N, side, side, 3]
    exits: np.ndarray  # i32[N], by the threshold policy
    threshold: Threshold
    top: TopFraction
    cost: np.ndarray  # f64[E]
    whole_macs: int  # of the net without exits


@dataclass(frozen=True)
class Subject:
    """One way to run a case: `call` runs and waits; MACs of one example, the mean."""

    name: str
    call: Callable[[], object]
    ideal_macs: float  # of the exits taken
    computed_macs: float  # padding counted
    shares: tuple[float, ...]
    different: int  # exits that are not the policy's


def case(
    backbone: str,
    places: tuple[str, ...],
    side: int,
    batch: int,
    shares: tuple[float, ...],
    seed: int,
) -> Case:
    """Untrained weights: of a speed, only the shape of the work counts.

    Scores of random images are spread by temperatures, and the thresholds are solved on
    the batch itself, so that the shares are met.
    """
    net = exit_net(backbone, CLASSES, places=places)
    names = net.exit_names
    if len(shares) != len(names):
        raise UsageError(f"{len(shares)} shares for exits {', '.join(names)}")
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    images = (images * rng.uniform(0.2, 1, (batch, 1, 1, 3))).astype(np.uint8)
    variables = init(net, jax.random.key(seed), images[:2])
    out, _ = jax.jit(lambda v, x: run(net, v, x))(variables, images)
    logits = np.stack([out.predictions[name] for name in names])
    heat = tuple((logits.std((1, 2), dtype=np.float64) + 1e-9).tolist())
    scoring = Scoring(temperatures=heat)
    threshold = Threshold(_between(scoring(logits), shares), scoring)
    return Case(
        net=net,
        variables=variables,
        images=images,
        exits=threshold(logits),
        threshold=threshold,
        top=TopFraction(shares, scoring),
        cost=costs(net, variables, images[:1]),
        whole_macs=macs(whole(net), variables, images[:1]),
    )


def _between(score: np.ndarray, shares: tuple[float, ...]) -> tuple[float, ...]:
    """Thresholds of the shares, half-way to the next lower score f32[E, N]."""
    marks = shares_to_thresholds(score, shares)
    lower = [row[row < mark].max(initial=-1) for row, mark in zip(score, marks)]
    return tuple(float(a + b) / 2 for a, b in zip(marks, lower))


def whole(net: Net) -> Callable:
    """(variables, images) to the last logits, as one runs a net without exits."""
    last = tuple(e for e in net.exits if e.after == net.names[-1])
    bare = replace(net, exits=last)
    return lambda variables, x: run(bare, variables, x)[0].predictions[FINAL]


def costs(net: Net, variables: Variables, one: np.ndarray) -> np.ndarray:
    """MACs f64[E] of an answer at each exit, all heads before it counted."""
    way = segments_of(net)

    def until(e, variables, x):
        at, logits = (x, None), []
        for i in range(e + 1):
            reached = way.advance(i, variables, *at)
            at = reached.onward
            logits.append(reached.logits)
        return logits

    count = lambda e: macs(lambda v, x: until(e, v, x), variables, one)  # noqa: E731
    return np.array([count(e) for e in range(way.exits)], np.float64)


def batched(made: Case, buckets: int) -> dict[str, Subject]:
    """The whole net and three executors on all images at once."""
    bare, images = jax.jit(whole(made.net)), made.images
    every = run_all(made.net, made.variables, made.threshold)
    static = capacity(made.net, made.variables, made.top)
    packed = bucketed(made.net, made.variables, made.threshold, buckets=buckets)
    found = {"whole": _baseline(made, lambda: bare(made.variables, images))}
    for name, executor in (
        ("all_exits", every),
        ("capacity", static),
        ("compact", packed),
    ):
        found[name] = _subject(made, name, lambda run=executor: [run(images)])
    return found


def twenty(made: Case) -> Case:
    """The case of twenty images that leave by its shares."""
    counts = np.rint(np.array(made.top.shares) * TWENTY).astype(int)
    chosen = [np.flatnonzero(made.exits == e)[:n] for e, n in enumerate(counts)]
    index = np.concatenate(chosen)
    return replace(made, images=made.images[index], exits=made.exits[index])


def single(made: Case) -> dict[str, Subject]:
    """The whole net and the cond chain, one image at a time."""
    ones = [made.images[i : i + 1] for i in range(len(made.images))]
    bare = jax.jit(whole(made.net))
    chain = cond(made.net, made.variables, made.threshold)

    def run_bare():
        for one in ones:
            jax.block_until_ready(bare(made.variables, one))

    return {
        "whole": _baseline(made, run_bare),
        "cond": _subject(
            made, "cond", lambda: [jax.block_until_ready(chain(one)) for one in ones]
        ),
    }


def _baseline(made: Case, call: Callable[[], object]) -> Subject:
    jax.block_until_ready(call())
    work, last = float(made.whole_macs), (0.0,) * (len(made.cost) - 1) + (1.0,)
    return Subject("whole", lambda: jax.block_until_ready(call()), work, work, last, 0)


def _subject(made: Case, name: str, call: Callable[[], list[Decision]]) -> Subject:
    """Runs once, to compile and to see what it does."""
    decisions = call()
    exits = np.concatenate([d.exits for d in decisions])
    rows = np.sum([d.rows for d in decisions], 0)
    ideal = made.cost[-1] if name == "all_exits" else made.cost[exits].mean()
    own = np.diff(made.cost, prepend=0)
    return Subject(
        name=name,
        call=lambda: jax.block_until_ready(call()),
        ideal_macs=float(ideal),
        computed_macs=float(rows @ own / len(exits)),
        shares=tuple((np.bincount(exits, minlength=len(own)) / len(exits)).tolist()),
        different=int((exits != made.exits).sum()),
    )


def segments(made: Case, repeats: int = 1) -> dict[str, Callable[[], object]]:
    """Each segment alone on all images, `repeats` times: its work and no exit's."""
    way, at, found = segments_of(made.net), (made.images, None), {}
    for e in range(way.exits):
        program = jax.jit(partial(way.advance, e))
        inputs = (way.variables_of(e, made.variables), *at)
        at = jax.block_until_ready(program(*inputs)).onward
        found[f"segment {e}"] = partial(_repeat, program, inputs, repeats)
    return found


def _repeat(program: Callable, inputs: tuple, repeats: int) -> None:
    for _ in range(repeats):
        jax.block_until_ready(program(*inputs))
