"""Residual networks (He et al. 2016) as block-level stages.

CIFAR form: depths 20, 32, 44, 56, 110; three groups of 16, 32, 64 channels.
ImageNet form: depths 18, 34 (basic blocks), 50, 101, 152 (bottleneck blocks, stride on
the 3x3, as torchvision has it).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import flax.linen as nn

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.bottlenecks.pairs import resnet_stem
from sc_jax.nets.checkpoints.layers import conv_norm
from sc_jax.nets.layers.blocks import Classifier, ConvNorm, Pooled
from sc_jax.nets.net import Stage

IMAGENET = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# Of CIFAR-10's training images: what public checkpoints for these classes subtract.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class ImageNetStem(nn.Module):
    """[B, H, W, C] -> [B, ceil(H/4), ceil(W/4), 64]."""

    @nn.compact
    def __call__(self, x, *, train):
        return resnet_stem(x, train)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity, or a strided 1x1 projection."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        y = ConvNorm(self.features, 3, self.stride, padding=1)(x, train=train)
        y = ConvNorm(self.features, 3, padding=1, relu=False)(y, train=train)
        # ReLU behind the sum, so features are never negative: decoders may end in one.
        return nn.relu(_shortcut(x, self.features, self.stride, train) + y)


class BottleneckBlock(nn.Module):
    """1x1 reduce, 3x3, 1x1 to 4 x features, around a shortcut."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        wide = 4 * self.features
        y = ConvNorm(self.features, 1)(x, train=train)
        y = ConvNorm(self.features, 3, self.stride, padding=1)(y, train=train)
        y = ConvNorm(wide, 1, relu=False)(y, train=train)
        return nn.relu(_shortcut(x, wide, self.stride, train) + y)


def _shortcut(x, features, stride, train):
    # An identity wherever shapes allow (option B of the paper elsewhere).
    if stride == 1 and x.shape[-1] == features:
        return x
    return ConvNorm(features, 1, stride, padding=0, relu=False)(x, train=train)


def resnet(*, depth: int, classes: int, small: bool | None = None) -> tuple[Stage, ...]:
    """Stages stem, layer1.0, layer1.1, ..., avgpool, fc.

    `small` (default: True for the CIFAR depths) keeps the input's size in the stem.
    """
    if depth in IMAGENET:
        block = BottleneckBlock if depth >= 50 else BasicBlock
        counts, widths = IMAGENET[depth], (64, 128, 256, 512)
        stem = ConvNorm(64, 3) if small else ImageNetStem()
    # Three groups of n blocks of two convolutions, a stem and a classifier: 6 n + 2.
    elif depth > 8 and (depth - 2) % 6 == 0:
        block, counts, widths = BasicBlock, ((depth - 2) // 6,) * 3, (16, 32, 64)
        stem = ConvNorm(16, 3)
    else:
        raise UsageError(
            f"no ResNet of depth {depth}. Known: 20, 32, 44, 56, 110 (CIFAR form), "
            + ", ".join(map(str, IMAGENET))
        )
    stages = [Stage("stem", stem)]
    for group, (count, width) in enumerate(zip(counts, widths), start=1):
        for i in range(count):
            # The first group keeps the stem's side.
            stride = 2 if i == 0 and group > 1 else 1
            stages.append(Stage(f"layer{group}.{i}", block(width, stride)))
    return (*stages, Stage("avgpool", Pooled()), Stage("fc", Classifier(classes)))


def checkpoint(stage: str, params: dict) -> Iterator[tuple[str, str]]:
    """torchvision's names, as nets.checkpoints.pretrained reads them."""
    if stage == "fc":
        yield "Dense_0", "fc"
    elif stage == "stem":
        # The CIFAR form's stem is the layer itself.
        yield from conv_norm("" if "Conv_0" in params else "ConvNorm_0", "conv1", "bn1")
    else:
        # A bottleneck block starts 1x1 and has three convolutions, a basic one two.
        count = 3 if params["ConvNorm_0"]["Conv_0"]["kernel"].shape[0] == 1 else 2
        for k in range(count):
            theirs = f"{stage}.conv{k + 1}", f"{stage}.bn{k + 1}"
            yield from conv_norm(f"ConvNorm_{k}", *theirs)
        if f"ConvNorm_{count}" in params:
            down = f"{stage}.downsample"
            yield from conv_norm(f"ConvNorm_{count}", f"{down}.0", f"{down}.1")


def _cifar(depth: int) -> Backbone:
    """Replaces stem..layer2: 32 -> 15x15 latent -> 16x16x32."""
    build = partial(resnet, depth=depth)
    exits = "layer1", "layer2"
    # No group is at an eighth: three groups halve a side twice.
    return Backbone(
        build,
        "layer2",
        ("layer3",),
        exits,
        # https://github.com/chenyaofo/pytorch-cifar-models has torchvision's names.
        checkpoint=checkpoint,
        deep_cuts=("", ""),
        normalisation=(CIFAR_MEAN, CIFAR_STD),
    )


def _imagenet(depth: int) -> Backbone:
    """Replaces stem and layer1: 224 -> 55x55 latent -> 56x56 (SC2 benchmark)."""
    return Backbone(
        partial(resnet, depth=depth),
        cut="layer1",
        hints=("layer2", "layer3", "layer4"),
        exits=("layer1", "layer2", "layer3"),
        small=False,
        checkpoint=checkpoint,
        deep_cuts=("layer2", "layer3"),
    )


# Cuts, hints and exits follow from the shapes too (a test compares); stated, so that
# 152 layers are not traced whenever the name is read.
PRESETS = {
    **{f"resnet{depth}": _cifar(depth) for depth in (20, 32, 56, 110)},
    **{f"resnet{depth}": _imagenet(depth) for depth in (18, 34, 50, 101, 152)},
}
