"""The backbones by name, where a bottleneck goes in each, and where exits do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import flax.linen as nn

from sc_jax.errors import UsageError, unknown
from sc_jax.nets.backbones.alexnet import alexnet
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.nets.backbones.icnn import icnn
from sc_jax.nets.backbones.mobilenetv2 import mobilenetv2
from sc_jax.nets.backbones.msdnet import IMAGENET as MSDNET_IMAGENET
from sc_jax.nets.backbones.msdnet import msdnet
from sc_jax.nets.backbones.multiview import DevicesHead, ddnn
from sc_jax.nets.backbones.nin import nin
from sc_jax.nets.backbones.ranet import IMAGENET as RANET_IMAGENET
from sc_jax.nets.backbones.ranet import ranet
from sc_jax.nets.backbones.resnet import resnet
from sc_jax.nets.backbones.skipnet import skipnet
from sc_jax.nets.backbones.vgg import vgg
from sc_jax.nets.backbones.wrn import wrn
from sc_jax.nets.exit_classifiers.classifiers import MSDNetHead, PooledLinear
from sc_jax.nets.layers.blocks import Normalise
from sc_jax.nets.net import Exit, Net, Stage, resolve


@dataclass(frozen=True)
class Backbone:
    """A family member and its usual bottleneck.

    `build(classes=K)` gives the stages after normalisation. The bottleneck's decoder
    restores the output of group `cut` (`target` channels), the encoder's strides are
    `strides`; `hints` are the later groups that distillation compares. `linear`: the
    output of `cut` is no ReLU's. Without a `cut` it takes no bottleneck. `exits` are
    the stages (or groups) that its exits usually stand after, `head(K)` is one of them.
    `headless`: its stages end in features, and a last exit makes the logits.
    """

    build: Callable[..., tuple[Stage, ...]]
    cut: str = ""
    target: int = 0
    hints: tuple[str, ...] = ()
    strides: tuple[int, int] = (2, 2)
    small: bool = True
    linear: bool = False
    exits: tuple[str, ...] = ()
    head: Callable[[int], nn.Module] = PooledLinear
    headless: bool = False

    @property
    def replaced(self) -> tuple[str, ...]:
        """Groups from the stem to `cut`."""
        if not self.cut:
            able = ", ".join(name for name, b in BACKBONES.items() if b.cut)
            raise UsageError(f"this backbone takes no bottleneck; these do: {able}")
        groups = list(
            dict.fromkeys(s.name.split(".")[0] for s in self.build(classes=2))
        )
        return tuple(groups[: groups.index(self.cut) + 1])


def _cifar(depth: int) -> Backbone:
    """Replaces stem..layer2: 32 -> 15x15 latent -> 16x16x32."""
    build = partial(resnet, depth=depth)
    exits = ("layer1", "layer2")
    return Backbone(build, "layer2", 32, ("layer3",), strides=(2, 1), exits=exits)


def _imagenet(depth: int) -> Backbone:
    """Replaces stem and layer1: 224 -> 55x55 latent -> 56x56 (facts of the paper)."""
    build = partial(resnet, depth=depth)
    target = 256 if depth >= 50 else 64
    hints = ("layer2", "layer3", "layer4")
    exits = ("layer1", "layer2", "layer3")
    return Backbone(build, "layer1", target, hints, small=False, exits=exits)


def _vgg(depth: int) -> Backbone:
    """Replaces conv1 and conv2: 32 -> 7x7 latent -> 8x8x128."""
    exits = ("conv1", "conv2", "conv3", "conv4")
    return Backbone(partial(vgg, depth=depth), "conv2", 128, exits[2:], exits=exits)


def _wrn(depth: int, widen: int) -> Backbone:
    """Replaces stem..layer2, as _cifar does."""
    build = partial(wrn, depth=depth, widen=widen)
    exits = ("layer1", "layer2")
    form = {"strides": (2, 1), "linear": True, "exits": exits}
    return Backbone(build, "layer2", 32 * widen, ("layer3",), **form)


def _msdnet(blocks: int = 5, features: int = 128, **knobs) -> Backbone:
    """Exits after every block; `features` are its heads'."""
    build = partial(msdnet, blocks=blocks, **knobs)
    exits = tuple(f"block{i}" for i in range(1, blocks))
    head = partial(MSDNetHead, features=features)
    return Backbone(build, exits=exits, head=head, headless=True)


