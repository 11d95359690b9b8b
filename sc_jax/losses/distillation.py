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
    """|z - z_dec|^2 between a feature and its autoencoded form, [B].

    The original feature z comes from the teacher's stage `original`, `decoded` is the
    student's. With an unchanged head this is the autoencoder of Jankowski et al. 2020
    (https://arxiv.org/abs/2003.02027).
    """

    decoded: str
    original: str
    over: Reduction = "sum"

    def __call__(self, context: Context):
        return Hint(self.decoded, self.original, self.over)(context)


def _teacher(context: Context):
    if context.teacher is None:
        raise UsageError("a distillation loss needs a recipe with a teacher")
    return context.teacher


def _squared(a, b, over: Reduction):
    if a.shape != b.shape:
        raise Misfit(f"hint shapes differ: student {a.shape}, teacher {b.shape}")
    # A half-precision sum over a feature map would lose most of its terms.
    error = jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32))
    error = error.reshape(error.shape[0], -1)
    return error.sum(-1) if over == "sum" else error.mean(-1)
