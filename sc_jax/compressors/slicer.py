"""Filtered values in blocks of like magnitude with a width each; nothing is trained."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.codec import slicer
from sc_jax.codec.slicer import Sliced, SlicerCodec
from sc_jax.codec.tables import TOTAL
from sc_jax.compressors.compressor import Compressor
from sc_jax.errors import UsageError


class Slicer(Compressor):
    """Asymmetric top-K filter, magnitude-splitting, adaptive bit quantisation.

    SLICER, Sung et al. 2025 (https://arxiv.org/abs/2511.11608); what of it is a
    reconstruction, `codec.slicer` says. share in (0, 1] of each example's values is
    kept (1 - s of the paper); asymmetry (lambda): what a negative value's magnitude is
    multiplied by where values compete; blocks (M); distortion (delta): the mean
    mismatch of a block's integers, in steps of a grid of `bits` over all kept
    magnitudes, to the nearest 1/16. Training keeps the same values unquantised.
    """

    share: float = 0.2
    asymmetry: float = 1.0
    blocks: int = 4
    bits: int = 8
    distortion: float = 1.0

    @nn.compact
    def __call__(self, z, *, train):
        codec = self.codec({}, tuple(z.shape[1:]))
        flat = z.reshape(z.shape[0], -1)
        found = codec.sliced(flat, jnp)
        # In training they stay unquantised: rounding would stop their gradient.
        values = (
            jnp.take_along_axis(flat, found.places, axis=1)
            if train
            else codec.values(found, jnp)
        )
        rows = jnp.arange(len(flat))[:, None]
        z_hat = jnp.zeros_like(flat).at[rows, found.places].set(values)
        return z_hat.reshape(z.shape), estimate(found, codec)

    def codec(self, params, shape) -> SlicerCodec:
        if not 0 < self.share <= 1:
            raise UsageError(
                f"a slicer's share is above 0 and at most 1, not {self.share}"
            )
        keep = max(1, round(self.share * math.prod(shape)))
        steps = round(self.distortion * slicer.UNIT)
        try:
            own = (self.asymmetry, self.blocks, self.bits, steps)
            return SlicerCodec(shape, keep, *own)
        except ValueError as error:
            raise UsageError(f"{error} (distortion in 1/{slicer.UNIT})") from error


def estimate(found: Sliced, codec: SlicerCodec):
    """Bits f32[B]: the header, every code, and the ideal length of the mask."""
    packed = (found.sizes * found.width).sum(1)
    header = 8 * (slicer.HEADER + 2 * codec.blocks) + 8 * ((packed + 7) // 8)
    below = jnp.cumsum(found.negative, axis=1, dtype=jnp.int32)
    below = jnp.concatenate([jnp.zeros_like(below[:, :1]), below], axis=1)
    ends = found.starts + found.sizes
    below = jnp.take_along_axis(below, ends, 1) - jnp.take_along_axis(
        below, found.starts, 1
    )
    kept = found.kept.astype(jnp.float32)
    share = found.negative.sum(1, keepdims=True) / kept
    sizes = found.sizes.astype(jnp.float32)
    counts = jnp.concatenate([below, found.sizes - below, codec.size - kept], 1)
    weights = [sizes * share, sizes * (1 - share), codec.size - kept]
    room = TOTAL - 2 - 2 * codec.blocks
    slots = 1 + jnp.concatenate(weights, 1) * (room / codec.size)
    mask = counts * (math.log2(TOTAL) - jnp.log2(slots))
    return header.astype(jnp.float32) + mask.sum(1)
