"""The executor of fixed shares: one program, static shapes, a cost known before."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.decision import counts, surest
from sc_jax.exits.execute.executor import Decision, Executor, bound, prepare
from sc_jax.exits.execute.segments import rows, take
from sc_jax.exits.policies.policy import Cost, Policy
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables


def capacity(
    net: Net, variables: Variables, policy: Policy, *, cost: Cost = None
) -> Executor:
    """A fixed share of the batch leaves at each exit, the surest.

    All shapes are static and the cost of every batch is exactly as planned, which is
    what accelerators like. Same exits as `decision.top_fraction`, ties too.
    """
    plan, variables = prepare(net, variables, policy, cost)
    shares = policy.shares_of(plan.exits, cost)
    if shares is None:
        raise UsageError(
            "capacity sends fixed shares on, which this policy has not: a top_fraction "
            "policy, or executor bucketed (cond for a batch of 1)"
        )

    # Python loops over exits: counts are known, so XLA sees static shapes only.
    def program(variables, images):
        leaving = counts(shares, rows(images))
        x, memory, left = (images, None), None, jnp.arange(rows(images))
        places, logits, ran = [], [], np.zeros(plan.exits, np.int32)
        for e, count in enumerate(leaving):
            ran[e] = len(left)
            at = plan.segments.advance(e, variables, *x)
            x = at.onward
            # All that are left leave: what follows is not even compiled.
            if count == len(left):
                places.append(left)
                logits.append(at.logits)
                break
            verdict, memory = plan.verdict(e, at, memory)
            # An exit at which nobody leaves still feeds a policy with memory.
            if count:
                gone, stay = surest(verdict, count, jnp)
                places.append(take(left, gone))
                logits.append(take(at.logits, gone))
                # The memory moves with its examples, or scores would mix them up.
                left, x, memory = take((left, x, memory), stay)
        back = jnp.argsort(jnp.concatenate(places))
        exits = np.repeat(np.arange(plan.exits, dtype=np.int32), leaving)
        found, taken = take((jnp.concatenate(logits), jnp.asarray(exits)), back)
        return Decision(found, taken, jnp.asarray(ran))

    return bound(program, variables)
