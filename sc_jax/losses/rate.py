"""The rate term of a rate-distortion objective."""

from dataclasses import dataclass

import jax.numpy as jnp

from sc_jax.losses.terms import Context


@dataclass(frozen=True)
class Rate:
    """Estimated bits an example, [B]; `split` names one split, None sums them all.

    -log2 of the prior's likelihood (Balle et al. 2017, https://arxiv.org/abs/1611.01704).
    Where a compressor of several rates gives a "rate_weight", an example's bits count
    by the weight of its own (Choi et al. 2019, https://arxiv.org/abs/1909.04802).
    """

    split: str | None = None

    def __call__(self, context: Context):
        student = context.student
        # A device, an edge and a cloud send twice: both count.
        names = [self.split] if self.split else list(student.bits)
        return jnp.stack([_weighed(student, name) for name in names]).sum(0)


def _weighed(student, name: str):
    weight = student.extras.get(name, {}).get("rate_weight")
    return student.bits[name] if weight is None else weight * student.bits[name]
