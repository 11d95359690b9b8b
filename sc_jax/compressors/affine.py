"""A uniform quantiser over each example's own range."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.codec.affine import AffineCodec, quantise
from sc_jax.compressors.compressor import Compressor


class Affine(Compressor):
    """Uniform quantiser over each example's own range; 1 to 16 bits a value.

    The scale and zero point travel too (64 bits). Training passes z unchanged as the
    papers do (quantised at test only), or straight-through when `aware`.
    """

    bits: int = 8
    aware: bool = False

    @nn.compact
    def __call__(self, z, *, train):
        # 32 bits each for the scale and the zero point.
        bits = math.prod(z.shape[1:]) * self.bits + 64.0
        bits = jnp.full(z.shape[0], bits, jnp.float32)
        # The rate is constant, so nothing of it has to be learned.
        if train and not self.aware:
            return z, bits
        q, zero, scale = quantise(z, self.bits, jnp)
        z_hat = (q + zero) * scale
        # Not in evaluation: z + (z_hat - z) may differ from z_hat in its last bit.
        return (z + jax.lax.stop_gradient(z_hat - z) if train else z_hat), bits

    def codec(self, params, shape) -> AffineCodec:
        return AffineCodec(shape, self.bits)
