"""Early exits that really save: one policy, four executors, the same answers.

Each takes (net, variables, policy) and gives an `Executor`: images [B, ...] to a
`Decision`. Batch sizes that differ give logits that differ in last bits, so only a
score that near to a threshold may leave elsewhere. `cost` f[E] is that of an answer at
each exit, in the unit of an Anytime deadline; other policies need none.
"""

from sc_jax.exits.execute.buckets import bucketed
from sc_jax.exits.execute.capacity import capacity
from sc_jax.exits.execute.cond import cond
from sc_jax.exits.execute.executor import Decision, Executor
from sc_jax.exits.execute.run_all import run_all

__all__ = [
    "EXECUTORS",
    "Decision",
    "Executor",
    "bucketed",
    "capacity",
    "cond",
    "run_all",
]

EXECUTORS = {
    "run_all": run_all,  # no saving: traces, training, a check of the others
    "cond": cond,  # one example at a time
    "capacity": capacity,  # fixed shares of a batch
    "bucketed": bucketed,  # any batch, any policy
}
