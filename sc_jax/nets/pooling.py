"""2-D max pool whose gradient is quick on CPUs, as `convolution` is for convolutions.

XLA's CPU backend scatters a pool's gradient in a naive loop: half of a small network's
training step. Here a pool is maxima of shifted rows, then of shifted columns (20 x at
2x2/2, 32 px). On accelerators and under `convolution.plain()` it is XLA's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from sc_jax.nets import convolution


def max_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: str = "VALID"
) -> jax.Array:
    """[B, H, W, C] -> [B, H', W', C], the values of flax's max_pool.

    padding: "VALID" or "SAME". Equal maxima share the gradient (XLA: the first has it).
    """
    if convolution.is_plain():
        return nn.max_pool(x, tuple(window), tuple(strides), padding)
    pads = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    for axis, (size, stride, pad) in enumerate(zip(window, strides, pads), start=1):
        x = _along(x, axis, size, stride, pad)
    return x


def _along(x, axis: int, size: int, stride: int, pad: tuple[int, int]):
    """Maxima of `size` neighbours along one axis."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = pad
    x = jnp.pad(x, pads, constant_values=-jnp.inf) if any(pad) else x
    end = x.shape[axis] - size + 1
    taps = [lax.slice_in_dim(x, i, i + end, stride, axis) for i in range(size)]
    return reduce(jnp.maximum, taps)
