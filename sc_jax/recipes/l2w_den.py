"""L2W-DEN: which examples an exit learns from is learnt from where they will leave.

    python -m launch.train --recipe=l2w_den

Han et al., ECCV 2022 (https://arxiv.org/abs/2209.08310), beyond the survey. A small map
from an example's losses at all exits to its weights at each is trained by a one-step
meta gradient: take the step that the weights suggest on one half of the batch, measure
the other half at the exits where its examples would leave, by confidence, `decay`^k of
them at exit k. Weights are centred over exits and examples ("mat", eps 0.3) or over an
example's exits ("col", eps 0.8). Theirs for ImageNet: a map of 500 under its own Adam
at 1e-4, one meta step in a hundred, before the net's and with the halves exchanged;
here it learns in every step by the phase's optimiser. Published, ImageNet MSDNet step
7: 59.24/69.65/73.94/75.66/76.72 % beside 62.90/70.32/73.00/73.59/74.59 (authors'
repository; label smoothing and 300 epochs raise it). Expected: above `msdnet` at late
exits; a step costs three.
"""

from dataclasses import replace
from typing import Annotated, Literal, Unpack

from sc_jax.losses.exits import AssignedCrossEntropy, WeighedCrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.gated import Weighing
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import LookAhead, Recipe

TINY = {"backbone": "msdnet_nano", "epochs": 0.01, "batch_size": 16}


def l2w_den(
    *,
    backbone: BackboneName = "msdnet_tiny",
    epochs: Epochs = 5.0,
    eps: Annotated[
        float, Knob("how far a weight may be from 1", at_least=0, at_most=1)
    ] = 0.3,
    centring: Annotated[
        Literal["mat", "col"],
        Knob("weights average 1 over all, or over each one's exits"),
    ] = "mat",
    decay: Annotated[
        float, Knob("of the share that leaves, from exit to exit", above=0)
    ] = 0.75,
    step_size: Annotated[
        float, Knob("of the step that is looked ahead", above=0)
    ] = 0.1,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: weighed cross-entropies, the weights looking one step ahead."""
    base = classifier(backbone=backbone, **shared)
    net = branches.branch(base)
    names, last = net.exit_names, net.exits[-1]
    weighing = replace(last, module=Weighing(last.module, len(names)))
    net = replace(net, exits=(*net.exits[:-1], weighing))
    odds = [decay**k for k in range(len(names))]
    shares = tuple(each / sum(odds) for each in odds)
    assigned = (Term(AssignedCrossEntropy(names, shares), name="assigned"),)
    weighed = WeighedCrossEntropy(names, last.name, eps, centring)
    joint = branches.phase(
        "joint",
        base,
        epochs,
        (Term(weighed, name="weighed"),),
        look_ahead=LookAhead("weigher", assigned, step_size),
    )
    setting = f"{backbone}, {centring}, eps={eps}"
    return branches.finish(base, "l2w_den", "L2W-DEN", net, (joint,), setting=setting)
