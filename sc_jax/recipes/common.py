"""What recipes share: the data's facts, the injected student, its hints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import flax.linen as nn
import optax

from sc_jax.data import pipeline
from sc_jax.data.pipeline import Data
from sc_jax.errors import UsageError, unknown
from sc_jax.losses.distillation import Hint
from sc_jax.losses.terms import Reduction, Term
from sc_jax.nets.backbones.backbone import SIDE, Backbone, stage_shapes
from sc_jax.nets.backbones.registry import backbone, classifier_net, those
from sc_jax.nets.bottlenecks.pairs import INSERTED, PAIRS, REDUCTIONS
from sc_jax.nets.net import Net, inject, insert, resolve
from sc_jax.train.recipe import Phase, Recipe


class Facts(NamedTuple):
    """What a recipe must know of a set before it can be built.

    names: of the classes, in their order; () where they are not known.
    """

    classes: int
    examples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]
    names: tuple[str, ...] = ()


def facts(data: Data) -> Facts:
    """Facts of the training split of `data`: those that `known` holds, or measured."""
    saved, side = _KNOWN.get(), _SIDE.get()
    found = _measured(data) if saved is None else saved
    if side is None:
        return found
    return found._replace(shape=(side, side, found.shape[2]))


@lru_cache
def _measured(data: Data) -> Facts:
    dataset = pipeline.opened(data, "train")
    mean, std = pipeline.mean_std(dataset)
    counts = len(dataset.classes), len(dataset)
    shape: Any = dataset.shape
    return Facts(*counts, tuple(mean), tuple(std), shape, tuple(dataset.classes))


# A context and no argument: recipes of one's own call `facts` too.
_KNOWN: ContextVar[Facts | None] = ContextVar("facts", default=None)


@contextmanager
def known(saved: Facts | None) -> Iterator[None]:
    """Recipes built inside take `saved` for facts, and open no data; None: as ever."""
    token = _KNOWN.set(saved)
    try:
        yield
    finally:
        _KNOWN.reset(token)


_SIDE: ContextVar[int | None] = ContextVar("side", default=None)


@contextmanager
def resized(side: int) -> Iterator[None]:
    """Recipes built inside take their images for squares of `side` pixels."""
    token = _SIDE.set(side)
    try:
        yield
    finally:
        _SIDE.reset(token)


class OfOneBackbone(TypedDict, total=False):
    """Knobs that recipes hand on to the classifier; their defaults stand there."""

    data: str
    batch_size: int
    augment: str
    image_size: int | None
    data_dir: str | None
    test: str | None
    pretrained: str | None
    seed: int


class Shared(OfOneBackbone, total=False):
    """The same for methods that do not choose their backbone's default."""

    backbone: str


def steps(data: Data, epochs: float) -> int:
    """Training steps of `epochs` passes, at least one."""
    if not 0 <= epochs < math.inf:
        raise UsageError(f"epochs are 0 or more, not {epochs}")
    # 0.01 epochs of a small set, as tests take, are still one step.
    return max(1, round(epochs * facts(data).examples / data.batch_size))


def whole(backbone_name: str, data: Data) -> Net:
    """The unsplit classifier for the classes and colours of `data`."""
    known = facts(data)
    return classifier_net(backbone_name, known.classes, known.mean, known.std)


def published(backbone_name: str, data: Data) -> Net:
    """`whole` with the normalisation that its public checkpoint was trained with."""
    mean, std = backbone(backbone_name).normalisation
    return classifier_net(backbone_name, facts(data).classes, mean, std)


def bottlenecked(teacher: Recipe, pair: str = "") -> Backbone:
    """The teacher's backbone, cut where `pair` fits; UsageError where none does."""
    chosen = backbone(teacher.backbone)
    if not chosen.cut:
        raise UsageError(
            f"{teacher.backbone} takes no bottleneck: no group at a quarter of the "
            "image's side or more stands before a smaller one; these take one: "
            f"{those(lambda each: each.cut != '')}"
        )
    if pair not in REDUCTIONS:
        return chosen
    reduction = REDUCTIONS[pair]
    if not chosen.deep_cut(reduction):
        known = those(lambda each: bool(each.deep_cut(reduction)))
        raise UsageError(
            f"pair={pair} reduces a side {reduction} times, and {teacher.backbone} has "
            f"no group at 1/{reduction} of the image's side; these have one: {known}"
        )
    return chosen.deeper(reduction)


