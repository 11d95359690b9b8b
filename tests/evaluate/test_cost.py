"""Multiply-accumulates against counts worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sc_jax.errors import UsageError
from sc_jax.traces.cost import macs, parameters


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def conv(x, kernel, strides=(1, 1), padding="SAME", **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, **options
    )


def dense(x, w):
    return x @ w


@pytest.mark.parametrize("batch", [1, 3])
def test_dense(batch):
    assert macs(dense, shape(batch, 20), shape(20, 7)) == batch * 20 * 7


def test_attention_scores():
    def scores(q, k):
        return jnp.einsum("bqhd,bkhd->bhqk", q, k)

    assert macs(scores, shape(2, 5, 3, 8), shape(2, 6, 3, 8)) == 2 * 3 * 5 * 6 * 8


def test_channel_mixing_of_a_gdn():
    def gdn(x, gamma):
        return x * lax.rsqrt(1 + jnp.einsum("bhwc,cd->bhwd", x**2, gamma))

    assert macs(gdn, shape(1, 4, 5, 12), shape(12, 12)) == 4 * 5 * 12 * 12


def test_convolution_counts_the_batch():
    assert macs(conv, shape(2, 8, 8, 3), shape(3, 3, 3, 16)) == 2 * 64 * 9 * 3 * 16


def test_strided_convolution():
    def strided(x, kernel):
        return conv(x, kernel, (2, 2))

    # resnet's first: 224 -> 112, 118 million, as every table of ResNet-50 says
    got = macs(strided, shape(1, 224, 224, 3), shape(7, 7, 3, 64))
    assert got == 112 * 112 * 49 * 3 * 64


def test_valid_padding_and_kernel_dilation():
    def dilated(x, kernel):
        return conv(x, kernel, padding="VALID", rhs_dilation=(2, 2))

    assert macs(dilated, shape(1, 9, 9, 2), shape(3, 3, 2, 5)) == 5 * 5 * 9 * 2 * 5


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_grouped_and_depthwise_convolution(groups):
    def grouped(x, kernel):
        return conv(x, kernel, feature_group_count=groups)

    got = macs(grouped, shape(1, 6, 6, 8), shape(3, 3, 8 // groups, 16))
    assert got == 36 * 9 * (8 // groups) * 16


def test_other_layouts():
    def nchw(x, kernel):
        return lax.conv(x, kernel, (1, 1), "SAME")

    assert macs(nchw, shape(1, 3, 8, 8), shape(16, 3, 3, 3)) == 64 * 9 * 3 * 16


def test_transposed_convolution_skips_the_zeros():
    def up(x, kernel):
        return lax.conv_transpose(x, kernel, (2, 2), "SAME")

    assert macs(up, shape(1, 5, 5, 4), shape(3, 3, 4, 6)) == 25 * 9 * 4 * 6


def test_scan_counts_each_turn():
    def looped(x, w):
        return lax.scan(lambda c, _: (c @ w, None), x, None, length=5)[0]

    def fori(x, w):
        return lax.fori_loop(0, 5, lambda _, c: c @ w, x)

    assert macs(looped, shape(1, 6), shape(6, 6)) == 5 * 36
    assert macs(fori, shape(1, 6), shape(6, 6)) == 5 * 36


def test_cond_counts_the_dearest_branch():
    def branch(x, w):
        return lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)

    assert macs(branch, shape(1, 6), shape(6, 6)) == 2 * 36


def test_while_is_refused_only_where_it_multiplies():
    def endless(x, w):
        return lax.while_loop(lambda c: c.sum() > 0, lambda c: c @ w, x)

    def harmless(x, w):
        return lax.while_loop(lambda c: c.sum() > 0, lambda c: c - 1, x) @ w

    with pytest.raises(UsageError, match="trip count"):
        macs(endless, shape(1, 6), shape(6, 6))
    assert macs(harmless, shape(1, 6), shape(6, 6)) == 36


def custom_jvp(x, w):
    called = jax.custom_jvp(dense)
    called.defjvp(lambda p, t: (called(*p), t[0]))
    return called(x, w)


def custom_vjp(x, w):
    called = jax.custom_vjp(dense)
    called.defvjp(lambda x, w: (called(x, w), (x, w)), lambda saved, g: saved)
    return called(x, w)


@pytest.mark.parametrize(
    "fn",
    [
        jax.jit(dense),
        jax.jit(jax.jit(dense)),
        jax.checkpoint(dense),
        jax.named_call(dense),
        custom_jvp,
        custom_vjp,
    ],
)
def test_calls_are_entered_once(fn):
    assert macs(lambda x, w: jax.nn.relu(fn(x, w)), shape(1, 6), shape(6, 3)) == 18


def test_what_nobody_reads_is_free():
    @jax.jit
    def both(x, w):
        return x @ w, x @ w @ w

    assert macs(lambda x, w: both(x, w)[0], shape(1, 6), shape(6, 6)) == 36


def test_a_callback_is_refused():
    def called(x):
        return jax.pure_callback(np.asarray, x, x)

    with pytest.raises(UsageError, match="pure_callback"):
        macs(called, shape(1, 6))


def test_the_librarys_convolution_is_seen_through_its_fast_path():
    from sc_jax.nets.layers.convolution import conv2d

    def strided(x, kernel):
        return conv2d(x, kernel, strides=(2, 2), padding="SAME")

    got = macs(strided, shape(1, 32, 32, 3), shape(3, 3, 3, 8))
    assert got == 16 * 16 * 9 * 3 * 8


def test_a_function_jitted_before_is_seen_through_its_fast_path():
    from sc_jax.nets.layers.convolution import conv2d

    @jax.jit
    def depthwise(x, kernel):
        return conv2d(x, kernel, padding="SAME", groups=4)

    args = shape(1, 8, 8, 4), shape(3, 3, 1, 4)
    before = str(jax.make_jaxpr(depthwise)(*args))  # fills the cache of jit
    assert macs(depthwise, *args) == 64 * 9 * 4
    assert str(jax.make_jaxpr(depthwise)(*args)) == before


def test_parameters_counts_arrays_shapes_and_scalars():
    tree = {"a": np.zeros((3, 4)), "b": [shape(2, 2), jnp.float32(1)], "c": None}
    assert parameters(tree) == 12 + 4 + 1
    assert parameters({}) == 0
