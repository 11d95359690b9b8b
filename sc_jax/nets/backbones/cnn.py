"""A LeNet-sized network for 28x28 and 32x32 images (after LeCun et al. 1998)."""

from __future__ import annotations

import flax.linen as nn

from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.layers.blocks import Classifier, ConvNorm
from sc_jax.nets.layers.pooling import max_pool
from sc_jax.nets.net import Stage


class PooledConv(nn.Module):
    """Convolution, batch norm, ReLU, 2x2/2 max pool: the side halves."""

    features: int
    kernel: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        x = ConvNorm(self.features, self.kernel)(x, train=train)
        return max_pool(x, (2, 2), (2, 2))


class Hidden(nn.Module):
    """Flatten, linear, ReLU: [B, H, W, C] -> [B, features]."""

    features: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))


def cnn(*, classes: int, width: int = 32) -> tuple[Stage, ...]:
    """Stages stem, layer1, layer2 (each halves the side), layer3, fc.

    At 28x28 and width 32: 14x14x32, 7x7x64, 3x3x128, 128, `classes`.
    """
    return (
        Stage("stem", PooledConv(width, 5)),
        Stage("layer1", PooledConv(2 * width)),
        Stage("layer2", PooledConv(4 * width)),
        Stage("layer3", Hidden(4 * width)),
        Stage("fc", Classifier(classes, dropout=0.3)),
    )


# layer3 is a vector, which a hint compares as well; its stem already halves the side.
PRESETS = {
    "cnn": Backbone(
        cnn,
        cut="layer1",
        hints=("layer2", "layer3"),
        exits=("stem", "layer1", "layer2"),
        deep_cuts=("layer2", ""),
    )
}
