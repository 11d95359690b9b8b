"""A sparse latent without training: the values of largest magnitude, quantised."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.codec.affine import quantise
from sc_jax.codec.top_k import TopKCodec
from sc_jax.compressors.compressor import Compressor
from sc_jax.errors import UsageError


class TopK(Compressor):
    """Keeps a share of each example's values and sets the rest to 0.

    share in (0, 1]; bits 1 to 16 a kept value. Nothing is learned: it can stand at any
    cut of a trained net. One block of one width; `Slicer` has several, each with the
    width that a budget of distortion asks for. Positions go through the entropy coder.
    Training keeps the same values unquantised, as Affine does.
    """

    share: float = 0.1
    bits: int = 8

    @nn.compact
    def __call__(self, z, *, train):
        codec = self.codec({}, tuple(z.shape[1:]))
        flat = z.reshape(z.shape[0], -1)
        # Of equal magnitudes top_k takes the first, as the codec does.
        _, places = jax.lax.top_k(jnp.abs(flat), codec.k)
        values = jnp.take_along_axis(flat, places, axis=1)
        # In training they stay unquantised: rounding would stop their gradient.
        if not train:
            q, zero, scale = quantise(values, self.bits, jnp)
            values = (q + zero) * scale
        rows = jnp.arange(len(flat))[:, None]
        z_hat = jnp.zeros_like(flat).at[rows, places].set(values)
        bits = jnp.full(len(flat), codec.estimate_bits(), jnp.float32)
        return z_hat.reshape(z.shape), bits

    def codec(self, params, shape) -> TopKCodec:
        if not 0 < self.share <= 1:
            raise UsageError(
                f"a top-k share is above 0 and at most 1, not {self.share}"
            )
        size = math.prod(shape)
        # At least one value: an empty message has no scale.
        return TopKCodec(shape, max(1, round(self.share * size)), self.bits)
