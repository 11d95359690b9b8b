"""A bottleneck at a sixteenth of the side: a cheap encoder, a deep decoder."""

from __future__ import annotations

import flax.linen as nn

from sc_jax.nets.layers.blocks import Conv, ConvNorm


class Residual(nn.Module):
    """x + its correction: 1x1 to half the channels, 3x3, 1x1 back (He et al. 2016).

    https://arxiv.org/abs/1512.03385, the bottleneck block, without a ReLU behind the
    sum: the sum keeps both signs.
    """

    @nn.compact
    def __call__(self, x, *, train):
        y = ConvNorm(x.shape[-1] // 2, 1)(nn.relu(x), train=train)
        y = ConvNorm(x.shape[-1] // 2, 3)(y, train=train)
        return x + ConvNorm(x.shape[-1], 1, relu=False)(y, train=train)


class ResidualEncoder(nn.Module):
    """[B, H, W, C] -> [B, ceil(H / 16), ceil(W / 16), channels].

    8x8 patches to `width` channels, a residual block, a 3x3 convolution of stride 2, a
    1x1 to the latent. At 224 and the defaults 72 MMAC, a quarter of MobileNetV2's: most
    work is done where a side is an eighth, and no pixel is read twice.
    """

    channels: int = 48
    width: int = 96

    @nn.compact
    def __call__(self, x, *, train):
        x = ConvNorm(self.width, 8, 8, relu=False)(x, train=train)
        x = Residual()(x, train=train)
        x = ConvNorm(2 * self.width, 3, 2)(x, train=train)
        # No activation behind it: the prior codes a latent of both signs.
        return Conv(self.channels, 1, bias=True)(x)


class ResidualDecoder(nn.Module):
    """[B, h, w, channels] -> [B, h, w, target]: `blocks` residual blocks, linear end.

    The server computes it, so it may be as deep as the stages that it replaces.
    """

    target: int
    width: int = 256
    blocks: int = 6

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(self.width, 1, bias=True)(x)
        for _ in range(self.blocks):
            x = Residual()(x, train=train)
        return Conv(self.target, 1, bias=True)(nn.relu(x))
