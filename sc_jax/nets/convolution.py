"""2-D convolution whose gradient is quick on CPUs.

XLA's CPU backend runs many filter gradients at 1 to 20 % of its matrix product's rate.
Here the same sums are written as matrix products, or as convolutions of a form that it
runs well. On accelerators, and under `plain()`, it is XLA's own convolution. Ratios in
comments: CPU seconds of one core with AVX-512, jax 0.10.2, batches of 4 to 128.
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
_NONE: Pads = ((0, 0), (0, 0))
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
        taps = _taps(x, kernel.shape, strides, pads)
        return sum(tap * kernel[i, j, 0] for (i, j), tap in taps)
    return _steered(x, kernel, strides, pads, groups)


def _forward(x, kernel, strides, pads, groups):
    return _conv2d(x, kernel, strides, pads, groups), (x, kernel)


def _backward(strides, pads, groups, residual, dy):
    x, kernel = residual
    dx = _input_gradient(x.shape, kernel, dy, strides, pads, groups)
    return dx, _kernel_gradient(x, kernel, dy, strides, pads, groups)


_conv2d.defvjp(_forward, _backward)


def _is_pointwise(kernel, pads, groups) -> bool:
    return kernel.shape[:2] == (1, 1) and groups == 1 and pads == _NONE


def _is_depthwise(kernel, groups) -> bool:
    return groups > 1 and kernel.shape[2] == 1 and kernel.shape[3] == groups


def _steered(x, kernel, strides, pads, groups):
    """XLA's convolution, its arguments kept off two slow paths of the CPU backend.

    A kernel larger than the image takes a naive loop (20 x at 3x3 on 2x2), hence zeros
    in the image itself. One with no padding at all takes a slow packing (2 to 4 x at
    2x2, 56 px), hence a row of zeros whose output row is dropped.
    """
    if kernel.shape[0] > x.shape[1] or kernel.shape[1] > x.shape[2]:
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        pads = _NONE
    if pads != _NONE or kernel.shape[:2] == (1, 1):
        return _convolve(x, kernel, strides, pads, groups)
    y = _convolve(x, kernel, strides, ((0, strides[0]), (0, 0)), groups)
    return y[:, :-1]


def _taps(x, kernel_shape, strides, pads):
    """Pairs (i, j), [B, H', W', Cin]: the inputs that kernel[i, j] multiplies."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (kh, kw), (sh, sw) = kernel_shape[:2], strides
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    for i in range(kh):
        for j in range(kw):
            yield (i, j), x[:, i : i + height : sh, j : j + width : sw]


def _input_gradient(shape, kernel, dy, strides, pads, groups):
    """[B, H', W', Cout] -> `shape`."""
    (kh, kw, _, _), (_, height, width, channels) = kernel.shape, shape
    (top, bottom), (left, right) = pads
    side = (height + top + bottom, width + left + right)
    if _is_pointwise(kernel, pads, groups):
        return _spread(dy @ kernel[0, 0].T, strides, (0, 0), side)
    if _is_depthwise(kernel, groups):
        places = [(i, j) for i in range(kh) for j in range(kw)]
        dx = sum(_spread(dy * kernel[p][0], strides, p, side) for p in places)
        return dx[:, top : top + height, left : left + width]
    if groups > 1 or (strides != (1, 1) and channels < 8):  # five times at 3 -> 96
        x = jax.ShapeDtypeStruct(shape, dy.dtype)
        convolve = partial(
            _convolve, kernel=kernel, strides=strides, pads=pads, groups=groups
        )
        return jax.linear_transpose(convolve, x)(dy)[0]
    if strides == (1, 1):
        pads = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
        return _steered(dy, _turned(kernel), (1, 1), pads, 1)
    dx = _input_gradient_by_phase(kernel, dy, strides, side)
    return dx[:, top : top + height, left : left + width]


