"""Losses of several exits at once, [B] each. Exits are named in order, last "final"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from sc_jax.errors import UsageError, unknown
from sc_jax.losses.terms import Context
from sc_jax.nets.net import FINAL


@dataclass(frozen=True)
class OwnCrossEntropy:
    """Cross-entropy of an exit's "own" logits, before they were joined with others'.

    Zero Time Waste (Wolczyk et al. 2021, https://arxiv.org/abs/2106.05409) trains both.
    """

    exit: str

    def __call__(self, context: Context):
        logits = extra(context, self.exit, "own")
        return cross_entropy(logits, context.batch["label"])


@dataclass(frozen=True)
class ExitDistillation:
    """tau^2 KL between later exits, held fixed, and an exit: mean over `teachers`.

    Zhang et al. 2019 (https://arxiv.org/abs/1905.08094) and Phuong and Lampert 2019
    (Distillation-Based Training for Multi-Exit Architectures, ICCV) teach by the last;
    next or all later ones are other choices of `teachers`. direction: "forward" is
    KL(teacher || exit), "reverse" the other way (FastBERT has both,
    https://arxiv.org/abs/2004.02178). tau may be a schedule of the step in its phase;
    None: each teacher's own "temperature".
    """

    exit: str
    teachers: tuple[str, ...] = (FINAL,)
    tau: float | optax.Schedule | None = 1.0
    direction: Literal["forward", "reverse"] = "forward"

    def __post_init__(self):
        if self.direction not in ("forward", "reverse"):
            raise unknown("direction", self.direction, ("forward", "reverse"))
        tau = 1.0 if self.tau is None or callable(self.tau) else self.tau
        if not self.teachers or not tau > 0:
            raise UsageError("exit distillation takes teachers and a tau above 0")

    def __call__(self, context: Context):
        answers = context.student.predictions
        parts = []
        for name in self.teachers:
            # A teacher that followed its students would make the task easier, not
            # better.
            teacher = jax.lax.stop_gradient(answers[name])
            tau = self.tau(context.step) if callable(self.tau) else self.tau
            if tau is None:
                tau = extra(context, name, "temperature")
            log_p = jax.nn.log_softmax(teacher / tau)
            log_q = jax.nn.log_softmax(answers[self.exit] / tau)
            if self.direction == "reverse":
                log_p, log_q = log_q, log_p
            # tau^2 keeps the gradient's size: softening divides it by tau twice.
            parts.append(tau**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1))
        return jnp.stack(parts).mean(0)


@dataclass(frozen=True)
class AdaptiveWeights:
    """sum_e a_e CE_e / (its mean over the batch, held fixed): weights that adapt.

    The gradient of sum_e a_e log L_e, which is homoscedastic uncertainty weighting
    (Kendall et al. 2018, https://arxiv.org/abs/1705.07115) with its own optimum put in.
    Reconstruction of DynExit (Wang et al. 2019, SiPS), whose rule could not be read;
    `priorities` a_e set accuracy against cost.
    """

    exits: tuple[str, ...]
    priorities: tuple[float, ...]

    def __post_init__(self):
        if len(self.priorities) != len(self.exits):
            count = len(self.priorities)
            raise UsageError(f"{count} priorities for {len(self.exits)} exits")

    def __call__(self, context: Context):
        each = losses_of(context, self.exits)
        # An exit that has learnt its batch would otherwise divide by zero.
        scale = jax.lax.stop_gradient(each.mean(1, keepdims=True)) + 1e-3
        return (jnp.array(self.priorities).reshape(-1, 1) * each / scale).sum(0)


@dataclass(frozen=True)
class WeighedCrossEntropy:
    """sum_e (1 + eps v_e) CE_e, weights learnt from all losses of an example (L2W-DEN).

    Han et al. 2022 (https://arxiv.org/abs/2209.08310): v = tanh of a small map of the E
    losses, centred. centring: "mat" takes off the mean over exits and examples, "col"
    each example's own over its exits. Never each exit's over the examples: then an
    exit's weights average 1 and nothing moves from one to another. The map's parameters
    are the extra "weigher" of the exit `owner`.
    """

    exits: tuple[str, ...]
    owner: str
    eps: float = 0.3
    centring: Literal["mat", "col"] = "mat"

    def __post_init__(self):
        if self.centring not in ("mat", "col"):
            raise unknown("centring", self.centring, ("mat", "col"))

    def __call__(self, context: Context):
        each = losses_of(context, self.exits)
        weigher = extra(context, self.owner, "weigher")
        # The map reads losses; exits must not learn to please it.
        seen = jax.lax.stop_gradient(each.T)
        hidden = jax.nn.relu(seen @ weigher["w1"] + weigher["b1"].reshape(1, -1))
        raw = jnp.tanh(hidden @ weigher["w2"] + weigher["b2"].reshape(1, -1))
        # Mean 1: weights move losses between exits and examples, not their sum.
        axis = 1 if self.centring == "col" else None
        weights = 1 + self.eps * (raw - raw.mean(axis, keepdims=True))
        return (weights.T * each).sum(0)


@dataclass(frozen=True)
class AssignedCrossEntropy:
    """CE at the exit where an example would leave: the most confident at each.

    What L2W-DEN minimises one step ahead (Han et al. 2022): the sum over exits of the
    mean over those that leave there, so each example counts by B / its exit's number.
    shares: of the batch that leave at each exit, by largest probability among those
    still there.
    """

    exits: tuple[str, ...]
    shares: tuple[float, ...]

    def __post_init__(self):
        if len(self.shares) != len(self.exits) or abs(sum(self.shares) - 1) > 1e-6:
            raise UsageError(
                f"shares of {len(self.exits)} exits sum to 1: {self.shares}"
            )

    def __call__(self, context: Context):
        each = losses_of(context, self.exits)
        answers = [context.student.predictions[name] for name in self.exits]
        still, loss = jnp.ones(each.shape[1], bool), jnp.zeros(each.shape[1])
        for row, z, share in zip(each[:-1], answers, self.shares):
            # Below every probability: who has left is never among the surest.
            score = jnp.where(still, jax.nn.softmax(z).max(-1), -1.0)
            best = jax.lax.top_k(score, round(share * len(score)))[1]
            # Where fewer are left than the share, top_k reaches for those that left.
            leaves = jnp.zeros_like(still).at[best].set(True) & still
            loss, still = jnp.where(leaves, _shared(row, leaves), loss), still & ~leaves
        return jnp.where(still, _shared(each[-1], still), loss)


def _shared(row: jax.Array, leaves: jax.Array) -> jax.Array:
    """`row` [B] so that its mean over the batch is that over those who leave."""
    return row * len(row) / jnp.maximum(leaves.sum(), 1)


def losses_of(context: Context, exits: tuple[str, ...]) -> jax.Array:
    """f32[E, B], cross-entropy of every exit."""
    label = context.batch["label"]
    answers = context.student.predictions
    return jnp.stack([cross_entropy(answers[name], label) for name in exits])


def cross_entropy(logits, label):
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def extra(context: Context, exit_: str, name: str) -> jax.Array:
    """What an exit gives beside its logits; UsageError where its kind does not."""
    extras = context.student.extras.get(exit_, {})
    if name not in extras:
        has = ", ".join(extras) or "logits only"
        raise UsageError(
            f"exit {exit_!r} has no {name!r} ({has}): use another exit classifier"
        )
    return extras[name]
