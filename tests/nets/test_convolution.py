"""conv2d against XLA's own convolution: values, gradients, types, the plain form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.nets.layers.convolution import conv2d, plain

# height, width, Cin, kernel height, width, Cout, strides, padding, groups
CASES = {
    "one_channel_5x5": (9, 8, 1, 5, 5, 8, (1, 1), ((2, 2), (2, 2)), 1),
    "encoder_stem": (17, 15, 3, 5, 5, 8, (2, 2), ((2, 2), (2, 2)), 1),
    "encoder_second": (11, 12, 16, 5, 5, 6, (2, 2), ((2, 2), (2, 2)), 1),
    "stem_7x7": (16, 17, 3, 7, 7, 4, (2, 2), ((3, 3), (3, 3)), 1),
    "same": (8, 9, 8, 3, 3, 6, (1, 1), "SAME", 1),
    "same_strided": (9, 8, 8, 3, 3, 6, (2, 2), "SAME", 1),
    "wide": (6, 7, 32, 3, 3, 48, (1, 1), "SAME", 1),
    "decoder_grows": (7, 6, 24, 2, 2, 64, (1, 1), ((1, 1), (1, 1)), 1),
    "decoder_shrinks": (33, 34, 24, 2, 2, 16, (1, 1), ((0, 0), (0, 0)), 1),
    "valid_leftover": (12, 11, 6, 3, 3, 4, (2, 3), "VALID", 1),
    "uneven_kernel": (9, 10, 4, 3, 2, 5, (2, 1), ((1, 0), (0, 2)), 1),
    "stride_over_kernel": (10, 11, 4, 2, 2, 5, (3, 3), "VALID", 1),
    "much_padding": (6, 6, 4, 2, 2, 5, (1, 1), ((3, 2), (2, 3)), 1),
    "pointwise": (8, 7, 6, 1, 1, 5, (1, 1), "SAME", 1),
    "pointwise_strided": (8, 7, 6, 1, 1, 5, (2, 2), "VALID", 1),
    "pointwise_padded": (8, 7, 6, 1, 1, 5, (1, 1), ((1, 0), (0, 1)), 1),
    "one_pixel": (1, 1, 256, 3, 3, 128, (1, 1), "SAME", 1),
    "two_pixels": (2, 2, 256, 3, 3, 256, (2, 2), ((1, 1), (1, 1)), 1),
    "depthwise": (9, 8, 6, 3, 3, 6, (1, 1), "SAME", 6),
    "depthwise_strided": (9, 8, 6, 5, 5, 6, (2, 2), ((2, 2), (2, 2)), 6),
    "depthwise_twofold": (9, 8, 3, 3, 3, 6, (1, 1), "SAME", 3),
    "grouped": (9, 8, 6, 3, 3, 4, (2, 2), "SAME", 2),
}


def _loss(x, kernel, weights, *, strides, padding, groups):
    y = conv2d(x, kernel, strides=strides, padding=padding, groups=groups)
    return (y.astype(jnp.float32) * weights).sum(), y


def _problem(case):
    h, w, cin, kh, kw, cout, strides, padding, groups = case
    draw = np.random.default_rng(0).standard_normal
    x = draw((2, h, w, cin)).astype(np.float32)
    kernel = draw((kh, kw, cin // groups, cout)).astype(np.float32)
    geometry = {"strides": strides, "padding": padding, "groups": groups}
    shape = jax.eval_shape(partial(conv2d, **geometry), x, kernel).shape
    weights = draw(shape).astype(np.float32)
    return (x, kernel, weights), partial(_loss, **geometry)


def _evaluate(loss, args):
    """((loss, y), (dx, dkernel)) of a fresh compilation."""
    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(*args)


def _relative(got, expected):
    return np.abs(np.asarray(got) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_equal_plain_convolution(name):
    args, loss = _problem(CASES[name])
    (_, y), gradients = _evaluate(loss, args)
    with plain():
        (_, expected), wanted = _evaluate(lambda *a: loss(*a), args)
    assert y.shape == expected.shape
    for got, want in zip((y, *gradients), (expected, *wanted)):
        assert _relative(got, np.asarray(want)) < 1e-4


@pytest.mark.parametrize("name", ["encoder_second", "pointwise", "depthwise"])
def test_bfloat16_runs_and_keeps_its_type(name):
    (x, kernel, weights), loss = _problem(CASES[name])
    (_, expected), wanted = _evaluate(loss, (x, kernel, weights))
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    (_, y), gradients = _evaluate(loss, (x, kernel, weights))
    for got, want in zip((y, *gradients), (expected, *wanted)):
        assert got.dtype == jnp.bfloat16
        assert _relative(got.astype(jnp.float32), np.asarray(want)) < 0.05


def test_plain_is_one_lax_convolution():
    (x, kernel, weights), loss = _problem(CASES["same"])

    def jaxpr():
        return str(jax.make_jaxpr(lambda *a: loss(*a))(x, kernel, weights))

    with plain():
        inside = jaxpr()
    assert inside.count("conv_general_dilated") == 1
    assert "custom_vjp" not in inside
    assert "custom_vjp" in jaxpr()


def test_plain_ends_with_its_block_even_after_an_error():
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(RuntimeError), plain():
        raise RuntimeError
    text = str(jax.make_jaxpr(partial(conv2d, padding="SAME"))(x, kernel))
    assert "custom_vjp" in text


def test_symbolic_batch_exports():
    batch = jax.export.symbolic_shape("b")[0]
    x = jax.ShapeDtypeStruct((batch, 9, 9, 4), jnp.float32)
    for kernel in (jnp.ones((3, 3, 4, 8)), jnp.ones((1, 1, 4, 8))):
        function = jax.jit(partial(conv2d, kernel=kernel, padding="SAME"))
        assert jax.export.export(function)(x).out_avals[0].shape[1:] == (9, 9, 8)
