"""The backbones by name, and the classifiers and exits on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import flax.linen as nn

from sc_jax import plugins
from sc_jax.nets.backbones import (
    alexnet,
    cnn,
    efficientnet_lite,
    icnn,
    mobilenetv2,
    msdnet,
    multiview,
    nin,
    ranet,
    resnet,
    skipnet,
    vgg,
    wrn,
)
from sc_jax.nets.backbones.backbone import Backbone, complete
from sc_jax.nets.layers.blocks import Normalise
from sc_jax.nets.net import Exit, Net, Stage, resolve

BACKBONES: dict[str, Backbone] = {
    **cnn.PRESETS,
    **resnet.PRESETS,
    **mobilenetv2.PRESETS,
    **efficientnet_lite.PRESETS,
    **alexnet.PRESETS,
    **nin.PRESETS,
    **vgg.PRESETS,
    **wrn.PRESETS,
    **icnn.PRESETS,
    **multiview.PRESETS,
    **skipnet.PRESETS,
    **msdnet.PRESETS,
    **ranet.PRESETS,
}


def those(fits: Callable[[Backbone], bool]) -> str:
    """The registered backbones that `fits` holds of, as a refusal of another says."""
    return ", ".join(name for name, each in BACKBONES.items() if fits(each))


@lru_cache
def backbone(name: str) -> Backbone:
    """A registered backbone, or FILE.py:name: a `Backbone` or a function of stages.

    Of a function, name(classes=K) -> tuple[Stage, ...], all else follows from the
    shapes; that a decoder may end in ReLU does not, so it ends linear.
    """
    able = lambda found: callable(found) or isinstance(found, Backbone)  # noqa: E731
    found = plugins.find("backbone", name, BACKBONES, able)
    if not isinstance(found, Backbone):
        found = Backbone(found, linear=True)
    return complete(found)


def classifier_net(
    name: str,
    classes: int,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.25,),
) -> Net:
    """The whole classifier: normalisation of uint8 images, then the backbone.

    Of a backbone that ends in features with its final exit and no other.
    """
    return exit_net(name, classes, mean, std, places=())


def exit_net(
    name: str,
    classes: int,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.25,),
    places: Sequence[str] | None = None,
    classifier: Callable[[int, int, bool], nn.Module] | None = None,
) -> Net:
    """`classifier_net` with an exit after each of `places` (default: the usual ones).

    Of a backbone that ends in features also after the last stage.
    classifier(classes, index, last) makes an exit's (default: the backbone's own kind),
    `index` counted from the input, `last` where it is the final one.
    """
    known = backbone(name)
    stages = known.build(classes=classes)
    net = Net((Stage("normalise", Normalise(mean, std)), *stages))
    end = net.names[-1]
    # A set: two names of one stage are one exit.
    after = {resolve(net, p) for p in (known.exits or () if places is None else places)}
    after |= {end} if known.features_only else set()
    own = classifier or (lambda classes, index, last: known.classifier(classes))
    exits = tuple(
        Exit(stage, own(classes, index, stage == end))
        # In the order of the net, which the index and every policy count by.
        for index, stage in enumerate(sorted(after, key=net.names.index))
    )
    return Net(net.stages, exits)
