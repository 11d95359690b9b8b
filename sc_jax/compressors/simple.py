"""Compressors without learned parameters: raw floats, affine quantiser, image files."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.simple import INT32_EDGE, TINY, ImageCodec


class Raw(nn.Module):
    """The latent as it is: 32 or 16 bits a value ("float32" or "float16")."""

    dtype: str = "float32"

    @nn.compact
    def __call__(self, z, *, train):
        z_hat = z.astype(self.dtype).astype(jnp.float32)
        bits = math.prod(z.shape[1:]) * 8.0 * jnp.dtype(self.dtype).itemsize
        return z_hat, jnp.full(z.shape[0], bits, jnp.float32)


class Affine(nn.Module):
    """Uniform quantiser over each example's own range; 1 to 16 bits a value.

    The scale and zero point travel too (64 bits). Training passes z unchanged as the
    papers do (quantised at test only), or straight-through when `aware`.
    """

    bits: int = 8
    aware: bool = False

    @nn.compact
    def __call__(self, z, *, train):
        bits = math.prod(z.shape[1:]) * self.bits + 64.0
        bits = jnp.full(z.shape[0], bits, jnp.float32)
        if train and not self.aware:
            return z, bits
        q, zero, scale = self._quantise(z)
        z_hat = (q + zero) * scale
        return (z + jax.lax.stop_gradient(z_hat - z) if train else z_hat), bits

    def parts(self, z):
        """What AffineCodec.pack takes of each example: symbols, zero point, scale."""
        q, zero, scale = self._quantise(z)
        whole = {"symbols": q, "zero": zero.reshape(-1)}
        whole = {name: value.astype(jnp.int32) for name, value in whole.items()}
        return {"scale": scale.reshape(-1), **whole}

    def _quantise(self, z):
        """Step for step AffineCodec; the value is (q + zero) * scale, so that no fusing
        changes it.
        """
        axes = tuple(range(1, z.ndim))
        low = z.min(axes, keepdims=True)
        scale = z.max(axes, keepdims=True) - low
        scale = scale * np.float32(1 / (2**self.bits - 1))
        scale = jnp.where(scale >= TINY, scale, 1.0)
        zero = jnp.clip(jnp.round(low / scale), -INT32_EDGE, INT32_EDGE)
        # A divisor that varies with z: XLA multiplies by 1 / a broadcast one.
        divisor = jnp.where(z == z, scale, 1.0)
        q = jnp.clip(jnp.round(z / divisor) - zero, 0.0, 2.0**self.bits - 1)
        return q, zero, scale


class Image(nn.Module):
    """An image file at the input: PNG, or JPEG / WEBP of a quality; not trainable.

    z uint8[B, H, W, C]; z_hat uint8 likewise; bits are measured, not estimated.
    """

    format: str = "PNG"
    quality: int | None = None

    @nn.compact
    def __call__(self, z, *, train):
        codec = ImageCodec(self.format, self.quality, tuple(z.shape[1:]))

        def files(images):
            data = [codec.encode(np.asarray(image)) for image in images]
            decoded = np.stack([codec.decode(d) for d in data])
            return decoded, np.array([8.0 * len(d) for d in data], np.float32)

        shapes = (
            jax.ShapeDtypeStruct(z.shape, jnp.uint8),
            jax.ShapeDtypeStruct(z.shape[:1], jnp.float32),
        )
        return jax.pure_callback(files, shapes, z)
