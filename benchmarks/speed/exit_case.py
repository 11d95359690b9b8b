"""A net with exits whose thresholds let fixed shares leave, and what to time of it."""

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
from sc_jax.nets.run import Variables, run, variable_shapes
from sc_jax.traces.cost import macs

CLASSES = 10
TWENTY = 20  # single examples that stand for the shares at batch 1


@dataclass(frozen=True)
class Case:
    """What executors are timed on.

    cost: MACs of an answer at each exit, every exit classifier up to it included.
    """

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
    """An executor on a case: `call` runs and waits; MACs are means of one example."""

    name: str
    call: Callable[[], object]
    ideal_macs: float  # of the exits taken
    computed_macs: float  # padding counted
    shares: tuple[float, ...]
    different: int  # exits that are not the policy's


def untrained(
    backbone: str,
    places: tuple[str, ...],
    side: int,
    batch: int,
    shares: tuple[float, ...],
    seed: int,
) -> Case:
    """Random weights and images: of a speed, only the shape of the work counts.

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
    variables = random_variables(net, images[:2], rng)
    out, _ = jax.jit(lambda v, x: run(net, v, x))(variables, images)
    logits = np.stack([out.predictions[name] for name in names])
    # Random logits differ little: divided by their spread, scores fill their range.
    temperatures = tuple((logits.std((1, 2), dtype=np.float64) + 1e-9).tolist())
    scoring = Scoring(temperatures=temperatures)
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


def random_variables(
    net: Net, images: np.ndarray, rng: np.random.Generator
) -> Variables:
    """Normal parameters by fan-in, and ones as state, of the shapes that `init` gives.

    Compiling JAX's own random numbers for every shape takes longer than all executors.
    """
    shapes = variable_shapes(net, images)

    def normal(leaf) -> np.ndarray:
        values = rng.normal(size=leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5
        return values.astype(leaf.dtype)

    ones = partial(jax.tree.map, lambda leaf: np.ones(leaf.shape, leaf.dtype))
    params, *state = shapes
    return Variables(jax.tree.map(normal, params), *map(ones, state))


def _between(score: np.ndarray, shares: tuple[float, ...]) -> tuple[float, ...]:
    """Thresholds of the shares, half-way to the next lower score f32[E, N]."""
    solved = shares_to_thresholds(score, shares)
    # A threshold that is itself a score flips with the last bit of another executor.
    lower = [row[row < at].max(initial=-1) for row, at in zip(score, solved)]
    return tuple(float(a + b) / 2 for a, b in zip(solved, lower))


def whole(net: Net) -> Callable:
    """(variables, images) to the last logits, as one runs a net without exits."""
    last = tuple(e for e in net.exits if e.after == net.names[-1])
    bare = replace(net, exits=last)
    return lambda variables, x: run(bare, variables, x)[0].predictions[FINAL]


def costs(net: Net, variables: Variables, one: np.ndarray) -> np.ndarray:
    """MACs f64[E] of an answer at each exit, the exit classifiers before it counted."""
    parts = segments_of(net)

    def until(e, variables, x):
        at, logits = (x, None), []
        for i in range(e + 1):
            reached = parts.advance(i, variables, *at)
            at = reached.onward
            logits.append(reached.logits)
        return logits

    count = lambda e: macs(lambda v, x: until(e, v, x), variables, one)  # noqa: E731
    return np.array([count(e) for e in range(parts.exits)], np.float64)


def batched(case: Case, buckets: int) -> dict[str, Subject]:
    """The whole net and three executors on all images at once."""
    bare, images = jax.jit(whole(case.net)), case.images
    net = case.net, case.variables
    found = {"whole": _baseline(case, lambda: bare(case.variables, images))}
    executors = {
        "run_all": run_all(*net, case.threshold),
        "capacity": capacity(*net, case.top),
        "bucketed": bucketed(*net, case.threshold, buckets=buckets),
    }
    for name, executor in executors.items():
        found[name] = _subject(case, name, lambda run=executor: [run(images)])
    return found


def twenty(case: Case) -> Case:
    """The case of twenty images that leave by its shares."""
    counts = np.rint(np.array(case.top.shares) * TWENTY).astype(int)
    chosen = [np.flatnonzero(case.exits == e)[:n] for e, n in enumerate(counts)]
    index = np.concatenate(chosen)
    return replace(case, images=case.images[index], exits=case.exits[index])


def single(case: Case) -> dict[str, Subject]:
    """The whole net and the cond chain, one image at a time."""
    ones = [case.images[i : i + 1] for i in range(len(case.images))]
    bare = jax.jit(whole(case.net))
    chain = cond(case.net, case.variables, case.threshold)

    def run_bare():
        for one in ones:
            jax.block_until_ready(bare(case.variables, one))

    return {
        "whole": _baseline(case, run_bare),
        "cond": _subject(
            case, "cond", lambda: [jax.block_until_ready(chain(one)) for one in ones]
        ),
    }


def _baseline(case: Case, call: Callable[[], object]) -> Subject:
    jax.block_until_ready(call())
    work, last = float(case.whole_macs), (0.0,) * (len(case.cost) - 1) + (1.0,)
    return Subject("whole", lambda: jax.block_until_ready(call()), work, work, last, 0)


def _subject(case: Case, name: str, call: Callable[[], list[Decision]]) -> Subject:
    """Runs once, to compile and to count what it does."""
    decisions = call()
    exits = np.concatenate([d.exits for d in decisions])
    rows = np.sum([d.rows for d in decisions], 0)
    ideal = case.cost[-1] if name == "run_all" else case.cost[exits].mean()
    own = np.diff(case.cost, prepend=0)
    return Subject(
        name=name,
        call=lambda: jax.block_until_ready(call()),
        ideal_macs=float(ideal),
        computed_macs=float(rows @ own / len(exits)),
        shares=tuple((np.bincount(exits, minlength=len(own)) / len(exits)).tolist()),
        different=int((exits != case.exits).sum()),
    )


def segments(case: Case, repeats: int = 1) -> dict[str, Callable[[], object]]:
    """Each segment alone on all images, `repeats` times: its work and no exit's."""
    parts, at, found = segments_of(case.net), (case.images, None), {}
    for e in range(parts.exits):
        program = jax.jit(partial(parts.advance, e))
        inputs = (parts.variables_of(e, case.variables), *at)
        at = jax.block_until_ready(program(*inputs)).onward
        found[f"segment {e}"] = partial(_repeat, program, inputs, repeats)
    return found


def _repeat(program: Callable, inputs: tuple, repeats: int) -> None:
    for _ in range(repeats):
        jax.block_until_ready(program(*inputs))
