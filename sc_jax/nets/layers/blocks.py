"""The layers that backbones and bottlenecks are made of (flax linen leaves)."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from sc_jax.nets.layers.convolution import conv2d

Padding = Any  # "SAME", "VALID", or an int: that many zeros on every side
# Fan out, as torchvision's networks start.
_HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")


def he_normal(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """The usual initializer (He et al. 2015), the same numbers, drawn flat.

    A draw of four axes takes XLA's CPU compiler ten times as long as a flat one. So the
    flat draw pretends to a shape of two axes with the same fan.
    """
    # Taps times output channels: the fan out of the kernel of four axes.
    outputs = math.prod(shape[:-2]) * shape[-1]
    flat = _HE_NORMAL(key, (math.prod(shape) // outputs, outputs), dtype)
    return flat.reshape(shape)


def sliced(x: jax.Array, axis: int, start: int, stop: int | None, stride: int = 1):
    """x[start:stop:stride] along one axis, so that it exports for any batch.

    Indexing is there a gather, which LiteRT lacks.
    """
    return lax.slice_in_dim(x, start, stop, stride, axis)


class Conv(nn.Module):
    """2-D convolution, [B, H, W, Cin] -> [B, H', W', features]; no bias by default.

    `start` draws the kernel, [height, width, Cin / groups, features].
    """

    features: int
    kernel: int = 3
    stride: int = 1
    padding: Padding = "SAME"
    groups: int = 1
    bias: bool = False
    start: nn.initializers.Initializer = he_normal

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.start, shape)
        padding = self.padding
        if isinstance(padding, int):
            # Symmetric, as PyTorch pads: "SAME" pads less on the near side at stride 2.
            padding = ((padding, padding),) * 2
        x = conv2d(
            x,
            kernel,
            strides=(self.stride, self.stride),
            padding=padding,
            groups=self.groups,
        )
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            # Reshaped: rank promotion is an error in the tests.
            x = x + bias.reshape(1, 1, 1, -1)
        return x


class ConvNorm(nn.Module):
    """Convolution, batch norm (momentum 0.9, epsilon 1e-5), optional ReLU."""

    features: int
    kernel: int = 3
    stride: int = 1
    padding: Padding = "SAME"
    relu: bool = True

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(self.features, self.kernel, self.stride, self.padding)(x)
        x = norm(train)(x)
        return nn.relu(x) if self.relu else x


def norm(train: bool, **kwargs) -> nn.BatchNorm:
    """Batch norm as torchvision sets it; statistics are always float32."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, **kwargs)


class Normalise(nn.Module):
    """uint8 or float images in 0..255 -> float32, per-channel mean 0 and deviation 1.

    `mean` and `std` are of images scaled to 0..1; one value serves all channels.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    @nn.compact
    def __call__(self, x, *, train):
        # One multiplication and one subtraction a pixel: division is slow in int8
        # heads.
        scale = 1.0 / (255.0 * jnp.asarray(self.std, jnp.float32))
        shift = jnp.asarray(self.mean, jnp.float32) / jnp.asarray(self.std, jnp.float32)
        shape = (1,) * (x.ndim - 1) + (-1,)
        return x.astype(jnp.float32) * scale.reshape(shape) - shift.reshape(shape)


class Pooled(nn.Module):
    """Global average pool: [B, H, W, C] -> [B, C]."""

    @nn.compact
    def __call__(self, x, *, train):
        return x.mean((1, 2))


class Classifier(nn.Module):
    """Linear layer to K logits, with dropout before it: [B, ...] -> [B, K]."""

    classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train):
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)


@jax.custom_vjp
def lower_bound(x: jax.Array, bound: float) -> jax.Array:
    """max(x, bound); the gradient passes where x >= bound or a step would raise x.

    (Balle et al. 2018; the usual max would freeze a value below the bound for good.)
    """
    return jnp.maximum(x, bound)


def _bound_forward(x, bound):
    return jnp.maximum(x, bound), (x, bound)


def _bound_backward(residual, gradient):
    x, bound = residual
    # A negative gradient raises x under descent: out of the forbidden range.
    return jnp.where((x >= bound) | (gradient < 0), gradient, 0.0), None


lower_bound.defvjp(_bound_forward, _bound_backward)

# Keeps the root's derivative finite at 0 (Ballé et al. 2018).
_PEDESTAL = 2.0**-36


def _non_negative(raw: jax.Array, minimum: float) -> jax.Array:
    """v^2 - 2^-36 with v bounded below, so that the value stays >= minimum."""
    return lower_bound(raw, (minimum + _PEDESTAL) ** 0.5) ** 2 - _PEDESTAL


class GDN1(nn.Module):
    """Generalised divisive normalisation, L1 form (Balle et al. 2016; Johnston 2019).

    y = x / (beta + gamma |x|), or x * (...) when inverse; gamma is a full C x C map,
    a 1x1 convolution. beta >= 1e-6 starts at 1, gamma >= 0 at 0.1 I. In float32.
    """

    inverse: bool = False

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]

        def start(value):
            return lambda key: jnp.sqrt(value + _PEDESTAL)

        beta = self.param("beta", start(jnp.ones(channels)))
        # Diagonal at first: every channel is normalised by itself alone.
        gamma = self.param("gamma", start(0.1 * jnp.eye(channels)))
        beta = _non_negative(beta.astype(jnp.float32), 1e-6)
        gamma = _non_negative(gamma.astype(jnp.float32), 0.0)
        # A quotient of sums over all channels: half precision loses the small ones.
        wide = x.astype(jnp.float32)
        # As a 1x1 convolution, which is a matrix product everywhere, also in LiteRT.
        pool = conv2d(jnp.abs(wide), gamma.T[None, None], padding="VALID")
        pool = pool + beta.reshape(1, 1, 1, -1)
        return (wide * pool if self.inverse else wide / pool).astype(x.dtype)