def _input_gradient_by_phase(kernel, dy, strides, side):
    """Gradient [B, >= side, Cin] of the padded image as interleaved convolutions.

    Rows a, a + s, ... see kernel rows a, a + s, ... only, so nothing multiplies the
    zeros of a dilated dy: 5 x at 5x5/2, 96 -> 48.
    """
    (sh, sw), count = strides, [-(-n // s) for n, s in zip(side, strides)]
    rows = []
    for a in range(sh):
        for b in range(sw):
            part = kernel[a::sh, b::sw]
            kh, kw, cin, _ = part.shape
            if kh and kw:
                after = [n - m for n, m in zip(count, dy.shape[1:3])]
                pads = ((kh - 1, after[0]), (kw - 1, after[1]))
                rows.append(_steered(dy, _turned(part), (1, 1), pads, 1))
            else:
                rows.append(jnp.zeros((dy.shape[0], *count, cin), dy.dtype))
    phases = jnp.stack(rows).reshape(sh, sw, dy.shape[0], *count, -1)
    phases = phases.transpose(2, 3, 0, 4, 1, 5)
    return phases.reshape(dy.shape[0], count[0] * sh, count[1] * sw, -1)


def _turned(kernel):
    """The kernel of the transposed map: turned by 180 degrees, channels swapped."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _spread(y, strides, offset, side):
    """Places y[b, u, v] at [b, offset + strides * (u, v)] of zeros of `side`."""
    config = [(0, 0, 0)]
    for n, stride, low, size in zip(y.shape[1:3], strides, offset, side):
        config.append((low, size - low - (n - 1) * stride - 1, stride - 1))
    return lax.pad(y, jnp.zeros((), y.dtype), [*config, (0, 0, 0)])


def _kernel_gradient(x, kernel, dy, strides, pads, groups):
    """Sums over B, H', W' in float32, whatever the compute type."""
    kh, kw, cin, cout = kernel.shape
    x, dy = x.astype(jnp.float32), dy.astype(jnp.float32)
    if (
        groups > 1
        and not _is_depthwise(kernel, groups)
        or _xla_is_quick(x, kernel, dy, strides, pads)
    ):
        convolve = partial(_convolve, x, strides=strides, pads=pads, groups=groups)
        wide = jax.ShapeDtypeStruct(kernel.shape, jnp.float32)
        (gradient,) = jax.linear_transpose(convolve, wide)(dy)
        return gradient.astype(kernel.dtype)
    taps = [tap for _, tap in _taps(x, kernel.shape, strides, pads)]
    if groups > 1:
        grads = [(tap * dy).sum((0, 1, 2)) for tap in taps]
    else:
        if cin < 8:  # a row of taps as one operand: twice at 5x5/2, 3 -> 96
            rows = range(0, kh * kw, kw)
            taps = [jnp.concatenate(taps[i : i + kw], -1) for i in rows]
        grads = [_outer(tap, dy) for tap in taps]
    return jnp.stack(grads).reshape(kernel.shape).astype(kernel.dtype)


def _xla_is_quick(x, kernel, dy, strides, pads) -> bool:
    """Whether XLA's filter gradient beats matrix products (measured 1.3 to 2.5 x).

    That gradient is a convolution whose window is dy: it must fit into the image and
    meet some padding, or it takes the slow paths above (100 x at 2x2, growing maps).
    Wide kernels are matrix products: within 1.7 x of it here, 4 x quicker elsewhere.
    """
    kh, kw, cin, cout = kernel.shape
    fits = all((n - 1) * s < m for n, s, m in zip(dy.shape[1:3], strides, x.shape[1:3]))
    padded = any(low > 0 for low, _ in pads)
    row_wins = cin < 8 and kw > 3
    return fits and padded and min(kh, kw) > 1 and min(cin, cout) < 128 and not row_wins


def _outer(a, b):
    """f32[..., M], f32[..., N] -> f32[M, N], summed over the leading axes."""
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))
