"""A bottleneck behind stages that stay: few channels of the teacher's own feature."""

from __future__ import annotations

import flax.linen as nn

from sc_jax.nets.bottlenecks.residual import Residual
from sc_jax.nets.layers.blocks import Conv


class ProjectionEncoder(nn.Module):
    """[B, h, w, t] -> [B, h, w, channels]: a residual block, then a 1x1 convolution.

    What BottleNet++ does behind a layer of the teacher (Shao & Zhang 2020,
    https://arxiv.org/abs/1910.14315), with a prior in place of its noisy channel.
    """

    channels: int = 48

    @nn.compact
    def __call__(self, x, *, train):
        x = Residual()(x, train=train)
        # No activation behind it: the prior codes a latent of both signs.
        return Conv(self.channels, 1, bias=True)(x)
