"""Wide residual networks for 32x32 images (Zagoruyko & Komodakis 2016).

Pre-activation: a stage gives the sum of its branches, which is no ReLU's.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.layers.blocks import Classifier, Conv, ConvNorm, norm
from sc_jax.nets.net import Stage


class WideBlock(nn.Module):
    """BN, ReLU, 3x3, BN, ReLU, dropout, 3x3 around an identity or a 1x1 projection."""

    features: int
    stride: int = 1
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train):
        active = nn.relu(norm(train)(x))
        y = ConvNorm(self.features, 3, self.stride, padding=1)(active, train=train)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = Conv(self.features, 3, padding=1)(y)
        if self.stride == 1 and x.shape[-1] == self.features:
            return x + y
        return Conv(self.features, 1, self.stride, padding=0)(active) + y


class PlainConv(nn.Module):
    """3x3 convolution alone: the first block has its norm and its ReLU."""

    features: int

    @nn.compact
    def __call__(self, x, *, train):
        return Conv(self.features, 3)(x)


class ActivePooled(nn.Module):
    """BN, ReLU and global average pool: [B, H, W, C] -> [B, C]."""

    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(norm(train)(x)).mean((1, 2))


def wrn(
    *, depth: int = 16, widen: int = 2, classes: int, dropout: float = 0.0
) -> tuple[Stage, ...]:
    """Stages stem, layer1.0, layer1.1, ..., avgpool, fc of WRN-`depth`-`widen`.

    depth = 6 n + 4, with n blocks in each of three groups of 16, 32 and 64 channels
    times `widen`.
    """
    if depth < 10 or (depth - 4) % 6 or widen < 1:
        raise UsageError(
            f"no WRN-{depth}-{widen}: the depth is 10, 16, 22, 28, 34, 40 or another "
            "6 n + 4, widen 1 or more"
        )
    stages = [Stage("stem", PlainConv(16))]
    for group, width in enumerate((16, 32, 64), start=1):
        for i in range((depth - 4) // 6):
            stride = 2 if i == 0 and group > 1 else 1
            block = WideBlock(width * widen, stride, dropout)
            stages.append(Stage(f"layer{group}.{i}", block))
    end = Stage("avgpool", ActivePooled()), Stage("fc", Classifier(classes))
    return (*stages, *end)


# Replaces stem..layer2, as in the residual networks of the same images.
PRESETS = {
    f"wrn{depth}_{widen}": Backbone(
        partial(wrn, depth=depth, widen=widen),
        cut="layer2",
        hints=("layer3",),
        exits=("layer1", "layer2"),
        linear=True,
        deep_cuts=("", ""),
    )
    for depth, widen in ((16, 2), (28, 10))
}
