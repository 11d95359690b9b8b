"""EfficientNet-Lite (Tan & Le 2019, https://arxiv.org/abs/1905.11946): for devices.

MobileNetV2's blocks in EfficientNet's widths and depths. The Lite form has ReLU6 for
swish and no squeeze-and-excitation, so that it is as exact in int8
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). Sides
it was trained at: 224, 240, 260 pixels for Lite0, 1, 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import ceil
from typing import Any

from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.backbones.mobilenetv2 import ConvNorm6, InvertedResidual
from sc_jax.nets.checkpoints.layers import conv_norm
from sc_jax.nets.layers.blocks import Classifier, Pooled
from sc_jax.nets.net import Stage

# Expansion, channels, blocks, stride of the first, kernel: the paper's table 1.
GROUPS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
# TensorFlow's: zeros mostly on the far sides at stride 2, and a larger epsilon than
# PyTorch's. The momentum of batch norm stays 0.9 (theirs 0.99): fine-tuning is short.
TENSORFLOW: dict[str, Any] = {"padding": "SAME", "epsilon": 1e-3}
# Mean and deviation that its checkpoints were trained with: (x - 127) / 128.
NORMALISATION = (127 / 255,) * 3, (128 / 255,) * 3


def counts(depth: float) -> tuple[int, ...]:
    """Blocks of each group; the first and the last group are not scaled."""
    scaled = [ceil(depth * count) for _, _, count, _, _ in GROUPS]
    return (GROUPS[0][2], *scaled[1:-1], GROUPS[-1][2])


def widened(channels: int, width: float) -> int:
    """`width` times the channels: the nearest multiple of 8 that loses at most 10 %."""
    scaled = width * channels
    nearest = max(8, int(scaled + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * scaled else nearest + 8


def efficientnet_lite(
    *, classes: int, width: float = 1.0, depth: float = 1.0, dropout: float = 0.2
) -> tuple[Stage, ...]:
    """Stages stem, layer1.0 ... layer7.0, last, avgpool, fc; stem and last not scaled.

    Lite0 at 224: layer2 gives 56x56x24, layer3 28x28x40, layer5 14x14x112, layer7
    7x7x320. No block is dropped at random (stochastic depth) in training.
    """
    stages = [Stage("stem", ConvNorm6(32, 3, 2, **TENSORFLOW))]
    for number, (group, count) in enumerate(zip(GROUPS, counts(depth)), start=1):
        expansion, channels, _, stride, kernel = group
        features = widened(channels, width)
        for i in range(count):
            form = (features, stride if i == 0 else 1, expansion, kernel)
            block = InvertedResidual(*form, **TENSORFLOW)
            stages.append(Stage(f"layer{number}.{i}", block))
    stages.append(Stage("last", ConvNorm6(1280, 1, **TENSORFLOW)))
    fc = Classifier(classes, dropout=dropout)
    return (*stages, Stage("avgpool", Pooled()), Stage("fc", fc))


def checkpoint(
    stage: str, params: dict, *, depth: float = 1.0
) -> Iterator[tuple[str, str]]:
    """Names of efficientnet-lite-pytorch, as nets.checkpoints.pretrained reads them."""
    if stage == "fc":
        yield "Dense_0", "_fc"
    elif stage in ("stem", "last"):
        conv, own = (
            ("_conv_stem", "_bn0") if stage == "stem" else ("_conv_head", "_bn1")
        )
        yield from conv_norm("", conv, own)
    else:
        group, i = (int(n) for n in stage.removeprefix("layer").split("."))
        # There blocks are numbered through.
        theirs = f"_blocks.{sum(counts(depth)[: group - 1]) + i}"
        convs = ("_expand_conv", "_depthwise_conv", "_project_conv")
        # A block that does not expand lacks the first of them.
        first = 0 if "ConvNorm6_1" in params else 1
        for k in range(first, 3):
            ours = f"ConvNorm6_{k - first}" if k < 2 else ""
            yield from conv_norm(ours, f"{theirs}.{convs[k]}", f"{theirs}._bn{k}")


def _preset(**scale: float) -> Backbone:
    """Cut and hints where MobileNetV2 has them: the same sides, a few channels more."""
    return Backbone(
        partial(efficientnet_lite, **scale),
        cut="layer2",
        hints=("layer3", "layer4", "layer5", "layer7"),
        exits=(),
        linear=True,
        checkpoint=partial(checkpoint, depth=scale.get("depth", 1.0)),
        deep_cuts=("layer3", "layer5"),
        normalisation=NORMALISATION,
    )


PRESETS = {
    "efficientnet_lite0": _preset(),
    "efficientnet_lite1": _preset(depth=1.1),
    "efficientnet_lite2": _preset(width=1.1, depth=1.2, dropout=0.3),
}
