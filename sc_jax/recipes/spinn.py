"""SPINN: exits at equal shares of the cost, so that progress can stop anywhere.

    python -m launch.train --recipe=spinn

Laskaridis et al., MobiCom 2020 (https://arxiv.org/abs/2008.06402): six exits at about
equal shares of a deep network's FLOPs (`backbone=resnet56,exits=6`; the small default
has three places), trained jointly from scratch, leave by the largest softmax
probability. This is its progressive inference; what device and server run, and over
which link, is for a planner. Expected: within a point of the whole network at 70 % of
its cost or less.
"""

from typing import Annotated, Unpack

from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, ExitWidth
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def spinn(
    *,
    epochs: Epochs = 8.0,
    exits: Annotated[
        int, Knob("early exits, at equal shares of the cost", at_least=1)
    ] = 3,
    width: ExitWidth = 16,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: the sum of the cross-entropies of `exits` exits and the last."""
    base = classifier(**shared)
    # Placed by MACs and not by layers, which differ in cost.
    places = branches.evenly(base, exits)
    net = branches.branch(base, lambda k, i: ConvClassifier(k, (width,)), places)
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    setting = f"{len(net.exits)} exits"
    return branches.finish(base, "spinn", "SPINN", net, (joint,), setting=setting)
