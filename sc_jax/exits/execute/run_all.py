"""The executor that saves nothing: every exit runs, then the policy picks."""

from __future__ import annotations

import jax.numpy as jnp

from sc_jax.exits.execute.executor import Decision, Executor, bound, prepare
from sc_jax.exits.execute.segments import rows
from sc_jax.exits.policies.policy import Cost, Policy, taken
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables


def run_all(
    net: Net, variables: Variables, policy: Policy, *, cost: Cost = None
) -> Executor:
    """Runs every exit for every example and then picks: any batch, any policy."""
    plan, variables = prepare(net, variables, policy, cost)
    last = plan.exits - 1

    def program(variables, images):
        x, memory, logits, verdicts = (images, None), None, [], []
        for e in range(plan.exits):
            at = plan.segments.advance(e, variables, *x)
            x = at.onward
            logits.append(at.logits)
            if e < last:
                verdict, memory = plan.verdict(e, at, memory)
                verdicts.append(verdict)
        stacked = jnp.stack(verdicts) if last else jnp.zeros((0, rows(images)), bool)
        exits = taken(policy, stacked, cost, jnp)
        # [E, B, K] by i[1, B, 1]: each example's row at its own exit.
        found = jnp.take_along_axis(jnp.stack(logits), exits[None, :, None], 0)[0]
        return Decision(found, exits, jnp.full(plan.exits, rows(images), jnp.int32))

    return bound(program, variables)
