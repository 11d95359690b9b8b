"""2-D pools: of a gradient that is quick on CPUs, and of a form that LiteRT has.

XLA's CPU backend scatters a max pool's gradient in a naive loop: a third of a small
network's training step. Here a pool is taken of shifted rows, then of shifted columns
(16 x at 2x2/2, 32 px). On accelerators and under `convolution.plain()` a max pool is
XLA's own; an average is never, since the converter to LiteRT knows no window of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sc_jax.nets.layers import convolution

Pads = Sequence[tuple[int, int]]


def max_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: str = "VALID"
) -> jax.Array:
    """[B, H, W, C] -> [B, H', W', C], the values of flax's max_pool.

    padding: "VALID" or "SAME". Equal maxima share the gradient (XLA: the first has it).
    """
    # Counting and export must see one pool, accelerators run their own well.
    if convolution.is_plain():
        return nn.max_pool(x, tuple(window), tuple(strides), padding)
    pads = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return _pool(x, window, strides, pads, -jnp.inf, jnp.maximum)


def mean_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: str = "VALID"
) -> jax.Array:
    """[B, H, W, C] -> [B, H', W', C]: means of what of the window lies in the image."""
    sides = x.shape[1:3]
    pads = lax.padtype_to_pads(sides, window, strides, padding)
    # Zeros add nothing, and the divisor counts only what lies in the image.
    summed = _pool(x, window, strides, pads, 0.0, jnp.add)
    # Known at trace time: a constant of the program, not a second pool of ones.
    counts = np.outer(*map(_inside, sides, window, strides, pads)).astype(np.float32)
    return (summed / counts[None, :, :, None]).astype(x.dtype)


def _pool(x, window, strides, pads: Pads, fill: float, join: Callable):
    """`join` of neighbours along the rows, then along the columns."""
    # A maximum or a sum over a window is one over its rows, then over its columns.
    for axis, (size, stride, pad) in enumerate(zip(window, strides, pads), start=1):
        if any(pad):
            wide = [(0, 0)] * x.ndim
            wide[axis] = pad
            x = jnp.pad(x, wide, constant_values=fill)
        end = x.shape[axis] - size + 1
        # Strided slices, since LiteRT has no gather for what indexing would be.
        taps = (lax.slice_in_dim(x, i, i + end, stride, axis) for i in range(size))
        x = reduce(join, taps)
    return x


def _inside(side: int, size: int, stride: int, pad: tuple[int, int]) -> np.ndarray:
    """How many of each window's cells along one axis lie in the image."""
    starts = np.arange(-pad[0], side + pad[1] - size + 1, stride)
    return np.minimum(starts + size, side) - np.maximum(starts, 0)
