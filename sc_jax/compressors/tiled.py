"""Channels as one grey picture, coded by an image format; nothing is trained."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.tiled import TiledCodec
from sc_jax.compressors.compressor import Compressor


class Tiled(Compressor):
    """Min-max quantised channels in a mosaic, stored as a PNG, WebP, JPEG or AVIF.

    Choi and Bajić 2018 (https://arxiv.org/abs/1802.03931), with the formats that Pillow
    has in place of HEVC. bits 1 to 8 a value; quality: of a lossy file, at 8 bits.
    bits returned are measured on the host, in training too: with straight-through
    gradients, as fine-tuning with the compression in the loop needs.
    """

    bits: int = 8
    format: str = "PNG"
    quality: int | None = None

    @nn.compact
    def __call__(self, z, *, train):
        codec = self.codec({}, tuple(z.shape[1:]))

        def files(latents):
            data = [codec.encode(np.asarray(latent)) for latent in latents]
            decoded = np.stack([codec.decode(d) for d in data])
            return decoded, np.array([8.0 * len(d) for d in data], np.float32)

        fixed = jax.lax.stop_gradient(z)
        shapes = (
            jax.ShapeDtypeStruct(z.shape, jnp.float32),
            jax.ShapeDtypeStruct(z.shape[:1], jnp.float32),
        )
        z_hat, bits = jax.pure_callback(files, shapes, fixed)
        # Not in evaluation: z + (z_hat - z) may differ from z_hat in its last bit.
        return (z + (z_hat - fixed) if train else z_hat), bits

    def codec(self, params, shape) -> TiledCodec:
        return TiledCodec(shape, self.bits, self.format, self.quality)
