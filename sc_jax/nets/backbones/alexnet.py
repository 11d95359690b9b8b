"""AlexNet (Krizhevsky et al. 2012) in the CIFAR form that BranchyNet starts from.

Teerapittayanon et al. 2016: five convolutions with biases, local response norm after
the first two, three linear layers.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.layers.blocks import Classifier, Conv, sliced
from sc_jax.nets.layers.pooling import max_pool
from sc_jax.nets.net import Stage


class AlexConv(nn.Module):
    """Convolution, ReLU; then, each optional, the overlapping pool and the norm."""

    features: int
    kernel: int = 3
    pool: bool = False
    normalise: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(Conv(self.features, self.kernel, bias=True)(x))
        x = overlapping_pool(x) if self.pool else x
        return local_response_norm(x) if self.normalise else x


class Dense(nn.Module):
    """Flatten, linear, ReLU, dropout: [B, ...] -> [B, features]."""

    features: int
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))
        return nn.Dropout(self.dropout, deterministic=not train)(x)


def overlapping_pool(x):
    """3x3/2 max pool of a ReLU's output that covers all rows: 32 -> 16, 7 -> 3."""
    # Padding in advance: zeros are below no activation behind a ReLU.
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    window = tuple(min(3, side) for side in x.shape[1:3])
    return max_pool(x, window, (2, 2))


def local_response_norm(x, alpha: float = 5e-5):
    """x / (2 + alpha * the squares of 3 neighbouring channels)^0.75, in float32."""
    wide = x.astype(jnp.float32)
    squares = jnp.pad(wide * wide, ((0, 0), (0, 0), (0, 0), (1, 1)))
    near = sum(sliced(squares, -1, i, i + x.shape[-1]) for i in range(3))
    root = jnp.sqrt(2.0 + alpha * near)
    return (wide / (root * jnp.sqrt(root))).astype(x.dtype)


def alexnet(*, classes: int, dropout: float = 0.5) -> tuple[Stage, ...]:
    """Stages conv1..conv5, hidden1, hidden2, fc.

    At 32 px: 16x16x32, 8x8x64, 8x8x96, 8x8x96, 4x4x64, 256, 128, `classes`.
    """
    return (
        Stage("conv1", AlexConv(32, 5, pool=True, normalise=True)),
        Stage("conv2", AlexConv(64, 5, pool=True, normalise=True)),
        Stage("conv3", AlexConv(96)),
        Stage("conv4", AlexConv(96)),
        Stage("conv5", AlexConv(64, pool=True)),
        Stage("hidden1", Dense(256, dropout)),
        Stage("hidden2", Dense(128, dropout)),
        Stage("fc", Classifier(classes)),
    )


# Three groups share the side of conv2, so the rule would cut at conv4; BranchyNet's
# branches stand after the first two.
PRESETS = {
    "alexnet": Backbone(
        alexnet,
        cut="conv2",
        hints=("conv3", "conv4", "conv5"),
        exits=("conv1", "conv2"),
        deep_cuts=("conv5", ""),
    )
}
