"""Pools against flax's: values, gradients, and the plain form."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.nets.layers.convolution import plain
from sc_jax.nets.layers.pooling import max_pool, mean_pool

CASES = [  # sides, window, strides, padding
    ((8, 8), (2, 2), (2, 2), "VALID"),
    ((9, 7), (3, 3), (2, 2), "VALID"),
    ((9, 6), (3, 3), (2, 2), "SAME"),
    ((7, 5), (3, 3), (1, 1), "SAME"),
    ((7, 8), (2, 4), (2, 4), "SAME"),
    ((5, 1), (2, 1), (3, 1), "VALID"),
]


@pytest.mark.parametrize("sides, window, strides, padding", CASES)
def test_values_and_gradients_equal_flax(sides, window, strides, padding):
    draw = np.random.default_rng(0)
    x = draw.permutation(2 * sides[0] * sides[1] * 3).reshape(2, *sides, 3) - 40.0
    x = jnp.asarray(x, jnp.float32)  # no ties, below zero too

    def weighed(pool, x):
        y = pool(x, window, strides, padding)
        return (y * jnp.arange(y.size).reshape(y.shape)).sum(), y

    both = [
        jax.value_and_grad(lambda x: weighed(pool, x), has_aux=True)(x)  # noqa: B023
        for pool in (nn.max_pool, max_pool)
    ]
    ((_, y), dx), ((_, our_y), our_dx) = both
    np.testing.assert_array_equal(y, our_y)
    np.testing.assert_allclose(dx, our_dx, rtol=1e-6)


@pytest.mark.parametrize("sides, window, strides, padding", CASES)
def test_means_are_of_what_lies_in_the_image(sides, window, strides, padding):
    x = np.random.default_rng(1).normal(size=(2, *sides, 3)).astype(np.float32)
    ours = mean_pool(x, window, strides, padding)
    theirs = nn.avg_pool(x, window, strides, padding, count_include_pad=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_equal_maxima_share_the_gradient():
    x = jnp.zeros((1, 2, 2, 1))
    dx = jax.grad(lambda x: max_pool(x, (2, 2), (2, 2)).sum())(x)
    np.testing.assert_array_equal(dx.ravel(), [0.25] * 4)


def test_the_plain_form_is_one_operation():
    def pool(x):
        return max_pool(x, (2, 2), (2, 2))

    x = jnp.ones((1, 4, 4, 2))
    with plain():
        traced = str(jax.make_jaxpr(pool)(x))
    assert "reduce_window_max" in traced
    assert "reduce_window_max" not in str(jax.make_jaxpr(lambda x: pool(x))(x))
