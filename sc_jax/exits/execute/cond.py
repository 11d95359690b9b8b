"""The executor for one example: what it does not need is skipped, in one program."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sc_jax.errors import UsageError
from sc_jax.exits.execute.executor import Decision, Executor, bound, prepare
from sc_jax.exits.execute.segments import rows
from sc_jax.exits.policies.policy import Cost, Policy
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables


def cond(
    net: Net, variables: Variables, policy: Policy, *, cost: Cost = None
) -> Executor:
    """One example at a time; nested `lax.cond`s, which vmap would run both sides of."""
    if policy.ranks:
        raise UsageError(
            "cond takes one example, top_fraction a batch: executor capacity or "
            "bucketed"
        )
    plan, variables = prepare(net, variables, policy, cost)

    def chain(e, variables, x, previous, memory):
        at = plan.segments.advance(e, variables, x, previous)
        if e == plan.exits - 1:
            return at.logits, jnp.full(1, e, jnp.int32)
        verdict, memory = plan.verdict(e, at, memory)
        # Nested, so that the branch not taken holds all later segments.
        return jax.lax.cond(
            verdict[0],
            lambda: (at.logits, jnp.full(1, e, jnp.int32)),
            lambda: chain(e + 1, variables, *at.onward, memory),
        )

    def program(variables, images):
        logits, exits = chain(0, variables, images, None, None)
        # Every segment up to the exit taken ran once.
        ran = (jnp.arange(plan.exits) <= exits).astype("int32")
        return Decision(logits, exits, ran)

    once = bound(program, variables)

    def decide(images):
        if rows(images) != 1:
            raise UsageError(
                f"cond takes a batch of 1, not {rows(images)}: executor bucketed, or "
                "capacity with a top_fraction policy"
            )
        return once(images)

    return decide
