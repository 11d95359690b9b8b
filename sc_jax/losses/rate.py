"""The rate term of a rate-distortion objective."""

from dataclasses import dataclass

import jax.numpy as jnp

from sc_jax.losses.terms import Context


@dataclass(frozen=True)
class Rate:
    """Estimated bits an example, [B]; `split` names one split, None sums them all.

    -log2 of the prior's likelihood (Balle et al. 2017, https://arxiv.org/abs/1611.01704).
    """

    split: str | None = None

    def __call__(self, context: Context):
        bits = context.student.bits
        # A device, an edge and a cloud send twice: both count.
        chosen = [bits[self.split]] if self.split else list(bits.values())
        return jnp.stack(chosen).sum(0)
