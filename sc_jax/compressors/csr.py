"""Min-max quantised values coded sparse, under tables of their own."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.affine import quantise
from sc_jax.codec.csr import CSRCodec
from sc_jax.compressors.compressor import Compressor
from sc_jax.errors import UsageError


class CSR(Compressor):
    """Asymmetric integers, those that are not 0 in a CSR form, and one rANS stream.

    Sung et al. 2025 (https://arxiv.org/abs/2511.11664); what of it is a reconstruction,
    `codec.csr` says. bits 1 to 8 a value. The bits returned are measured on the host,
    in training too, which passes z unchanged as Affine does.
    """

    bits: int = 4

    @nn.compact
    def __call__(self, z, *, train):
        codec = self.codec({}, tuple(z.shape[1:]))
        q, zero, scale = quantise(jax.lax.stop_gradient(z), self.bits, jnp)

        def sizes(q, zero, scale):
            whole = zip(q.astype(np.int32), zero.reshape(-1), scale.reshape(-1))
            return np.array([8.0 * len(codec.pack(*each)) for each in whole], "f4")

        shape = jax.ShapeDtypeStruct(z.shape[:1], jnp.float32)
        bits = jax.pure_callback(
            lambda *each: sizes(*map(np.asarray, each)), shape, q, zero, scale
        )
        return (z if train else (q + zero) * scale), bits

    def codec(self, params, shape) -> CSRCodec:
        try:
            return CSRCodec(shape, self.bits)
        except ValueError as error:
            raise UsageError(str(error)) from error
