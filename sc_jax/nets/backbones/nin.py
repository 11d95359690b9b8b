"""Network in network (Lin et al. 2014): three blocks of a convolution and two 1x1."""

from __future__ import annotations

import flax.linen as nn

from sc_jax.nets.backbones.alexnet import overlapping_pool
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.layers.blocks import Conv, Pooled
from sc_jax.nets.net import Stage


class MLPConv(nn.Module):
    """Dropout, a convolution and two 1x1, each with bias and ReLU, 3x3/2 max pool.

    `last`: neither pool nor ReLU at the end, so that class maps may be negative
    (theirs has a last ReLU, under which a class may die).
    """

    widths: tuple[int, int, int]
    kernel: int = 3
    dropout: float = 0.0
    last: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        # Theirs is behind the pool: the same, and a cut sends the feature undropped.
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        first, second, third = self.widths
        x = nn.relu(Conv(first, self.kernel, bias=True)(x))
        x = nn.relu(Conv(second, 1, bias=True)(x))
        x = Conv(third, 1, bias=True)(x)
        return x if self.last else overlapping_pool(nn.relu(x))


def nin(*, classes: int, dropout: float = 0.5) -> tuple[Stage, ...]:
    """Stages block1, block2, block3, avgpool; the last gives the logits.

    At 32 px: 16x16x96, 8x8x192, 8x8x`classes`, `classes`. 966,986 parameters for 10.
    """
    return (
        Stage("block1", MLPConv((192, 160, 96), 5)),
        Stage("block2", MLPConv((192, 192, 192), 5, dropout)),
        Stage("block3", MLPConv((192, 192, classes), 3, dropout, last=True)),
        Stage("avgpool", Pooled()),
    )


# block3 already holds a map for each class, which is no hint's.
PRESETS = {
    "nin": Backbone(
        nin,
        cut="block1",
        hints=("block2",),
        exits=("block1", "block2"),
        deep_cuts=("", ""),
    )
}
