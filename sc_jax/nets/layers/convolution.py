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


def is_plain() -> bool:
    """Whether to trace XLA's own form: within `plain()`, and on accelerators."""
    return _plain.get() or jax.default_backend() != "cpu"


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding,
    groups: int = 1,
) -> jax.Array:
    """[B, H, W, Cin], [kh, kw, Cin / groups, Cout] -> [B, H', W', Cout].

    `padding` is "SAME", "VALID" or ((low, high), (low, high)) of zeros. On CPU
    there is reverse mode only (no jvp).
    """
    # Plain integers: they are static arguments of the custom gradient.
    strides = (int(strides[0]), int(strides[1]))
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    pads = ((int(top), int(bottom)), (int(left), int(right)))
    if is_plain():
        return _convolve(x, kernel, strides, pads, groups)
    if groups > 1 and kernel.shape[2] == 1 and kernel.shape[3] == groups:
        return _depthwise(x, kernel, strides, pads)
    if groups > 1:
        # Grouped but not depthwise: too rare in these networks for a form of its own.
        return _convolve(x, kernel, strides, pads, groups)
    if kernel.shape[:2] == (1, 1) and pads == _NONE:
        # A 1x1 kernel never reads what the stride skips.
        x = x[:, :: strides[0], :: strides[1]]
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]  # gradient 8 x XLA's at 56 px
        return y.reshape(*x.shape[:3], -1)
    return _conv2d(x, kernel, strides, pads)


def _convolve(x, kernel, strides, pads, groups=1):
    form = {"dimension_numbers": _LAYOUT, "feature_group_count": groups}
    return lax.conv_general_dilated(x, kernel, strides, pads, **form)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x, kernel, strides, pads):
    """Sum of shifted products: XLA's own grouped convolution is a loop of scalars."""
    # Summed in float32: there is no accumulator as inside a convolution.
    taps = _taps(x.astype(jnp.float32), kernel.shape, strides, pads)
    wide = kernel.astype(jnp.float32).reshape(-1, 1, 1, 1, kernel.shape[-1])
    products = [tap * row for tap, row in zip(taps, wide)]
    # From the first product: starting at 0 would add an operation.
    return sum(products[1:], products[0]).astype(x.dtype)


def _depthwise_forward(x, kernel, strides, pads):
    return _depthwise(x, kernel, strides, pads), (x, kernel)


def _depthwise_backward(strides, pads, residual, dy):
    """Of the input the same form, over the turned kernel; of the kernel sums.

    Left to autodiff the input's would be a sum of nine padded arrays: 10 x as slow.
    """
    x, kernel = residual
    (kh, kw), sides = kernel.shape[:2], x.shape[1:3]
    # A stride's gaps are zeros of dy; the ends make the output as large as x.
    edges = []
    for size, count, k, s, (low, _) in zip(
        sides, dy.shape[1:3], (kh, kw), strides, pads
    ):
        dilated = (count - 1) * s + 1
        edges.append((k - 1 - low, size - dilated + low, s - 1))
    zero = jnp.zeros((), dy.dtype)
    spread = lax.pad(dy, zero, ((0, 0, 0), *edges, (0, 0, 0)))
    dx = _depthwise(spread, kernel[::-1, ::-1], (1, 1), _NONE)
    # Thousands of terms a weight: summed in float32, whatever the compute type.
    wide = dy.astype(jnp.float32)
    taps = _taps(x.astype(jnp.float32), kernel.shape, strides, pads)
    gradient = jnp.stack([(tap * wide).sum((0, 1, 2)) for tap in taps])
    return dx, gradient.reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x, kernel, strides, pads):
    return _steered(x, kernel, strides, pads)


def _forward(x, kernel, strides, pads):
    return _steered(x, kernel, strides, pads), (x, kernel)


def _backward(strides, pads, residual, dy):
    x, kernel = residual
    dx = _input_gradient(x.shape, kernel, dy, strides, pads)
    return dx, _kernel_gradient(x, kernel, dy, strides, pads)


_conv2d.defvjp(_forward, _backward)


