"""Losses against the targets of a task."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from sc_jax.losses.terms import Context
from sc_jax.nets.net import FINAL


@dataclass(frozen=True)
class CrossEntropy:
    """-log softmax(y)[label] in nats, [B]; `exit` names the prediction.

    Eq. 2 of Matsubara et al. 2022 (https://arxiv.org/abs/2103.04505). `smoothing` in
    [0, 1) mixes the label with the uniform distribution (Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567); it is then not zero where the label is certain.
    """

    exit: str = FINAL
    smoothing: float = 0.0

    def __call__(self, context: Context):
        logits = context.student.predictions[self.exit]
        label = context.batch["label"]
        hard = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        if not self.smoothing:
            return hard
        # Cross-entropy against the uniform distribution: the mean over classes.
        uniform = -jax.nn.log_softmax(logits).mean(-1)
        return (1 - self.smoothing) * hard + self.smoothing * uniform


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Mean over K labels of the sigmoid cross-entropy in nats, [B].

    For answers of several labels at once: logits [B, K] against bool [B, K] (binary
    relevance, Tsoumakas and Katakis 2007, https://doi.org/10.4018/jdwm.2007070101).
    """

    exit: str = FINAL

    def __call__(self, context: Context):
        logits = context.student.predictions[self.exit]
        labels = context.batch["label"].astype(jnp.float32)
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1)
