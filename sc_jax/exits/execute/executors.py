"""Early exits that really save: one policy, four ways to run it, the same answers.

`all_exits` runs everything and then picks; `cond` skips what one example does not need;
`compact` (in compact.py) regroups whoever is left; `capacity` sends fixed shares on, in
one program. Each takes (net, variables, policy) and gives an Executor: images [B, ...]
to a Decision. Batch sizes that differ give logits that differ in last bits, so only a
score that near to a threshold may leave elsewhere.

`cost` f[E] is that of an answer at each exit, in the unit of an Anytime deadline; other
policies need none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.decision import counts
from sc_jax.exits.execute.segments import Walk, rows, take, walk
from sc_jax.exits.execute.traced_decision import Rule, rule
from sc_jax.exits.policies import Policy
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables

Array = jax.Array | np.ndarray
Cost = Sequence[float] | None


class Decision(NamedTuple):
    """The answers of a batch."""

    logits: Array  # f32[B, K], of the exit taken
    exits: Array  # i32[B], the exit taken
    rows: Array  # i32[E], how many examples each segment computed, padding counted

    @property
    def answers(self) -> Array:
        """i[B], the class predicted; UsageError where logits are NaN."""
        wrong = np.isnan(np.asarray(self.logits)).any(-1)
        if wrong.any():
            raise UsageError(f"example {wrong.argmax()} of the batch: logits NaN")
        return self.logits.argmax(-1)


Executor = Callable[[Any], Decision]


def all_exits(
    net: Net, variables: Variables, policy: Policy, *, cost: Cost = None
) -> Executor:
    """Runs every exit for every example and then picks: no saving, every policy."""
    way, law, variables = made(net, variables, policy, cost)
    last = way.exits - 1

    def program(variables, images):
        x, memory, logits, scores = (images, None), None, [], []
        for e in range(way.exits):
            at = way.advance(e, variables, *x)
            x = at.onward
            logits.append(at.logits)
            if e < last:
                score, memory = law.score(e, at.logits, at.told, memory)
                scores.append(score)
        exits = _picked(law, scores, logits)
        found = jnp.take_along_axis(jnp.stack(logits), exits[None, :, None], 0)[0]
        return Decision(found, exits, jnp.full(way.exits, rows(images), jnp.int32))

    return bound(program, variables)


def cond(
    net: Net, variables: Variables, policy: Policy, *, cost: Cost = None
) -> Executor:
    """One example at a time in one program; what it does not need is skipped.

    Nested `lax.cond`s: never under vmap, which would run both sides of each.
    """
    way, law, variables = made(net, variables, policy, cost)
    if law.marks is None:
        raise UsageError(
            "cond takes one example, top_fraction a batch: executor capacity or compact"
        )

    def chain(e, variables, x, previous, memory):
        at = way.advance(e, variables, x, previous)
        if e == way.exits - 1:
            return at.logits, jnp.full(1, e, jnp.int32)
        score, memory = law.score(e, at.logits, at.told, memory)
        return jax.lax.cond(
            law.leaves(e, score, at.logits)[0],
            lambda: (at.logits, jnp.full(1, e, jnp.int32)),
            lambda: chain(e + 1, variables, *at.onward, memory),
        )

    def program(variables, images):
        logits, exits = chain(0, variables, images, None, None)
        return Decision(logits, exits, (jnp.arange(way.exits) <= exits).astype("int32"))

    once = bound(program, variables)

    def decide(images):
        if rows(images) != 1:
            raise UsageError(
                f"cond takes a batch of 1, not {rows(images)}: executor compact, or "
                "capacity with a top_fraction policy"
            )
        return once(images)

    return decide


def capacity(
    net: Net, variables: Variables, policy: Policy, *, cost: Cost = None
) -> Executor:
    """A fixed share of the batch leaves at each exit, the surest: one program.

    All shapes are static and the cost of every batch is exactly as planned, which is
    what accelerators like. Same exits as `rules.top_fraction`, ties too.
    """
    way, law, variables = made(net, variables, policy, cost)
    if law.shares is None:
        raise UsageError(
            "capacity sends fixed shares on, which this policy has not: a top_fraction "
            "policy, or executor compact (cond for a batch of 1)"
        )
    shares = law.shares

    def program(variables, images):
        leaving = counts(shares, rows(images))
        x, memory, left = (images, None), None, jnp.arange(rows(images))
        places, logits, ran = [], [], np.zeros(way.exits, np.int32)
        for e, count in enumerate(leaving):
            ran[e] = len(left)
            at = way.advance(e, variables, *x)
            x = at.onward
            if count == len(left):
                places.append(left)
                logits.append(at.logits)
                break
            score, memory = law.score(e, at.logits, at.told, memory)
            if count:
                gone, stay = _surest(score, count)
                places.append(take(left, gone))
                logits.append(take(at.logits, gone))
                left, x, memory = take((left, x, memory), stay)
        back = jnp.argsort(jnp.concatenate(places))
        exits = np.repeat(np.arange(way.exits, dtype=np.int32), leaving)
        found, taken = take((jnp.concatenate(logits), jnp.asarray(exits)), back)
        return Decision(found, taken, jnp.asarray(ran))

    return bound(program, variables)


def made(
    net: Net, variables: Variables, policy: Policy, cost: Cost
) -> tuple[Walk, Rule, Variables]:
    """What every executor is made of; the variables on the device."""
    way = walk(net)
    return way, rule(policy, way.exits, cost), jax.device_put(variables)


def bound(program: Callable, variables: Variables) -> Callable:
    """program(variables, *inputs), compiled, of *inputs.

    Their tree is walked here and not in every call: 0.1 ms for 300 arrays, 2 to 5 % of
    a small net at batch 1.
    """
    leaves, tree = jax.tree.flatten(variables)
    compiled = jax.jit(lambda leaves, *inputs: program(tree.unflatten(leaves), *inputs))
    return partial(compiled, leaves)


def _surest(score: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """(indices of the `count` highest scores, ties the first; the others in order)."""
    order = jnp.argsort(-score, stable=True)
    return order[:count], jnp.sort(order[count:])


def _picked(law: Rule, scores: list, logits: list) -> jax.Array:
    """i32[B], the exit of each when all have run."""
    last, examples = len(scores), len(logits[0])
    if law.marks is not None:
        each = zip(scores, logits)
        sure = [law.leaves(e, score, z) for e, (score, z) in enumerate(each)]
        sure.append(jnp.ones(examples, bool))
        return jnp.stack(sure).argmax(0).astype(jnp.int32)
    assert law.shares is not None
    taken, left = jnp.full(examples, last, jnp.int32), jnp.arange(examples)
    for e, count in enumerate(counts(law.shares, examples)[:-1]):
        gone, stay = _surest(take(scores[e], left), count)
        taken, left = taken.at[take(left, gone)].set(e), take(left, stay)
    return taken
