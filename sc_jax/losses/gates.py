"""Losses of exits that learn when to leave, [B] each.

They read the learned confidence that nets.exit_classifiers.gated give.
Exits are named in order, the last "final"; it has no confidence and always answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from sc_jax.errors import UsageError, unknown
from sc_jax.losses.exits import cross_entropy, extra, losses_of
from sc_jax.losses.terms import Context
from sc_jax.nets.backbones.skipnet import executed_share


@dataclass(frozen=True)
class Mixture:
    """Cross-entropy of the mixture of exits by their learned confidences.

    Pomponi et al. 2022, https://doi.org/10.3390/e24010001.

    over: "logits" is the cross-entropy of sum_i pi_i z_i over the exits before the
    last, pi_i = c_i prod_{j<i} (1 - c_j), plus the last exit's own; "losses" is sum_i
    c_i CE_i, the last with c = 1. c_i is a relaxed Bernoulli sample at `temperature`,
    which may be a schedule of the step in its phase. masked: an exit takes part with
    probability 1 - c_i, so that later ones learn where it is sure, too.
    """

    exits: tuple[str, ...]
    over: Literal["logits", "losses"] = "logits"
    temperature: float | optax.Schedule = 5.0
    masked: bool = True

    def __post_init__(self):
        if self.over not in ("logits", "losses"):
            raise unknown("mixture", self.over, ("logits", "losses"))

    def __call__(self, context: Context):
        label = context.batch["label"]
        answers = [context.student.predictions[name] for name in self.exits]
        leaving = [self._sampled(context, name) for name in self.exits[:-1]]
        last = cross_entropy(answers[-1], label)
        if self.over == "losses":
            each = [cross_entropy(z, label) for z in answers]
            # The last exit has no confidence: its loss always counts whole.
            return last + sum(c * loss for c, loss in zip(leaving, each))
        # Of logits, as published. Not the last exit's, which are mostly the best: with
        # them in, the others would only have to correct it.
        mixed = (shares(leaving)[:-1, :, None] * jnp.stack(answers[:-1])).sum(0)
        return cross_entropy(mixed, label) + last

    def _sampled(self, context: Context, name: str) -> jax.Array:
        tau = self.temperature
        tau = tau(context.step) if callable(tau) else tau
        logit = extra(context, name, "confidence") + extra(context, name, "noise")
        c = jax.nn.sigmoid(logit / tau)
        if not self.masked:
            return c
        # 1 where nothing is drawn, so that evaluation keeps every exit.
        return jnp.where(extra(context, name, "uniform") >= c, c, 0.0)


@dataclass(frozen=True)
class ConfidenceTarget:
    """Class-balanced BCE of an exit's learned confidence to "its answer is right".

    The regulariser of Pomponi et al. 2022, https://doi.org/10.3390/e24010001.
    """

    exit: str

    def __call__(self, context: Context):
        answer = context.student.predictions[self.exit].argmax(-1)
        right = answer == context.batch["label"]
        return _balanced(extra(context, self.exit, "confidence"), right)


@dataclass(frozen=True)
class GatedCrossEntropy:
    """sum_e P(leave at e) CE_e, gates held fixed: the exits' half of JEI-DNN.

    Regol et al. 2024, https://arxiv.org/abs/2310.09163: a gate's g is the probability
    itself, as far as any is left, and the last exit has the rest (`leaving_shares`).
    """

    exits: tuple[str, ...]

    def __call__(self, context: Context):
        gates = [extra(context, name, "confidence") for name in self.exits[:-1]]
        # Gates learn from GateTarget alone.
        leave = jax.lax.stop_gradient(
            leaving_shares([jax.nn.sigmoid(g) for g in gates])
        )
        return (leave * losses_of(context, self.exits)).sum(0)


@dataclass(frozen=True)
class GateTarget:
    """BCE of every gate to "at or after the exit of least CE + price * cost".

    The gates' half of JEI-DNN (https://arxiv.org/abs/2310.09163): class-balanced, mean
    over gates, the exit classifiers held fixed. costs: share of the whole
    network's MACs at each exit; price: nats for the whole network.
    """

    exits: tuple[str, ...]
    costs: tuple[float, ...]
    price: float = 1.0

    def __post_init__(self):
        if len(self.costs) != len(self.exits):
            raise UsageError(f"{len(self.costs)} costs for {len(self.exits)} exits")

    def __call__(self, context: Context):
        paid = self.price * jnp.array(self.costs).reshape(-1, 1)
        # Targets are fixed numbers: gates learn from them, classifiers do not.
        best = (jax.lax.stop_gradient(losses_of(context, self.exits)) + paid).argmin(0)
        gates = [extra(context, name, "confidence") for name in self.exits[:-1]]
        # A gate is right to stop at the best exit and at every later one.
        terms = [_balanced(gate, best <= e) for e, gate in enumerate(gates)]
        return jnp.stack(terms).mean(0)


@dataclass(frozen=True)
class GateCost:
    """(mean share of gated blocks that run - target)^2, the same for all [B].

    DDI (Wang et al. 2020, https://arxiv.org/abs/1907.04523) steers expected cost to a
    target; `stage` is the last gated.
    """

    stage: str
    target: float

    def __call__(self, context: Context):
        share = executed_share(context.student.features[self.stage])
        # [B] as every loss, though the batch has one number.
        return jnp.full(share.shape, (share.mean() - self.target) ** 2)


@dataclass(frozen=True)
class Rising:
    """A schedule: 0 for a fifth of `steps`, then a tenth of `most` up to `most`."""

    steps: int
    most: float = 1.0

    def __call__(self, step: Any):
        start = self.steps // 5
        share = (step - start) / max(self.steps - start, 1)
        risen = self.most * jnp.minimum(0.1 + 0.9 * share, 1.0)
        return jnp.where(step < start, 0.0, risen)


@dataclass(frozen=True)
class Halving:
    """A schedule: start / 2^k after k times `every` steps, not under `least`."""

    every: int
    start: float = 20.0
    least: float = 5.0

    def __call__(self, step: Any):
        return jnp.maximum(self.start * 0.5 ** (step // self.every), self.least)


def shares(leaving: list[jax.Array]) -> jax.Array:
    """f32[E, B], where each leaves: c_e prod_{j<e} (1 - c_j), of c [E - 1][B]."""
    rows, still = [], jnp.ones_like(leaving[0])
    for c in leaving:
        # Leaves here, having passed all gates before.
        rows.append(c * still)
        still = still * (1 - c)
    return jnp.stack([*rows, still])


def leaving_shares(gates: list[jax.Array]) -> jax.Array:
    """f32[E, B], P(leaves at e) = max(0, min(g_e, 1 - sum_{j<e} g_j)), the rest last.

    gates: g [E - 1][B] in 0..1 (JEI-DNN). No product: a later gate answers for all that
    it says, not for a share of those who came.
    """
    rows, spent = [], jnp.zeros_like(gates[0])
    for g in gates:
        rows.append(jnp.clip(1 - spent, 0.0, g))
        spent = spent + g
    return jnp.stack([*rows, jnp.maximum(1 - spent, 0.0)])


def _balanced(logit: jax.Array, target: jax.Array) -> jax.Array:
    """BCE in which both targets weigh half of the batch, whatever their number."""
    # Nearly all answers may be right: unweighted, the constant 1 would do.
    positive = target.mean()
    of_each = jnp.where(target, positive, 1 - positive)
    plain = optax.sigmoid_binary_cross_entropy(logit, target.astype(jnp.float32))
    # A batch of one kind has nothing to balance, and no division by zero.
    return plain / jnp.maximum(2 * of_each, 1e-6)
