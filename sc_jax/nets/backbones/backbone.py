"""What a backbone is beside its stages, and what of it follows from their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import flax.linen as nn
import jax
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear, coarsest
from sc_jax.nets.net import Net, Stage
from sc_jax.nets.run import run, variable_shapes

# A stage's name and parameters -> pairs: a path below the stage, the layer's prefix in
# the public file.
CheckpointNames = Callable[[str, dict], Iterator[tuple[str, str]]]
SIDE = 32  # of the image on which shapes are derived: every cut is at 1/4 or before
STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}  # of an encoder, by how far it reduces
DEEP = (8, 16)  # how far the encoders reduce that have a cut of their own
# Of ImageNet's training images in 0..1, red, green, blue: what torchvision subtracts.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A backbone: its stages, its usual bottleneck and its usual exits.

    `build(classes=K)` gives the stages after normalisation. Of the others None is
    derived from the stages' shapes (`complete`), and a value is a published choice.

    cut: the group whose output a bottleneck's decoder restores; "": it takes none.
    deep_cuts: those of pairs that reduce a side as often as DEEP says; "": none fits.
    hints: the later groups that distillation compares.
    exits: the stages (or groups) that its exits stand after.
    linear: the output of `cut` is no ReLU's, so the decoder must not end in one.
    small: the bottleneck's form for small images and short training.
    classifier: makes its usual exit classifier from K.
    features_only: the stages end in features, so a last exit makes the logits.
    views: its first exits stand before the views of several devices are joined.
    checkpoint: where its public checkpoint keeps each layer.
    normalisation: mean and deviation, of images in 0..1, that it was trained with.
    """

    build: Callable[..., tuple[Stage, ...]]
    cut: str | None = None
    hints: tuple[str, ...] | None = None
    exits: tuple[str, ...] | None = None
    linear: bool = False
    small: bool = True
    classifier: Callable[[int], nn.Module] = PooledLinear
    features_only: bool = False
    views: bool = False
    checkpoint: CheckpointNames | None = None
    deep_cuts: tuple[str, ...] | None = None
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = (
        IMAGENET_MEAN,
        IMAGENET_STD,
    )

    def deep_cut(self, reduction: int) -> str:
        """The group at 1 / reduction of the image's side; "": none."""
        return (self.deep_cuts or ("",) * len(DEEP))[DEEP.index(reduction)]

    def deeper(self, reduction: int) -> Backbone:
        """The same with its bottleneck at `deep_cut`, hints those that stay behind it.

        Not for `linear`, which is of `cut`, nor for `strides`: such a pair has its own.
        """
        cut = self.deep_cut(reduction)
        behind = self.groups[self.groups.index(cut) + 1 :]
        hints = tuple(group for group in self.hints or () if group in behind)
        return replace(self, cut=cut, hints=hints)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names before the dot, in order."""
        names = (stage.name.split(".")[0] for stage in self.build(classes=2))
        return tuple(dict.fromkeys(names))

    @property
    def replaced(self) -> tuple[str, ...]:
        """Groups from the first to `cut`, in whose place a bottleneck comes."""
        if not self.cut:
            raise UsageError(
                "this backbone takes no bottleneck: no group at a quarter of the "
                "image's side or more stands before a smaller one (--list=backbones)"
            )
        return self.groups[: self.groups.index(self.cut) + 1]

    @property
    def target(self) -> int:
        """Channels of the output of `cut`."""
        return _cut_shape(self)[-1]

    @property
    def strides(self) -> tuple[int, int]:
        """Of an encoder's first two convolutions, so that its side is that of `cut`."""
        reduced = SIDE // _cut_shape(self)[0]
        if reduced not in STRIDES:
            raise UsageError(f"a bottleneck reduces a side 1, 2 or 4 times: {reduced}")
        return STRIDES[reduced]


def stage_shapes(
    build: Callable[..., tuple[Stage, ...]], until: str | None = None
) -> dict[str, tuple[int, ...]]:
    """Each stage's output without the batch's axis, of a SIDE x SIDE colour image.

    Of a pytree the last leaf, as exits read it. until: the last group that is traced.
    """
    stages = build(classes=2)
    if until is not None:
        groups = [stage.name.split(".")[0] for stage in stages]
        # Up to its last stage: later ones are not traced, which takes longest.
        stages = stages[: len(groups) - groups[::-1].index(until)]
    net, image = Net(stages), np.zeros((1, SIDE, SIDE, 3), np.float32)

    def features(variables):
        return run(net, variables, image, exact=False)[0].features

    found = jax.eval_shape(features, variable_shapes(net, image))
    return {
        name: coarsest(jax.tree.leaves(found[name])).shape[1:] for name in net.names
    }


def group_shapes(
    build: Callable[..., tuple[Stage, ...]], until: str | None = None
) -> dict[str, tuple[int, ...]]:
    """`stage_shapes` of each group's last stage."""
    shapes = stage_shapes(build, until)
    # A group's later stages overwrite its earlier ones: the last is its output.
    return {name.split(".")[0]: shape for name, shape in shapes.items()}


@lru_cache
def complete(backbone: Backbone) -> Backbone:
    """The backbone with nothing left None.

    cut: the last group at a quarter of the image's side or more behind which the image
    shrinks again; none, no bottleneck. deep_cuts: the last groups at an eighth and at
    a sixteenth of the side. hints: the groups behind the cut that give images.
    exits: after every group that gives an image, but the last such and the "stem".
    """
    if backbone.cut == "":  # no bottleneck, so nothing to compare
        backbone = replace(backbone, hints=(), deep_cuts=("",) * len(DEEP))
    stated = backbone.cut, backbone.hints, backbone.exits, backbone.deep_cuts
    if None not in stated:
        return backbone
    shapes = group_shapes(backbone.build)
    images = [group for group, shape in shapes.items() if len(shape) == 3]
    cut = backbone.cut
    if cut is None:
        sides = [shapes[group][0] for group in images]
        fits = [
            group
            for group, side, after in zip(images, sides, sides[1:])
            if side * 4 >= SIDE and after < side
        ]
        # The deepest that fits: the most of the network is replaced.
        cut = fits[-1] if fits else ""
    deep_cuts = tuple(
        next((g for g in images[::-1] if cut and shapes[g][0] * n == SIDE), "")
        for n in DEEP
    )
    hints = images[images.index(cut) + 1 :] if cut in images else []
    # An exit on the stem reads edges, one on the last group saves nothing.
    exits = [group for group in images[:-1] if group != "stem"]
    return replace(
        backbone,
        cut=cut,
        deep_cuts=deep_cuts if backbone.deep_cuts is None else backbone.deep_cuts,
        hints=tuple(hints) if backbone.hints is None else backbone.hints,
        exits=tuple(exits) if backbone.exits is None else backbone.exits,
    )


@lru_cache
def _cut_shape(backbone: Backbone) -> tuple[int, ...]:
    return group_shapes(backbone.build, backbone.replaced[-1])[backbone.cut or ""]
