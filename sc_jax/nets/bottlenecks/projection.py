"""A bottleneck behind stages that stay: the teacher's own feature, changed little."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.nets.layers.blocks import Conv, ConvNorm


class Correction(nn.Module):
    """x + scale * f(x), f a 1x1 to `width` channels, a 3x3 and a 1x1 back.

    scale, one a channel, starts at 0, so that the block starts as the identity
    (Bachlechner et al. 2020, https://arxiv.org/abs/2003.04887).
    """

    width: int

    @nn.compact
    def __call__(self, x, *, train):
        channels = x.shape[-1]
        y = ConvNorm(self.width, 1)(x, train=train)
        y = ConvNorm(self.width, 3)(y, train=train)
        y = ConvNorm(channels, 1, relu=False)(y, train=train)
        scale = self.param("scale", nn.initializers.zeros, (channels,))
        return x + scale.reshape(1, 1, 1, -1) * y


def identity(key, shape, dtype=jnp.float32):
    """The kernel [1, 1, Cin, Cout] that hands channels on, as many as both have."""
    del key
    return jnp.eye(*shape[-2:], dtype=dtype).reshape(shape)


class ProjectionEncoder(nn.Module):
    """[B, h, w, t] -> [B, h, w, channels]: a correction, then a 1x1 convolution.

    What BottleNet++ does behind a layer of the teacher (Shao & Zhang 2020,
    https://arxiv.org/abs/1910.14315), with a prior in place of its noisy channel. With
    t channels it starts as the identity: what training finds is what a rate may drop.
    """

    channels: int = 64

    @nn.compact
    def __call__(self, x, *, train):
        x = Correction(x.shape[-1] // 2)(x, train=train)
        # No activation behind it: the prior codes a latent of both signs.
        return Conv(self.channels, 1, bias=True, start=identity)(x)


class ProjectionDecoder(nn.Module):
    """[B, h, w, channels] -> [B, h, w, target]: a 1x1 convolution and corrections."""

    target: int
    blocks: int = 4

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(self.target, 1, bias=True, start=identity)(x)
        for _ in range(self.blocks):
            x = Correction(self.target)(x, train=train)
        return x
