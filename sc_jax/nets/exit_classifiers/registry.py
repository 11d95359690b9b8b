"""The exit classifiers by name, and what their tests run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn

from sc_jax.nets.backbones.multiview import DevicesClassifier
from sc_jax.nets.exit_classifiers.classifiers import (
    Boosted,
    ConvClassifier,
    MixedPool,
    MSDNetClassifier,
    PooledLinear,
)
from sc_jax.nets.exit_classifiers.gated import (
    Ensembled,
    Filter,
    Gated,
    Identity,
    LearnedConfidence,
    Pruned,
    Softening,
    Weighing,
)


@dataclass(frozen=True)
class Row:
    """An exit classifier, and samples of its settings, each a module for K classes.

    feature: shape of one example's feature; None: the logits [K] themselves.
    """

    module: type[nn.Module]
    samples: tuple[Callable[[int], nn.Module], ...]
    feature: tuple[int, ...] | None = (9, 9, 6)


EXIT_CLASSIFIERS: dict[str, Row] = {
    "pooled_linear": Row(PooledLinear, (PooledLinear,)),
    "conv": Row(ConvClassifier, (partial(ConvClassifier, features=(8, 4)),)),
    "mixed_pool": Row(MixedPool, (MixedPool, partial(MixedPool, cascade=True))),
    "msdnet": Row(
        MSDNetClassifier,
        (
            partial(MSDNetClassifier, features=8),
            partial(MSDNetClassifier, features=8, link=6),
        ),
    ),
    "boosted": Row(Boosted, (lambda k: Boosted(PooledLinear(k), 0.5),)),
    "identity": Row(Identity, (lambda k: Identity(),), feature=None),
    "ensembled": Row(Ensembled, (lambda k: Ensembled(MixedPool(k, cascade=True)),)),
    # One output more than classes: the confidence's own logit.
    "learned_confidence": Row(
        LearnedConfidence, (lambda k: LearnedConfidence(PooledLinear(k + 1)),)
    ),
    "softening": Row(Softening, (lambda k: Softening(PooledLinear(k)),)),
    "gated": Row(Gated, (lambda k: Gated(PooledLinear(k)),)),
    "pruned": Row(Pruned, (lambda k: Pruned(PooledLinear(k), 2),)),
    "weighing": Row(Weighing, (lambda k: Weighing(PooledLinear(k), 2),)),
    "filter": Row(Filter, (partial(Filter, width=0.25),)),
    "devices": Row(
        DevicesClassifier,
        (DevicesClassifier, partial(DevicesClassifier, how="concat")),
        feature=(2, 4, 4, 6),
    ),
}
