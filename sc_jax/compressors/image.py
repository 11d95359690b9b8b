"""An image file at the input."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.image import ImageCodec
from sc_jax.compressors.compressor import Compressor


class Image(Compressor):
    """An image file at the input: PNG, or JPEG, WEBP, AVIF of a quality; untrainable.

    side: of a smaller file, in pixels; 0: of the image's own. z uint8[B, H, W, C];
    z_hat uint8 likewise; bits are measured, not estimated.
    """

    format: str = "PNG"
    quality: int | None = None
    side: int = 0

    @nn.compact
    def __call__(self, z, *, train):
        codec = self.codec({}, tuple(z.shape[1:]))

        def files(images):
            data = [codec.encode(np.asarray(image)) for image in images]
            decoded = np.stack([codec.decode(d) for d in data])
            return decoded, np.array([8.0 * len(d) for d in data], np.float32)

        shapes = (
            jax.ShapeDtypeStruct(z.shape, jnp.uint8),
            jax.ShapeDtypeStruct(z.shape[:1], jnp.float32),
        )
        # Image formats are no XLA programs: the host codes, and measures.
        return jax.pure_callback(files, shapes, z)

    def codec(self, params, shape) -> ImageCodec:
        return ImageCodec(self.format, self.quality, shape, self.side)
