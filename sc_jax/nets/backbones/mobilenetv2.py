"""MobileNetV2 (Sandler et al. 2018) as block-level stages: what devices run whole."""

from __future__ import annotations

from collections.abc import Iterator

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.checkpoints.layers import conv_norm
from sc_jax.nets.layers.blocks import Classifier, Conv, Padding, Pooled, norm
from sc_jax.nets.net import Stage

# Expansion, channels, blocks, stride of the first: the paper's table 2.
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvNorm6(nn.Module):
    """Convolution, batch norm, ReLU6.

    padding: None puts zeros of half a kernel on every side, as PyTorch's networks do.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    padding: Padding | None = None
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, *, train):
        padding = self.kernel // 2 if self.padding is None else self.padding
        x = Conv(self.features, self.kernel, self.stride, padding, self.groups)(x)
        # ReLU6 bounds activations, which keeps int8 steps small.
        return jnp.clip(norm(train, epsilon=self.epsilon)(x), 0.0, 6.0)


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, depthwise, linear 1x1 to `features`.

    Added to its input where the shapes agree; its output is linear (no ReLU). kernel
    and padding are of the depthwise convolution, padding as in `ConvNorm6`.
    """

    features: int
    stride: int = 1
    expansion: int = 6
    kernel: int = 3
    padding: Padding | None = None
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, *, train):
        wide = self.expansion * x.shape[-1]
        own = {"padding": self.padding, "epsilon": self.epsilon}
        y = x
        if self.expansion > 1:
            y = ConvNorm6(wide, 1, epsilon=self.epsilon)(y, train=train)
        y = ConvNorm6(wide, self.kernel, self.stride, wide, **own)(y, train=train)
        # Linear: a ReLU on few channels destroys information (the paper's section 3.2).
        y = Conv(self.features, 1, padding=0)(y)
        y = norm(train, epsilon=self.epsilon)(y)
        return x + y if x.shape == y.shape else y


def mobilenetv2(*, classes: int) -> tuple[Stage, ...]:
    """Stages stem, layer1.0 ... layer7.0, last, avgpool, fc; width 1.0.

    At 224: layer2 gives 56x56x24, layer3 28x28x32, layer5 14x14x96, layer7 7x7x320.
    """
    stages = [Stage("stem", ConvNorm6(32, 3, 2))]
    for number, (expansion, channels, count, stride) in enumerate(GROUPS, start=1):
        for i in range(count):
            block = InvertedResidual(channels, stride if i == 0 else 1, expansion)
            stages.append(Stage(f"layer{number}.{i}", block))
    stages.append(Stage("last", ConvNorm6(1280, 1)))
    fc = Classifier(classes, dropout=0.2)
    return (*stages, Stage("avgpool", Pooled()), Stage("fc", fc))


def checkpoint(stage: str, params: dict) -> Iterator[tuple[str, str]]:
    """torchvision's names, as nets.checkpoints.pretrained reads them."""
    if stage == "fc":
        yield "Dense_0", "classifier.1"
    elif stage in ("stem", "last"):
        theirs = f"features.{0 if stage == 'stem' else 18}"
        yield from conv_norm("", f"{theirs}.0", f"{theirs}.1")
    else:
        group, i = (int(n) for n in stage.removeprefix("layer").split("."))
        # torchvision numbers blocks through, the stem being 0.
        number = 1 + sum(g[2] for g in GROUPS[: group - 1]) + i
        wide = 1 if GROUPS[group - 1][0] == 1 else 2  # convolutions before the last
        theirs = f"features.{number}.conv"
        for k in range(wide):
            yield from conv_norm(f"ConvNorm6_{k}", f"{theirs}.{k}.0", f"{theirs}.{k}.1")
        yield from conv_norm("", f"{theirs}.{wide}", f"{theirs}.{wide + 1}")


# Replaces stem..layer2: 224 -> 55x55 latent -> 56x56x24. Its checkpoint is public, its
# students are trained for minutes: so the pair's small form. Hints where a side ends.
PRESETS = {
    "mobilenetv2": Backbone(
        mobilenetv2,
        cut="layer2",
        hints=("layer3", "layer4", "layer5", "layer7"),
        exits=(),
        linear=True,
        checkpoint=checkpoint,
        deep_cuts=("layer3", "layer5"),
    )
}
