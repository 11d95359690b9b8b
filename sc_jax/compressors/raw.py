"""The latent as it is."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.codec.raw import RawCodec
from sc_jax.compressors.compressor import Compressor


class Raw(Compressor):
    """The latent as it is: 32 or 16 bits a value ("float32" or "float16")."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, z, *, train):
        # Through the wire's type: training sees what float16 loses.
        z_hat = z.astype(self.dtype).astype(jnp.float32)
        bits = math.prod(z.shape[1:]) * 8.0 * jnp.dtype(self.dtype).itemsize
        return z_hat, jnp.full(z.shape[0], bits, jnp.float32)

    def codec(self, params, shape) -> RawCodec:
        return RawCodec(shape, self.dtype)