def _ranet(
    subnets: int, features: int = 128, blocks: int = 2, more: int = 2, **knobs
) -> Backbone:
    """Exits after the blocks that a sub-network has and the one below lacks."""
    build = partial(ranet, blocks=blocks, more=more, **knobs)
    counts = [0, *(blocks + more * i for i in range(subnets))]
    exits = [
        f"subnet{i + 1}.{j}"
        for i in range(subnets)
        for j in range(counts[i], counts[i + 1])
    ]
    head = partial(MSDNetHead, features=features)
    return Backbone(build, exits=tuple(exits[:-1]), head=head, headless=True)


# Replaces stem..layer2: 224 -> 55x55 latent -> 56x56x24. Its checkpoint is public, its
# students are trained for minutes: so the pair's small form.
MOBILENETV2 = Backbone(
    mobilenetv2, "layer2", 24, ("layer3", "layer4", "layer5", "layer7"), linear=True
)
BACKBONES: dict[str, Backbone] = {
    "cnn": Backbone(
        cnn, "layer1", 64, ("layer2", "layer3"), exits=("stem", "layer1", "layer2")
    ),
    **{f"resnet{d}": _cifar(d) for d in (20, 32, 56, 110)},
    "mobilenetv2": MOBILENETV2,
    "alexnet": Backbone(
        alexnet, "conv2", 64, ("conv3", "conv4", "conv5"), exits=("conv1", "conv2")
    ),
    "nin": Backbone(
        nin, "block1", 96, ("block2",), strides=(2, 1), exits=("block1", "block2")
    ),
    "vgg11": _vgg(11),
    "vgg16": _vgg(16),
    "wrn16_2": _wrn(16, 2),
    "wrn28_10": _wrn(28, 10),
    "icnn": Backbone(icnn, exits=("step1", "step2", "step3")),
    "ddnn": Backbone(ddnn, exits=("device", "edge"), head=DevicesHead),
    "skipnet": Backbone(skipnet, exits=("layer1", "layer2")),
    "skipnet14": Backbone(partial(skipnet, depth=14), exits=("layer1", "layer2")),
    "skipnet14_g4": Backbone(
        partial(skipnet, depth=14, groups=4), exits=("layer1", "layer2")
    ),
    "msdnet": _msdnet(),
    "msdnet_tiny": _msdnet(4, 32, base=2, step_mode="even", channels=8),
    # Two layers, to compile in seconds.
    "msdnet_nano": _msdnet(
        2, 8, base=1, step_mode="even", channels=4, growth=2, factors=(1, 2)
    ),
    "msdnet_imagenet": _msdnet(features=0, **MSDNET_IMAGENET),
    "ranet": _ranet(3),
    "ranet_tiny": _ranet(3, 32, blocks=1, more=1, channels=8),
    "ranet_nano": _ranet(
        2, 8, 1, 1, step=1, channels=4, growth=4, scales=(1, 2), factors=(2, 1)
    ),
    "ranet_imagenet": _ranet(4, 0, **RANET_IMAGENET),
    **{f"resnet{d}": _imagenet(d) for d in (18, 34, 50, 101, 152)},
}


def backbone(name: str) -> Backbone:
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)
    return BACKBONES[name]


def classifier_net(
    name: str,
    classes: int,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.25,),
) -> Net:
    """The whole classifier: normalisation of uint8 images, then the backbone.

    Of a headless backbone with its final exit and no other.
    """
    return exit_net(name, classes, mean, std, places=())


def exit_net(
    name: str,
    classes: int,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.25,),
    places: Sequence[str] | None = None,
    head: Callable[[int, int, bool], nn.Module] | None = None,
) -> Net:
    """`classifier_net` with an exit after each of `places` (default: the usual ones).

    Of a headless backbone also after the last stage. head(classes, index, last) makes
    an exit's classifier (default: the backbone's own kind), `index` counted from the
    input, `last` where it is the final one.
    """
    family = backbone(name)
    stages = family.build(classes=classes)
    net = Net((Stage("normalise", Normalise(mean, std)), *stages))
    end = net.names[-1]
    after = {resolve(net, p) for p in (family.exits if places is None else places)}
    after |= {end} if family.headless else set()
    exits = []
    for index, stage in enumerate(sorted(after, key=net.names.index)):
        made = head(classes, index, stage == end) if head else family.head(classes)
        exits.append(Exit(stage, made))
    return Net(net.stages, tuple(exits))
