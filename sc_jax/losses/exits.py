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
    """Cross-entropy of the logits that an exit tells as its "own", before joining."""

    exit: str

    def __call__(self, context: Context):
        logits = told(context, self.exit, "own")
        return cross_entropy(logits, context.batch["label"])


@dataclass(frozen=True)
class ExitDistillation:
    """tau^2 KL between later exits, held fixed, and an exit: mean over `teachers`.

    Phuong & Lampert 2019 and Zhang et al. 2019 teach by the last exit; next or all
    later ones are other choices of `teachers`. direction: "forward" is KL(teacher ||
    exit), "reverse" the other way (FastBERT has both). tau may be a schedule of the
    step in its phase; None: what each teacher tells as its "temperature".
    """

    exit: str
    teachers: tuple[str, ...] = (FINAL,)
    tau: float | optax.Schedule | None = 1.0
    direction: Literal["forward", "reverse"] = "forward"

    def __post_init__(self):
        if self.direction not in ("forward", "reverse"):
            raise unknown("direction", self.direction, ("forward", "reverse"))
        fixed = self.tau is not None and not callable(self.tau)
        if not self.teachers or (fixed and not self.tau > 0):
            raise UsageError("exit distillation takes teachers and a tau above 0")

    def __call__(self, context: Context):
        answers = context.student.predictions
        parts = []
        for name in self.teachers:
            taught = jax.lax.stop_gradient(answers[name])
            tau = self.tau(context.step) if callable(self.tau) else self.tau
            if tau is None:
                tau = told(context, name, "temperature")
            log_p = jax.nn.log_softmax(taught / tau)
            log_q = jax.nn.log_softmax(answers[self.exit] / tau)
            if self.direction == "reverse":
                log_p, log_q = log_q, log_p
            parts.append(tau**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1))
        return jnp.stack(parts).mean(0)


@dataclass(frozen=True)
class AdaptiveWeights:
    """sum_e a_e CE_e / (its mean over the batch, held fixed): weights that adapt.

    The gradient of sum_e a_e log L_e, which is homoscedastic uncertainty weighting
    (Kendall et al. 2018) with its own optimum put in. Reconstruction of DynExit (Wang
    et al. 2019), whose rule could not be read; `priorities` a_e are theirs to cost.
    """

    exits: tuple[str, ...]
    priorities: tuple[float, ...]

    def __post_init__(self):
        if len(self.priorities) != len(self.exits):
            given = len(self.priorities)
            raise UsageError(f"{given} priorities for {len(self.exits)} exits")

    def __call__(self, context: Context):
        each = losses_of(context, self.exits)
        scale = jax.lax.stop_gradient(each.mean(1, keepdims=True)) + 1e-3
        return (jnp.array(self.priorities).reshape(-1, 1) * each / scale).sum(0)


@dataclass(frozen=True)
class WeighedCrossEntropy:
    """sum_e (1 + eps v_e) CE_e, weights learnt from all losses of an example (L2W-DEN).

    Han et al. 2022: v = tanh of a small map of the E losses, its mean over the batch
    taken off. The map's parameters are what the exit `owner` tells as "weigher".
    """

    exits: tuple[str, ...]
    owner: str
    eps: float = 0.3

    def __call__(self, context: Context):
        each = losses_of(context, self.exits)
        weigher = told(context, self.owner, "weigher")
        seen = jax.lax.stop_gradient(each.T)
        hidden = jax.nn.relu(seen @ weigher["w1"] + weigher["b1"].reshape(1, -1))
        raw = jnp.tanh(hidden @ weigher["w2"] + weigher["b2"].reshape(1, -1))
        weights = 1 + self.eps * (raw - raw.mean(0, keepdims=True))
        return (weights.T * each).sum(0)


@dataclass(frozen=True)
class AssignedCrossEntropy:
    """CE at the exit where an example would leave: the surest of the batch at each.

    What L2W-DEN's look ahead judges. shares: of the batch, by largest probability among
    those still there; as exits.rules.top_fraction, but for rounding.
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
            sure = jnp.where(still, jax.nn.softmax(z).max(-1), -1.0)
            best = jax.lax.top_k(sure, round(share * len(sure)))[1]
            leaves = jnp.zeros_like(still).at[best].set(True) & still
            loss, still = jnp.where(leaves, row, loss), still & ~leaves
        return jnp.where(still, each[-1], loss)


def losses_of(context: Context, exits: tuple[str, ...]) -> jax.Array:
    """f32[E, B], cross-entropy of every exit."""
    label = context.batch["label"]
    answers = context.student.predictions
    return jnp.stack([cross_entropy(answers[name], label) for name in exits])


def cross_entropy(logits, label):
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def told(context: Context, exit_: str, name: str) -> jax.Array:
    tells = context.student.extras.get(exit_, {})
    if name not in tells:
        has = ", ".join(tells) or "logits only"
        raise UsageError(f"exit {exit_!r} tells no {name!r} ({has}): use another head")
    return tells[name]
