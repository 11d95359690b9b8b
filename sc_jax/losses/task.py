"""Losses against labels."""

from dataclasses import dataclass

import jax
import optax

from sc_jax.losses.terms import Context
from sc_jax.nets.net import FINAL


@dataclass(frozen=True)
class CrossEntropy:
    """-log softmax(y)[label] in nats, [B] (survey Eq. 2); `exit` names the prediction.

    `smoothing` in [0, 1) mixes the label with the uniform distribution.
    """

    exit: str = FINAL
    smoothing: float = 0.0

    def __call__(self, context: Context):
        logits = context.student.predictions[self.exit]
        label = context.batch["label"]
        hard = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        if not self.smoothing:
            return hard
        uniform = -jax.nn.log_softmax(logits).mean(-1)
        return (1 - self.smoothing) * hard + self.smoothing * uniform
