"""VGG networks (Simonyan & Zisserman 2015) in the usual CIFAR form.

3x3 convolutions with batch norm and without biases, five 2x2 max pools, one linear
layer in place of the three.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.layers.blocks import Classifier, ConvNorm, Pooled
from sc_jax.nets.layers.pooling import max_pool
from sc_jax.nets.net import Stage

WIDTHS = (64, 128, 256, 512, 512)
COUNTS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGGConv(nn.Module):
    """3x3 convolution, batch norm, ReLU and, at the end of a group, a 2x2/2 max pool.

    A side of 1 stays 1: 28 px are 14, 7, 3, 1, 1.
    """

    features: int
    pool: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = ConvNorm(self.features, 3)(x, train=train)
        if not self.pool:
            return x
        window = tuple(min(2, side) for side in x.shape[1:3])
        return max_pool(x, window, window)


def vgg(*, depth: int, classes: int, dropout: float = 0.0) -> tuple[Stage, ...]:
    """Stages conv1.1, conv1.2, ..., conv5.3, avgpool, fc, named as VGG's conv1_1.

    The max pool belongs to the last convolution of its group, so that a cut after a
    group sends the pooled feature: 16x16x64, 8x8x128, 4x4x256, ... at 32 px.
    """
    if depth not in COUNTS:
        known = ", ".join(map(str, COUNTS))
        raise UsageError(f"no VGG of depth {depth}. Known: {known}")
    stages = [
        Stage(f"conv{group}.{i}", VGGConv(width, pool=i == count))
        for group, (count, width) in enumerate(zip(COUNTS[depth], WIDTHS), start=1)
        for i in range(1, count + 1)
    ]
    fc = Classifier(classes, dropout)
    return (*stages, Stage("avgpool", Pooled()), Stage("fc", fc))


# Replaces conv1 and conv2: 32 -> 7x7 latent -> 8x8x128. Hints leave out conv5, which of
# a small image is one pixel.
PRESETS = {
    f"vgg{depth}": Backbone(
        partial(vgg, depth=depth),
        cut="conv2",
        hints=("conv3", "conv4"),
        exits=("conv1", "conv2", "conv3", "conv4"),
        deep_cuts=("conv3", "conv4"),
    )
    for depth in (11, 16)
}
