"""Optimal branch placement: a dynamic programme chooses where exits pay.

    python -m launch.train --recipe=chiang --workdir=all
    python -m launch.train --recipe=chiang:trace=all/trace_validation.npz,budget=0.6

Chiang et al., IEEE Big Data 2021, VGG on CIFAR-100
(https://doi.org/10.1109/BigData52589.2021.9671948). First a branch at every candidate
is trained; from its recorded validation predictions the second command keeps those with
which most are right within a mean cost, as a share of the network's without exits, and
trains with them alone. They were chosen on the validation split: what risk control then
promises on it is a little too good. Reconstruction: the recurrence of
plan/placement.py, which is optimal where who is sure stays sure; the abstract says
that theirs is a pseudo-polynomial programme. Expected: at or above evenly spaced exits
at the budget.
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


def chiang(
    *,
    epochs: Epochs = 8.0,
    width: ExitWidth = 16,
    trace: Annotated[
        str, Knob("trace file of a net with all branches; none: keep all")
    ] = "",
    budget: Annotated[
        float, Knob("mean cost, share of the network without exits", above=0)
    ] = 0.6,
    threshold: Annotated[
        float, Knob("of the largest probability", at_least=0, at_most=1)
    ] = 0.9,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: the sum of the cross-entropies of all branches that are kept."""
    base = classifier(**shared)
    places = branches.placed(base, trace, budget, threshold) if trace else None
    net = branches.branch(base, lambda k, i: ConvClassifier(k, (width,)), places)
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    setting = ", ".join(e.after for e in net.exits)
    return branches.finish(
        base, "chiang", "Placed branches", net, (joint,), setting=setting
    )