SIXTEENTH = 16  # of the side: where a pair is inserted whose place nobody says


def kept(teacher: Recipe, after: str = "") -> str:
    """The last stage that stays on the device before an inserted pair.

    after: its name, or its group's; "": the first whose side is a sixteenth of the
    image's, where a feature is small and most of the network still ahead.
    """
    if after:
        return resolve(teacher.net, after)
    shapes = stage_shapes(backbone(teacher.backbone).build)
    deep = (n for n, s in shapes.items() if len(s) == 3 and s[0] * SIXTEENTH == SIDE)
    if (found := next(deep, None)) is None:
        raise UsageError(
            f"{teacher.backbone} has no stage at 1/{SIXTEENTH} of the image's side: "
            f"say which stays last on the device, after=STAGE of {', '.join(shapes)}"
        )
    return found


def student(
    teacher: Recipe, pair: str, channels: int, compressor: nn.Module, after: str = ""
) -> Net:
    """The teacher's net, a bottleneck of `channels` in place of its first groups.

    A pair of INSERTED replaces none: see `kept` for `after`.
    """
    if pair not in PAIRS:
        raise unknown("bottleneck pair", pair, PAIRS)
    if pair in INSERTED:
        place = kept(teacher, after)
        target = stage_shapes(backbone(teacher.backbone).build)[place][-1]
        built = PAIRS[pair](channels, target, (1, 1), False)
        return insert(teacher.net, place, built, compressor)
    if after:
        raise UsageError(
            f"after={after} is for pairs that are inserted ({', '.join(INSERTED)}); "
            f"pair={pair} replaces the backbone's first groups"
        )
    chosen = bottlenecked(teacher, pair)
    # Sizes follow from the backbone, so that a pair fits every one of them.
    strides = (2, 2) if pair in REDUCTIONS else chosen.strides
    built = PAIRS[pair](channels, chosen.target, strides, chosen.small, chosen.linear)
    return inject(teacher.net, chosen.replaced, built, compressor)


def hints(
    teacher: Recipe,
    pair: str = "",
    *,
    deep: bool = True,
    over: Reduction = "sum",
    after: str = "",
) -> tuple[Term, ...]:
    """Squared errors to the teacher at the decoder and, if `deep`, later groups.

    pair, after: those of the student, since they say which feature its decoder gives.
    """
    names = teacher.net.names
    if pair in INSERTED:
        place = kept(teacher, after)
        chosen = backbone(teacher.backbone)
    else:
        chosen = bottlenecked(teacher, pair)
        place = chosen.cut or ""
    restored = resolve(teacher.net, place)
    # The decoder stands for the stage that it restores; later groups keep their names.
    terms = [Term(Hint("decoder", restored, over), name=f"hint_{place}")]
    for group in (chosen.hints or ()) if deep else ():
        stage = resolve(teacher.net, group)
        if names.index(stage) > names.index(restored):
            terms.append(Term(Hint(stage, stage, over), name=f"hint_{group}"))
    return tuple(terms)


def shallow(stage1: Phase, cut: Term, data: Data, epochs: float, window: int) -> Phase:
    """`stage1` with the hint at the `cut` alone, squares of `window` pixels (0: all).

    The last term of `stage1` is the rate; here its weight rises from 0.
    """
    rate, count = stage1.terms[-1], steps(data, epochs)
    mean = isinstance(cut.loss, Hint) and cut.loss.over == "mean"
    share = window / facts(data).shape[0] if mean else 0
    # A square has share^2 of the image's bits, where hints are means over places.
    rising = optax.linear_schedule(0.0, rate.weight / (share**2 or 1), count)
    terms = cut, replace(rate, weight=rising)
    return replace(stage1, name="shallow", steps=count, terms=terms, window=window)


def after_bottleneck(net: Net) -> tuple[str, ...]:
    """Names of the stages behind the decoder: the teacher's own tail."""
    return net.names[net.names.index("decoder") + 1 :]
