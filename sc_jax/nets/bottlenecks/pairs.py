"""Encoder/decoder pairs that replace the first stages of a network.

A decoder ends in ReLU, as most features do that it restores; `linear` is for a feature
that no ReLU made (`Backbone.linear`), half of whose values no ReLU can reach.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.nets.bottlenecks.fp import FPDecoder, FPEncoder
from sc_jax.nets.bottlenecks.projection import ProjectionDecoder, ProjectionEncoder
from sc_jax.nets.bottlenecks.residual import ResidualDecoder, ResidualEncoder
from sc_jax.nets.layers.blocks import Conv, ConvNorm, norm
from sc_jax.nets.layers.pooling import max_pool, mean_pool


class CREncoder(nn.Module):
    """Stem, then 2x2 convolutions 64, 256, 64, `channels` (GHND, CR; layer1 form).

    Matsubara & Levorato 2021. The stem is 7x7/2 and a 3x3/2 max pool, or for small
    images a 3x3 convolution with `strides` twice. Each 2x2 adds one pixel a side.
    """

    channels: int = 12
    strides: tuple[int, int] = (2, 2)
    small: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        if self.small:
            x = ConvNorm(64, 3, self.strides[0])(x, train=train)
            x = ConvNorm(64, 3, self.strides[1])(x, train=train)
        else:
            x = resnet_stem(x, train)
        # No ReLU here, as published: the next layer reads both signs.
        x = ConvNorm(64, 2, padding=1, relu=False)(x, train=train)
        x = ConvNorm(256, 2, padding=1)(x, train=train)
        x = ConvNorm(64, 2, padding=1, relu=False)(x, train=train)
        # No norm: the quantiser takes each example's own range.
        return Conv(self.channels, 2, padding=1)(x)


class CRDecoder(nn.Module):
    """Four unpadded 2x2 convolutions back to t channels: 64, 128, t, t for t = 256."""

    target: int
    linear: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(norm(train)(x))
        x = ConvNorm(64, 2, padding=0, relu=False)(x, train=train)
        x = ConvNorm(128, 2, padding=0)(x, train=train)
        x = ConvNorm(self.target, 2, padding=0, relu=False)(x, train=train)
        return ConvNorm(self.target, 2, padding=0, relu=not self.linear)(x, train=train)


class HNDEncoder(nn.Module):
    """Stem, batch norm, ReLU, 2x2/2 convolution to `channels` (HND, BottleFit layer2).

    Matsubara et al. 2019. A side n gives floor(n / 8) + 1, 224 -> 29, so sides that 8
    divides fit; 12,736 parameters at 12 channels.
    """

    channels: int = 12

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(norm(train)(resnet_stem(x, train)))
        return Conv(self.channels, 2, 2, padding=1)(x)


class HNDDecoder(nn.Module):
    """Four 2x2 convolutions of width t, paddings 1, 1, 0, 0, then a 2x2/1 average pool.

    BottleFit's form: batch norm and ReLU before each convolution and none behind the
    last, so its end is linear. HND's own of 2019 is narrower (64, 128, 256, t). The
    side comes back one pixel smaller (29 -> 28).
    """

    target: int

    @nn.compact
    def __call__(self, x, *, train):
        for padding in (1, 1, 0, 0):
            x = Conv(self.target, 2, padding=padding)(nn.relu(norm(train)(x)))
        return mean_pool(x, (2, 2), (1, 1))


class AutoEncoder(nn.Module):
    """3x3 to half the channels, ReLU, 3x3 to `channels`; the side stays."""

    channels: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        # The side stays: what is sent shrinks in channels alone.
        x = ConvNorm(x.shape[-1] // 2, 3)(x, train=train)
        return Conv(self.channels, 3)(x)


class AutoDecoder(nn.Module):
    """Two 3x3 convolutions back to t channels."""

    target: int
    linear: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = ConvNorm(2 * self.target, 3)(x, train=train)
        return ConvNorm(self.target, 3, relu=not self.linear)(x, train=train)


def resnet_stem(x, train):
    """7x7/2 convolution to 64, batch norm, ReLU, 3x3/2 max pool; inside a module."""
    x = ConvNorm(64, 7, 2, padding=3)(x, train=train)
    # Padding in advance: zeros are below no activation behind a ReLU.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return max_pool(x, (3, 3), (2, 2))


def _fp(stem: str, activation: str = "gdn"):
    return lambda channels, target, strides, small, linear=False: (
        FPEncoder(channels, strides, small, stem, activation),
        FPDecoder(target, small, linear),
    )


PAIRS = {
    "fp": _fp("published"),
    "fp_sigmoid": _fp("published", "sigmoid"),
    "fp_relu": _fp("published", "relu"),
    "patch": _fp("patch"),
    "patch_sigmoid": _fp("patch", "sigmoid"),
    "patch_relu": _fp("patch", "relu"),
    "depthwise": _fp("depthwise"),
    "depthwise_relu": _fp("depthwise", "relu"),
    "space_to_depth": _fp("space_to_depth"),
    "space_to_depth_relu": _fp("space_to_depth", "relu"),
    "cr": lambda channels, target, strides, small, linear=False: (
        CREncoder(channels, strides, small),
        CRDecoder(target, linear),
    ),
    "hnd": lambda channels, target, strides, small, linear=False: (
        HNDEncoder(channels),
        HNDDecoder(target),
    ),
    "residual": lambda channels, target, strides, small, linear=False: (
        ResidualEncoder(channels),
        ResidualDecoder(target),
    ),
    "projection": lambda channels, target, strides, small, linear=False: (
        ProjectionEncoder(channels),
        ProjectionDecoder(target),
    ),
}
# Pairs that reduce a side so often, whatever the strides: they restore a `deep_cut`.
REDUCTIONS = {"hnd": 8, "residual": 16}
# Pairs that keep the side: they are inserted behind a stage, and replace none.
INSERTED = ("projection",)
