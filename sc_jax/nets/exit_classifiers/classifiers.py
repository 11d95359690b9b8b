"""Exit classifiers: module(x, previous, *, train) -> logits f32[B, K].

x is the feature of the stage that the exit stands after, of a tuple of scales the last
and coarsest; `previous` is what the exit before hands on, mostly its logits; None at
the first. What one may give beside logits: nets.net.Exit.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.nets.layers.blocks import Conv, ConvNorm
from sc_jax.nets.layers.pooling import max_pool, mean_pool


class PooledLinear(nn.Module):
    """Global average pool and a linear layer: the cheapest exit (PABEE, SPINN)."""

    classes: int

    @nn.compact
    def __call__(self, x, previous, *, train):
        return nn.Dense(self.classes)(pooled(coarsest(x)))


class ConvClassifier(nn.Module):
    """3x3 convolutions with ReLU, 2x2 max pool, linear (BranchyNet's branches).

    Teerapittayanon et al. 2016: B-AlexNet has `features` (32, 32) and (32,), B-LeNet
    (10,); earlier branches are the deeper ones.
    """

    classes: int
    features: tuple[int, ...] = (32,)

    @nn.compact
    def __call__(self, x, previous, *, train):
        x = coarsest(x)
        for width in self.features:
            x = nn.relu(Conv(width, bias=True)(x))
        # Deep features may be one pixel: a window over it would leave nothing.
        window = tuple(min(2, side) for side in x.shape[1:3])
        x = max_pool(x, window, window)
        return nn.Dense(self.classes)(x.reshape(x.shape[0], -1))


class MixedPool(nn.Module):
    """a max + (1 - a) mean over a grid of at most `side`^2 cells, a learnt; linear.

    Shallow-Deep Networks (Kaya et al. 2019). `cascade`: the input also holds the exit
    before, layer-normalised and without gradient (Zero Time Waste, Wolczyk et al.
    2021).
    """

    classes: int
    side: int = 4
    cascade: bool = False

    @nn.compact
    def __call__(self, x, previous, *, train):
        x = coarsest(x)
        if x.ndim > 2:
            # One share for all channels, as published; 0.5 favours neither pool.
            mix = self.param("mix", nn.initializers.constant(0.5), ())
            # Rounded up, so that the grid never has more than `side` cells a row.
            window = tuple(-(-n // self.side) for n in x.shape[1:3])
            high = max_pool(x, window, window, padding="SAME")
            mean = mean_pool(x, window, window, padding="SAME")
            x = mix * high + (1 - mix) * mean
        x = x.reshape(x.shape[0], -1)
        if self.cascade and previous is not None:
            # An exit must not bend an earlier one to its own needs.
            before = nn.LayerNorm()(jax.lax.stop_gradient(previous))
            x = jnp.concatenate([x, before], -1)
        return nn.Dense(self.classes)(x)


class MSDNetClassifier(nn.Module):
    """Two 3x3/2 convolutions, 2x2 average pool, linear (Huang et al. 2018).

    `features` is 128 on CIFAR, 0 on ImageNet: as many as the feature has. `link` > 0
    widens the classifier's input by a linear map of that width of the exit before,
    batch-normalised, ReLU: inline subnetwork collaboration (Li et al. 2019).
    """

    classes: int
    features: int = 128
    link: int = 0

    @nn.compact
    def __call__(self, x, previous, *, train):
        x = coarsest(x)
        # 0 is the ImageNet form: as wide as what it reads.
        features = self.features or x.shape[-1]
        for _ in range(2):
            x = ConvNorm(features, 3, 2, padding=1)(x, train=train)
        window = tuple(min(2, side) for side in x.shape[1:3])
        x = mean_pool(x, window, window)
        x = x.reshape(x.shape[0], -1)
        if self.link and previous is not None:
            # With its gradient: collaboration means that later exits train earlier
            # ones.
            before = nn.Dense(self.link, name="link")(previous)
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
            x = jnp.concatenate([x, nn.relu(norm(before))], -1)
        return nn.Dense(self.classes, name="Dense_0")(x)  # the same with and without


class Boosted(nn.Module):
    """The inner logits plus `scale` times the exit before, without gradient.

    Each exit fits what the sum of the earlier ones leaves (BoostNet, Yu et al. 2023).
    """

    head: nn.Module
    scale: float = 1.0

    @nn.compact
    def __call__(self, x, previous, *, train):
        own = self.head(x, previous, train=train)
        # The first weak learner has no sum to add to.
        if previous is None:
            return own
        return own + self.scale * jax.lax.stop_gradient(previous)


def coarsest(x):
    """What exit classifiers read: x itself, or the last of a tuple of scales."""
    return x[-1] if isinstance(x, tuple | list) else x


def pooled(x):
    """[B, ..., C] -> [B, C]: the mean over all places."""
    return x.mean(tuple(range(1, x.ndim - 1)))
