"""Losses against a teacher, or against the net's own undamaged features."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sc_jax.errors import Misfit, UsageError, unknown
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Context, Reduction
from sc_jax.nets.net import FINAL


@dataclass(frozen=True)
class KnowledgeDistillation:
    """alpha CE + (1 - alpha) tau^2 KL(teacher || student), [B], nats.

    Hinton et al. 2014 (https://arxiv.org/abs/1503.02531); both distributions are
    softened by the temperature tau. The divergence is zero where the logits agree.
    alpha = 0 reads no labels.
    """

    alpha: float = 0.5
    tau: float = 1.0
    exit: str = FINAL

    def __call__(self, context: Context):
        student = context.student.predictions[self.exit] / self.tau
        teacher = _teacher(context).predictions[FINAL] / self.tau
        log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(student)
        # In logs: probabilities of unlikely classes underflow.
        divergence = (jnp.exp(log_p) * (log_p - log_q)).sum(-1)
        # tau^2 keeps the gradient's size: softening divides it by tau twice.
        soft = (1 - self.alpha) * self.tau**2 * divergence
        if not self.alpha:
            return soft
        return self.alpha * CrossEntropy(self.exit)(context) + soft


@dataclass(frozen=True)
class Hint:
    """Squared error between a student's and a teacher's feature, [B].

    One hint at the bottleneck is head network distillation (Matsubara et al. 2019,
    https://doi.org/10.1145/3349614.3356022); several, each a Term of its own weight,
    are generalised HND (Matsubara and Levorato 2020, https://arxiv.org/abs/2007.15818).
    `over` says how the features of an example are reduced: "sum" as published, "mean".
    """

    student: str
    teacher: str
    over: Reduction = "sum"

    def __post_init__(self):
        if self.over not in ("sum", "mean"):
            raise unknown("reduction", self.over, ("sum", "mean"))

    def __call__(self, context: Context):
        theirs = _teacher(context).features[self.teacher]
        return _squared(context.student.features[self.student], theirs, self.over)


@dataclass(frozen=True)
class Reconstruction:
    """The power-th power of the norm-norm of z - z_dec + eps, [B] (survey Eq. 5).

    z is the teacher's stage `original`, z_dec the student's `decoded`: the autoencoder
    behind an unchanged head. norm n is 1 or 2, power m is 1 or n. Choi et al. 2020
    (https://arxiv.org/abs/2002.07036) have n = 2, m = 1, eps 1e-6; Jankowski et al.
    2020 (https://arxiv.org/abs/2003.02027) n = m = 1.
    """

    decoded: str
    original: str
    norm: int = 2
    power: int = 2
    eps: float = 0.0

    def __post_init__(self):
        if self.norm not in (1, 2) or self.power not in (1, self.norm):
            raise UsageError(
                f"a reconstruction's norm is 1 or 2 and its power 1 or the norm, not "
                f"norm {self.norm}, power {self.power}"
            )

    def __call__(self, context: Context):
        original = _teacher(context).features[self.original]
        decoded = context.student.features[self.decoded]
        # z first: eps has a sign.
        error = -_difference(decoded, original) + self.eps
        total = (jnp.abs(error) if self.norm == 1 else jnp.square(error)).sum(-1)
        if self.power == self.norm:
            return total
        # A root has no slope at 0; what is masked must not be one either.
        positive = total > 0
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, total, 1.0)), 0.0)


def _teacher(context: Context):
    if context.teacher is None:
        raise UsageError("a distillation loss needs a recipe with a teacher")
    return context.teacher


def _squared(a, b, over: Reduction):
    error = jnp.square(_difference(a, b))
    return error.sum(-1) if over == "sum" else error.mean(-1)


def _difference(a, b):
    """f32[B, ...values of a feature], a - b; Misfit where they differ in shape."""
    if a.shape != b.shape:
        raise Misfit(f"hint shapes differ: student {a.shape}, teacher {b.shape}")
    # A half-precision sum over a feature map would lose most of its terms.
    error = a.astype(jnp.float32) - b.astype(jnp.float32)
    return error.reshape(error.shape[0], -1)
