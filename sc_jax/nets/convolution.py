"""2-D convolution whose gradient is quick on CPUs.

XLA's CPU backend runs filter gradients of convolutions at 1 to 17 GFLOP/s where its
matrix product runs at 60. Here the same sums are written as matrix products. On
accelerators, and under `plain()`, it is XLA's own convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = str | Sequence[tuple[int, int]]
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plain() -> Iterator[None]:
    """Within it, `conv2d` traces to one lax.conv_general_dilated (counting, export).

    It acts at trace time: a function that jit has compiled before is not retraced.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding,
    groups: int = 1,
) -> jax.Array:
    """[B, H, W, Cin], [kh, kw, Cin / groups, Cout] -> [B, H', W', Cout].

    `padding` is "SAME", "VALID" or ((low, high), (low, high)) of zeros. Reverse mode
    only on CPU (no jvp).
    """
    strides = (int(strides[0]), int(strides[1]))
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    pads = ((int(top), int(bottom)), (int(left), int(right)))
    if _plain.get() or jax.default_backend() != "cpu":
        return _convolve(x, kernel, strides, pads, groups)
    return _conv2d(x, kernel, strides, pads, groups)


def _convolve(x, kernel, strides, pads, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv2d(x, kernel, strides, pads, groups):
    if _is_pointwise(kernel, pads, groups):
        return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    if _is_depthwise(kernel, groups):
        taps = _taps(x, kernel, strides, pads)
        return sum(tap * kernel[i, j, 0] for (i, j), tap in taps)
    return _convolve(x, kernel, strides, pads, groups)


def _forward(x, kernel, strides, pads, groups):
    return _conv2d(x, kernel, strides, pads, groups), (x, kernel)


def _backward(strides, pads, groups, residual, dy):
    x, kernel = residual
    geometry = (strides, pads, groups)
    return _input_gradient(x, kernel, dy, *geometry), _kernel_gradient(
        x, kernel, dy, *geometry
    )


_conv2d.defvjp(_forward, _backward)


def _is_pointwise(kernel, pads, groups) -> bool:
    return kernel.shape[:2] == (1, 1) and groups == 1 and pads == ((0, 0), (0, 0))


def _is_depthwise(kernel, groups) -> bool:
    return groups > 1 and kernel.shape[2] == 1 and kernel.shape[3] == groups


def _taps(x, kernel, strides, pads):
    """Pairs (i, j), [B, H', W', Cin]: the inputs that kernel[i, j] multiplies."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (kh, kw), (sh, sw) = kernel.shape[:2], strides
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    for i in range(kh):
        for j in range(kw):
            yield (i, j), x[:, i : i + height : sh, j : j + width : sw]


def _input_gradient(x, kernel, dy, strides, pads, groups):
    if _is_pointwise(kernel, pads, groups):
        dx = dy @ kernel[0, 0].T
        return _spread(dx, strides, (0, 0), x.shape[1:3])
    if _is_depthwise(kernel, groups):
        side = [n + sum(p) for n, p in zip(x.shape[1:3], pads)]
        dx = sum(
            _spread(dy * kernel[i, j, 0], strides, (i, j), side)
            for i in range(kernel.shape[0])
            for j in range(kernel.shape[1])
        )
        (top, _), (left, _) = pads
        return dx[:, top : top + x.shape[1], left : left + x.shape[2]]
    convolve = partial(
        _convolve, kernel=kernel, strides=strides, pads=pads, groups=groups
    )
    return jax.linear_transpose(convolve, x)(dy)[0]


def _spread(y, strides, offset, side):
    """Places y[b, u, v] at [b, offset + strides * (u, v)] of zeros of `side`."""
    config = [(0, 0, 0)]
    for n, stride, low, size in zip(y.shape[1:3], strides, offset, side):
        config.append((low, size - low - (n - 1) * stride - 1, stride - 1))
    return lax.pad(y, jnp.zeros((), y.dtype), [*config, (0, 0, 0)])


def _kernel_gradient(x, kernel, dy, strides, pads, groups):
    """Sums over B, H', W' in float32, whatever the compute type."""
    if _is_depthwise(kernel, groups):
        dy = dy.astype(jnp.float32)
        grads = [(t * dy).sum((0, 1, 2)) for _, t in _taps(x, kernel, strides, pads)]
    elif groups == 1:
        pads_ = None if _is_pointwise(kernel, pads, groups) else pads
        taps = _taps(x, kernel, strides, pads_ or ((0, 0), (0, 0)))
        grads = [_outer(tap, dy) for _, tap in taps]
    else:
        convolve = partial(_convolve, x, strides=strides, pads=pads, groups=groups)
        return jax.linear_transpose(convolve, kernel)(dy)[0]
    return jnp.stack(grads).reshape(kernel.shape).astype(kernel.dtype)


def _outer(a, b):
    """[..., M], [..., N] -> f32[M, N], summed over the leading axes."""
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    dims = (((0,), (0,)), ((), ()))
    return lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)