def _steered(x, kernel, strides, pads):
    """XLA's convolution, unless the CPU backend would take one of its slow paths.

    A kernel larger than the image takes a naive loop: taps side by side and one product
    (25 x at 3x3 on 2x2 px). No padding at all takes a slow packing: one row of zeros
    whose output row is dropped (2 to 4 x at 2x2, 56 px).
    """
    kh, kw, _, cout = kernel.shape
    if kh > x.shape[1] or kw > x.shape[2]:
        taps = jnp.concatenate(_taps(x, kernel.shape, strides, pads), -1)
        return taps @ kernel.reshape(-1, cout)
    if pads != _NONE or (kh, kw) == (1, 1):
        return _convolve(x, kernel, strides, pads)
    return _convolve(x, kernel, strides, ((0, strides[0]), (0, 0)))[:, :-1]


def _taps(x, kernel_shape, strides, pads):
    """[B, H', W', Cin] for each place of the kernel: the inputs that it multiplies."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (kh, kw), (sh, sw) = kernel_shape[:2], strides
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    starts = [(i, j) for i in range(kh) for j in range(kw)]
    return [x[:, i : i + height : sh, j : j + width : sw] for i, j in starts]


def _input_gradient(shape, kernel, dy, strides, pads):
    """[B, H', W', Cout] -> `shape`."""
    (kh, kw, _, _), (_, height, width, channels) = kernel.shape, shape
    (top, bottom), (left, right) = pads
    if strides == (1, 1):
        # The full correlation: each input meets every output that it took part in.
        pads = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
        return _steered(dy, _turned(kernel), (1, 1), pads)
    if channels < 8:  # here XLA's own is the quicker, 5 x at 5x5/2, 3 -> 96
        # A convolution is linear in x, so its transpose needs the shape alone.
        x = jax.ShapeDtypeStruct(shape, dy.dtype)
        convolve = partial(_convolve, kernel=kernel, strides=strides, pads=pads)
        return jax.linear_transpose(convolve, x)(dy)[0]
    side = (height + top + bottom, width + left + right)
    dx = _input_gradient_by_phase(kernel, dy, strides, side)
    # The padding's own gradient is cut off.
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
            # A stride wider than the kernel leaves phases that no tap reaches.
            if kh and kw:
                after = [n - m for n, m in zip(count, dy.shape[1:3])]
                pads = ((kh - 1, after[0]), (kw - 1, after[1]))
                rows.append(_steered(dy, _turned(part), (1, 1), pads))
            else:
                rows.append(jnp.zeros((dy.shape[0], *count, cin), dy.dtype))
    phases = jnp.stack(rows).reshape(sh, sw, dy.shape[0], *count, -1)
    # Phases become the innermost part of rows and columns: interleaved by a reshape.
    phases = phases.transpose(2, 3, 0, 4, 1, 5)
    return phases.reshape(dy.shape[0], count[0] * sh, count[1] * sw, -1)


def _turned(kernel):
    """The kernel of the transposed map: turned by 180 degrees, channels swapped."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _kernel_gradient(x, kernel, dy, strides, pads):
    """Sums over B, H', W' in float32, whatever the compute type."""
    kh, kw, cin, _ = kernel.shape
    # Thousands of terms a weight: a bfloat16 sum would stop growing.
    x, dy = x.astype(jnp.float32), dy.astype(jnp.float32)
    if _xla_is_quick(x, kernel, dy, strides, pads):
        convolve = partial(_convolve, x, strides=strides, pads=pads)
        wide = jax.ShapeDtypeStruct(kernel.shape, jnp.float32)
        (gradient,) = jax.linear_transpose(convolve, wide)(dy)
        return gradient.astype(kernel.dtype)
    taps = _taps(x, kernel.shape, strides, pads)
    if cin < 8:  # a row of taps as one operand: twice at 5x5/2, 3 -> 96
        taps = [jnp.concatenate(taps[i * kw : i * kw + kw], -1) for i in range(kh)]
    gradient = jnp.stack([_outer(tap, dy) for tap in taps])
    return gradient.reshape(kernel.shape).astype(kernel.dtype)


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
