"""The executor that regroups whoever is left: any batch, any policy."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.decision import counts
from sc_jax.exits.execute.executors import Cost, Decision, Executor, bound, made
from sc_jax.exits.execute.segments import Walk, rows, take
from sc_jax.exits.execute.traced_decision import Rule
from sc_jax.exits.policies import Policy
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables


def compact(
    net: Net,
    variables: Variables,
    policy: Policy,
    *,
    cost: Cost = None,
    buckets: int = 8,
) -> Executor:
    """Who is left after an exit is gathered, padded to a bucket, and goes on.

    Buckets are `buckets` even parts of the batch, rounded up: fewer lose more to
    padding, more are more programs to compile, at most one for each segment and bucket
    of a batch size (gathering is a program apart, and small). While the bucket stays,
    nothing moves. The host waits for each exit's verdict. Gives NumPy arrays.
    """
    if buckets < 1:
        raise UsageError(f"buckets are 1 or more, not {buckets}")
    way, law, variables = made(net, variables, policy, cost)
    steps = [
        bound(partial(_step, way, law, e), way.parts(e, variables))
        for e in range(way.exits)
    ]

    def decide(images: Any) -> Decision:
        examples = rows(images)
        sizes, planned = ladder(examples, buckets), _planned(law, examples)
        exits, ran = np.zeros(examples, np.int32), np.zeros(way.exits, np.int32)
        found = []
        left = place = np.arange(examples)  # examples, and their rows in the pool
        pool = (images, None, None)
        for e in range(way.exits):
            ran[e] = size = next(s for s in sizes if s >= len(left))
            if size < rows(pool):
                index = np.resize(place, size).astype(np.int32)  # again from the first
                pool, place = _gathered(pool, index), np.arange(len(left))
            *told, pool = steps[e](*pool)
            z, verdict = (np.asarray(a)[place] for a in jax.device_get(told))
            gone = _gone(verdict, None if planned is None else planned[e])
            found.append((left[gone], z[gone]))
            exits[left[gone]] = e
            left, place = left[~gone], place[~gone]
            if not len(left):
                break
        order, logits = map(np.concatenate, zip(*found))
        return Decision(logits[np.argsort(order)], exits, ran)

    return decide


_gathered = jax.jit(take)


def ladder(examples: int, buckets: int) -> tuple[int, ...]:
    """The sizes of buckets, rising; the last holds all."""
    return tuple(sorted({-(-examples * k // buckets) for k in range(1, buckets + 1)}))


def _step(
    way: Walk,
    law: Rule,
    e: int,
    variables: Variables,
    x: Any,
    previous: Any,
    memory: Any,
):
    """(logits, verdict, pool) of segment e; the pool is what the next one takes.

    verdict: bool, whether to leave; where shares decide, the score.
    """
    at = way.advance(e, variables, x, previous)
    if e == way.exits - 1:
        return at.logits, jnp.ones(len(at.logits), bool), None
    score, memory = law.score(e, at.logits, at.told, memory)
    verdict = score if law.marks is None else law.leaves(e, score, at.logits)
    return at.logits, verdict, (*at.onward, memory)


def _planned(law: Rule, examples: int) -> np.ndarray | None:
    """How many leave at each exit, where shares decide and not marks."""
    return counts(law.shares, examples) if law.marks is None and law.shares else None


def _gone(verdict: np.ndarray, count: int | None) -> np.ndarray:
    """bool[n], who leaves: by their own verdict, or the `count` surest, ties the first.

    At the last exit verdicts are True, and so is the surest of all that are left.
    """
    if count is None:
        return verdict
    gone = np.zeros(len(verdict), bool)
    gone[np.argsort(-verdict.astype(np.float64), kind="stable")[:count]] = True
    return gone
