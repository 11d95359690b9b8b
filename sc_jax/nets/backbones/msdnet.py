"""MSDNet (Huang et al. 2018): all scales at every depth, densely connected.

Features are tuples of scales, fine to coarse; each is the concatenation of all that
was made at that scale, so an exit early on reads a coarse feature and disturbs no
later layer. The stages end in features: the last exit
(MSDNetClassifier) makes the logits.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.exit_classifiers.classifiers import MSDNetClassifier
from sc_jax.nets.layers.blocks import ConvNorm
from sc_jax.nets.layers.pooling import max_pool
from sc_jax.nets.net import Stage

# Five exits, 615.69 / 1436.39 / 2283.21 / 2967.42 / 3253.79 M (authors' count).
IMAGENET = {
    "blocks": 5,
    "base": 7,
    "step": 7,
    "step_mode": "even",
    "channels": 32,
    "growth": 16,
    "factors": (1, 2, 4, 4),
    "small": False,
}


class Pyramid(nn.Module):
    """An image -> one feature a scale, each 3x3 from the one before.

    The first keeps the side, or if not `small` takes a quarter of it (7x7/2, 3x3/2 max
    pool); scale i > 0 has stride `strides[i]` (`strides[0]` is not read).
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    small: bool = True

    @nn.compact
    def __call__(self, x, *, train):
        if self.small:
            x = ConvNorm(self.widths[0], 3, padding=1)(x, train=train)
        else:
            x = ConvNorm(self.widths[0], 7, 2, padding=3)(x, train=train)
            # Padding in advance: zeros are below no activation behind a ReLU.
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = max_pool(x, (3, 3), (2, 2))
        scales = [x]
        for width, stride in zip(self.widths[1:], self.strides[1:]):
            scales.append(
                ConvNorm(width, 3, stride, padding=1)(scales[-1], train=train)
            )
        return tuple(scales)


class Narrowed(nn.Module):
    """1x1 to at most `factor` x `features` channels, then 3x3, each with norm, ReLU."""

    features: int
    factor: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        inner = min(x.shape[-1], self.factor * self.features)
        x = ConvNorm(inner, 1)(x, train=train)
        return ConvNorm(self.features, 3, self.stride, padding=1)(x, train=train)


class Layer(nn.Module):
    """One more feature at each scale but perhaps the finest, which ends here.

    A scale grows by `growth` channels: half from itself, half from the finer one by
    stride 2; the finest has itself alone. With fewer growths than scales the finest is
    read a last time. `factors` are the bottlenecks' of the scales read. `reduced`:
    channels to which a 1x1 transition then takes every scale.
    """

    growth: tuple[int, ...]
    factors: tuple[int, ...]
    reduced: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, scales, *, train):
        # Fewer growths than scales: the finest scales end at this layer.
        first = len(scales) - len(self.growth)
        grown = []
        for at, growth in enumerate(self.growth, start=first):
            x, down = scales[at], ()
            if at:
                # Odd growths give the extra channel to the scale itself.
                half, finer = growth // 2, self.factors[at - 1]
                down = (Narrowed(half, finer, 2)(scales[at - 1], train=train),)
                growth -= half
            same = Narrowed(growth, self.factors[at])(x, train=train)
            grown.append(jnp.concatenate([x, *down, same], -1))
        if self.reduced:
            pairs = zip(self.reduced, grown)
            grown = [ConvNorm(width, 1)(x, train=train) for width, x in pairs]
        return tuple(grown)


def msdnet(
    *,
    classes: int,
    blocks: int = 5,
    base: int = 1,
    step: int = 1,
    step_mode: str = "lin_grow",
    channels: int = 16,
    growth: int = 6,
    factors: tuple[int, ...] = (1, 2, 4),
    reduction: float = 0.5,
    small: bool = True,
) -> tuple[Stage, ...]:
    """Stages stem, block1.0, block1.1, ..., block2.0, ...: one layer each.

    An exit usually stands after each block. The first has `base` layers, block i + 1
    has `step` ("even") or i x `step` + 1 ("lin_grow"). `factors`: how many times
    `channels` and `growth` each scale has, and its bottleneck's factor. Equal shares of
    the layers lose a scale each, the finest first, and then all channels but the share
    `reduction`. `classes`: of exits.
    """
    depths = _depths(blocks, base, step, step_mode)
    scales = len(factors)
    # Rounded up: the coarsest scale may get fewer layers than the others.
    interval = -(-sum(depths) // scales)
    stages = [
        Stage(
            "stem", Pyramid(tuple(channels * f for f in factors), (2,) * scales, small)
        )
    ]
    unit = channels  # per factor 1
    for block, depth in enumerate(depths, start=1):
        for i in range(depth):
            n = len(stages) - 1
            # Scales dropped before this layer, and with it.
            before, after = max(0, n - 1) // interval, n // interval
            unit += growth
            reduced = ()
            if after > before:
                # Rounded a scale's unit and not each width: factors stay exact.
                unit = int(reduction * unit)
                reduced = tuple(unit * f for f in factors[after:])
            grown = tuple(growth * f for f in factors[after:])
            layer = Layer(grown, factors[before:], reduced)
            stages.append(Stage(f"block{block}.{i}", layer))
    return tuple(stages)


def _depths(blocks: int, base: int, step: int, step_mode: str) -> tuple[int, ...]:
    """Layers of each block."""
    if min(blocks, base, step) < 1:
        raise UsageError(f"blocks, base and step are 1 or more: {blocks, base, step}")
    if step_mode not in ("even", "lin_grow"):
        raise UsageError(f"step_mode is 'even' or 'lin_grow', not {step_mode!r}")
    linear = step_mode == "lin_grow"
    more = (step * i + 1 if linear else step for i in range(1, blocks))
    return (base, *more)


def _preset(blocks: int = 5, features: int = 128, **knobs) -> Backbone:
    """Exits after every block, `features` wide; no bottleneck: it cuts a tuple."""
    return Backbone(
        partial(msdnet, blocks=blocks, **knobs),
        cut="",
        exits=tuple(f"block{i}" for i in range(1, blocks)),
        classifier=partial(MSDNetClassifier, features=features),
        features_only=True,
    )


PRESETS = {
    "msdnet": _preset(),
    "msdnet_tiny": _preset(4, 32, base=2, step_mode="even", channels=8),
    # Two layers, to compile in seconds.
    "msdnet_nano": _preset(
        2, 8, base=1, step_mode="even", channels=4, growth=2, factors=(1, 2)
    ),
    "msdnet_imagenet": _preset(features=0, **IMAGENET),
}
