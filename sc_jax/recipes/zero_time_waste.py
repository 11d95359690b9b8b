"""Zero Time Waste: exits on a frozen network read each other and join in ensembles.

    python -m launch.train --recipe=zero_time_waste

Wolczyk et al., NeurIPS 2021 (https://arxiv.org/abs/2106.05409). The classifier is the
teacher and stays as it is; mixed pooling exit classifiers at the backbone's usual
places (in the paper behind every block) read the logits of the one before,
layer-normalised and without gradient. An exit's answer is a geometric ensemble of all
classifiers so far, whose weights learn on the training set too: in the paper after the
classifiers, here beside them, with no gradient between. Published for ResNet-56 on
CIFAR-10 at 25/50/75/100 % of its cost: 80.3/88.7/91.5/92.1 % beside SDN's
77.7/87.3/91.1/92.0 (quoted at second hand). Expected: above `shallow_deep` with a
frozen trunk at low budgets, the last exit never below the classifier by much.
"""

from dataclasses import replace
from typing import Unpack

from sc_jax.losses.exits import OwnCrossEntropy
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.classifiers import MixedPool
from sc_jax.nets.exit_classifiers.gated import Ensembled, Identity
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, Exits, PoolSide
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01, "batch_size": 16}


def zero_time_waste(
    *,
    epochs: Epochs = 4.0,
    side: PoolSide = 4,
    exits: Exits = 0,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase over frozen stages: exits on their own logits, ensembles on theirs."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    # Its last exit would be new, where the method keeps the trained classifier.
    branches.own_logits(teacher, "has no classifier of its own to join")
    net = branches.branch(
        teacher,
        lambda k, i: Ensembled(MixedPool(k, side, cascade=True)),
        branches.spread(teacher, exits),
        # The network's own logits join the ensemble as they are.
        last=Ensembled(Identity()),
    )
    # Not of the last: its logits are the frozen network's.
    own = [Term(OwnCrossEntropy(e.name), name=f"{e.name}_own") for e in net.exits[:-1]]
    joined = [Term(CrossEntropy(e.name), name=e.name) for e in net.exits]
    phase = branches.phase(
        "exit_classifiers",
        teacher,
        epochs,
        own + joined,
        trainable=branches.exit_parts(net, teacher),
    )
    recipe = branches.finish(
        teacher, "zero_time_waste", "Zero Time Waste", net, (phase,)
    )
    return replace(
        recipe, teacher=teacher, setting=f"{len(net.exits) - 1} exit classifiers"
    )
