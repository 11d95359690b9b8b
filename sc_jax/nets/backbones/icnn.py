"""Iterative CNN: every stage sees one wavelet sub-band more (Neshatpour et al. 2018).

Features are a tuple: the sub-bands still unread, in the order of use, and last the
feature. Reconstruction: theirs cuts AlexNet into small networks whose layer widths
could not be read.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.layers.blocks import Classifier, ConvNorm, Pooled, sliced
from sc_jax.nets.layers.pooling import max_pool
from sc_jax.nets.net import Stage


def haar(x: jax.Array) -> tuple[jax.Array, ...]:
    """One level of the orthonormal 2-D Haar transform: low, horizontal, vertical, both.

    [B, H, W, C] -> four of [B, ceil(H/2), ceil(W/2), C]. Odd sides get a row of zeros,
    which adds no energy. "horizontal" differs along a row.
    """
    odd = [(0, side % 2) for side in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *odd, (0, 0)))
    # Even and odd rows, then columns: the four pixels of each 2 x 2 block.
    rows = (sliced(x, 1, i, None, 2) for i in range(2))
    return _mixed(*(sliced(row, 2, j, None, 2) for row in rows for j in range(2)))


def _mixed(a, b, c, d):
    """The 4x4 Hadamard matrix / 2, which is orthonormal."""
    up, over = (a + b) / 2, (a - b) / 2
    down, under = (c + d) / 2, (c - d) / 2
    return up + down, over + under, up - down, over - under


class Wavelet(nn.Module):
    """Image -> 1 + 3 `levels` sub-bands: details from coarse to fine, then the lowest.

    The lowest stands last, where the first step looks for its feature.
    """

    levels: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        details = []
        for _ in range(self.levels):
            x, *found = haar(x)
            # Coarser details before finer ones: they say more for fewer values.
            details = [*found, *details]
        return (*details, x)


class SubbandStep(nn.Module):
    """One small network: a sub-band's 3x3 convolution beside the feature, then two.

    The first step has no feature yet and halves the lowest sub-band's side; the later
    ones pool theirs to the feature's side. The last leaves no tuple.
    """

    features: int
    first: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        *left, feature = x
        band = feature if self.first else left.pop(0)
        y = ConvNorm(self.features, 3)(band, train=train)
        sides = [-(-n // 2) for n in y.shape[1:3]]
        sides = sides if self.first else feature.shape[1:3]
        # Sub-bands of another level are pooled to the side of the feature.
        window = tuple(-(-n // side) for n, side in zip(y.shape[1:3], sides))
        y = max_pool(y, window, window, padding="SAME")
        if not self.first:
            y = jnp.concatenate([feature, y], -1)
        for _ in range(2):
            y = ConvNorm(self.features, 3)(y, train=train)
        # The last step gives a plain image, which pools and classifiers take.
        return (*left, y) if left else y


def icnn(*, classes: int, levels: int = 1, width: int = 64) -> tuple[Stage, ...]:
    """Stages wavelet, step1, ..., step(1 + 3 levels), avgpool, fc.

    At 32 px and one level: four sub-bands of 16x16, features of 8x8x`width`.
    """
    if levels < 1:
        raise UsageError(f"levels of the wavelet transform are 1 or more, not {levels}")
    steps = (
        Stage(f"step{k}", SubbandStep(width, first=k == 1))
        for k in range(1, 2 + 3 * levels)
    )
    end = Stage("avgpool", Pooled()), Stage("fc", Classifier(classes))
    return (Stage("wavelet", Wavelet(levels)), *steps, *end)


# No bottleneck: what is cut is a tuple of sub-bands and a feature.
PRESETS = {"icnn": Backbone(icnn, cut="", exits=("step1", "step2", "step3"))}
