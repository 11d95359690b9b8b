"""DynExit: the weights of the exits' losses adapt while they are trained.

    python -m launch.train --recipe=dynexit

Wang et al., SiPS 2019, ResNets on CIFAR (https://ieeexplore.ieee.org/document/9020551):
trained weights in place of hand-set ones, up to 43.6 % fewer FLOPs and +1.2 % accuracy
over fixed weights at like cost (abstract). Reconstruction, since the rule could not be
read: each exit's cross-entropy is divided by its mean over the batch
(losses.exits.AdaptiveWeights), so that exits which learn slowly do not swamp the
others, and `priority` leans on later exits by their share of the cost. Expected: at or
above equal weights (`branchynet` without its first phase).
"""

from typing import Annotated, Unpack

from sc_jax.losses.exits import AdaptiveWeights
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, ExitWidth
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def dynexit(
    *,
    epochs: Epochs = 8.0,
    width: ExitWidth = 16,
    priority: Annotated[
        float, Knob("lean to later exits, 0 for none", at_least=0, at_most=1)
    ] = 0.5,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: cross-entropies of all exits under adaptive weights."""
    base = classifier(**shared)
    net = branches.branch(base, lambda k, i: ConvClassifier(k, (width,)))
    costs = branches.shares_of(net, base)
    # Between equal weights and weights by cost.
    leaning = tuple(1 - priority + priority * cost for cost in costs)
    term = Term(AdaptiveWeights(net.exit_names, leaning), name="adaptive")
    joint = branches.phase("joint", base, epochs, (term,))
    setting = f"priority={priority}"
    return branches.finish(base, "dynexit", "DynExit", net, (joint,), setting=setting)
