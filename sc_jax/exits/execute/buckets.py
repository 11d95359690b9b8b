"""The executor that regroups whoever is left: any batch, any policy."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.decision import surest
from sc_jax.exits.execute.executor import Decision, Executor, Plan, bound, prepare
from sc_jax.exits.execute.segments import rows, take
from sc_jax.exits.policies.policy import Cost, Policy, planned
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables


def bucketed(
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
    plan, variables = prepare(net, variables, policy, cost)
    steps = [
        bound(partial(_step, plan, e), plan.segments.variables_of(e, variables))
        for e in range(plan.exits)
    ]

    def decide(images: Any) -> Decision:
        examples = rows(images)
        sizes = ladder(examples, buckets)
        leaving = planned(policy, plan.exits, cost, examples) if policy.ranks else None
        exits, ran = np.zeros(examples, np.int32), np.zeros(plan.exits, np.int32)
        found = []
        left = place = np.arange(examples)  # examples, and their rows in the pool
        pool = (images, None, None)
        for e in range(plan.exits):
            ran[e] = size = next(s for s in sizes if s >= len(left))
            # Only a smaller bucket is worth a gather, and another compiled program.
            if size < rows(pool):
                index = np.resize(place, size).astype(np.int32)  # again from the first
                pool, place = _gathered(pool, index), np.arange(len(left))
            *answer, pool = steps[e](*pool)
            z, verdict = (np.asarray(a)[place] for a in jax.device_get(answer))
            gone = _gone(verdict, None if leaving is None else leaving[e])
            found.append((left[gone], z[gone]))
            exits[left[gone]] = e
            left, place = left[~gone], place[~gone]
            if not len(left):
                break
        order, logits = map(np.concatenate, zip(*found))
        # Answers come exit after exit: back into the order of the batch.
        return Decision(logits[np.argsort(order)], exits, ran)

    return decide


_gathered = jax.jit(take)


def ladder(examples: int, buckets: int) -> tuple[int, ...]:
    """The sizes of buckets, rising; the last holds all."""
    # A set: in small batches several parts round to one size.
    return tuple(sorted({-(-examples * k // buckets) for k in range(1, buckets + 1)}))


def _step(plan: Plan, e: int, variables: Variables, x: Any, previous: Any, memory: Any):
    """(logits, verdict, pool) of segment e; the pool is what the next one takes."""
    at = plan.segments.advance(e, variables, x, previous)
    if e == plan.exits - 1:
        return at.logits, jnp.ones(len(at.logits), bool), None
    verdict, memory = plan.verdict(e, at, memory)
    return at.logits, verdict, (*at.onward, memory)


def _gone(verdict: np.ndarray, count: int | None) -> np.ndarray:
    """bool[n], who leaves: by their own verdict, or the `count` surest, ties the first.

    At the last exit verdicts are True, and so is the surest of all that are left.
    """
    if count is None:
        return verdict
    gone = np.zeros(len(verdict), bool)
    gone[surest(verdict.astype(np.float64), count)[0]] = True
    return gone
