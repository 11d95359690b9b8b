"""DDI: a network that skips blocks by input and can be stopped at any exit.

    python -m launch.train --recipe=ddi

Wang et al., dual dynamic inference, JSTSP 2020 (https://arxiv.org/abs/1907.04523):
gates of blocks and of groups of their channels, driven by a small recurrent controller,
learn with the exits under a term that steers the share that runs to `target`. The
steering is a square (reconstruction; nets/backbones/skipnet.py has the rest). One
input alone skips a closed block, a batch does not: the exits' costs in the report leave
the gates' saving out. Published: up to 4 x fewer computations at equal accuracy
(abstract). Expected: within a point of its own last exit at 70 % of the cost or less.
"""

from typing import Annotated, Unpack

from sc_jax.errors import UsageError
from sc_jax.losses.gates import GateCost
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones import skipnet
from sc_jax.nets.backbones.registry import those
from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def ddi(
    *,
    backbone: BackboneName = "skipnet14_g4",
    epochs: Epochs = 4.0,
    target: Annotated[
        float, Knob("share of the cost that is to run", at_least=0, at_most=1)
    ] = 0.7,
    price: Annotated[float, Knob("weight of the cost in the loss", at_least=0)] = 10.0,
    gated: Annotated[str, Knob("stage or group that the gates steer")] = "layer3",
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: cross-entropies of all exits, and the gates' cost."""
    base = classifier(backbone=backbone, **shared)
    if not skipnet.is_gated(base.net.stages):
        gates = those(lambda each: skipnet.is_gated(each.build(classes=2)))
        raise UsageError(f"ddi steers gates, and {backbone} has none; these: {gates}")
    net = branches.branch(base, lambda k, i: ConvClassifier(k, (16,)))
    # Of the last gated group: its feature carries the gates of all before it.
    last = branches.standing(net, "gated", gated)
    cost = Term(GateCost(last, target), price, "gate_cost")
    joint = branches.phase("joint", base, epochs, (*branches.joint(net), cost))
    setting = f"{backbone}, target={target}"
    return branches.finish(base, "ddi", "DDI", net, (joint,), setting=setting)
