"""Confidence branches: exits mixed by confidences that are learnt with them.

    python -m launch.train --recipe=pomponi

Pomponi, Scardapane & Uncini, Entropy 2022 (https://doi.org/10.3390/e24010001). Branches
learn on a classifier that is trained first (`teacher_epochs`) and then stays as it is
but for its last stage, where that has parameters (nin's has none). Each has one output
more, c_i, the probability of leaving there. The loss is the cross-entropy of the logits
of all branches mixed by c_i prod (1 - c_j), c relaxed Bernoulli samples whose
temperature halves each epoch from 20 to 5 and branches masked by a sample of 1 - c;
plus the last layer's own; plus beta times the mean over branches of the class-balanced
cross-entropy of c_i against "its answer is right", from 0 up over the epochs. Leave
where the confidence reaches a threshold, or the cumulative one of all so far
(`--policy=threshold:score=cumulative_confidence`). Theirs also starts the last layer
afresh, and its batch statistics follow the branches' data. `over=losses` weighs each
branch's own loss by c_i (theirs too); `frozen=False` trains all parts at once.
Expected: confidences that rank answers; the joint form has the better branches.
"""

from dataclasses import replace
from typing import Annotated, Literal, Unpack

from sc_jax.losses.gates import ConfidenceTarget, Halving, Mixture, Rising
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.nets.exit_classifiers.gated import LearnedConfidence
from sc_jax.recipes import branches, common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, Exits, ExitWidth
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01, "batch_size": 16}


def pomponi(
    *,
    epochs: Epochs = 8.0,
    width: ExitWidth = 16,
    exits: Exits = 0,
    beta: Annotated[
        float, Knob("weight of the confidences against being right", at_least=0)
    ] = 1.0,
    over: Annotated[
        Literal["logits", "losses"], Knob("what the confidences mix")
    ] = "logits",
    masked: Annotated[bool, Knob("whether exits are masked in training")] = True,
    frozen: Annotated[
        bool, Knob("train branches and the last layer alone, on a trained network")
    ] = True,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: the mixture, and each confidence against being right."""
    base = classifier(epochs=teacher_epochs, **shared)
    branches.own_logits(base, "has no answer without a confidence behind its branches")
    net = branches.branch(
        # One output more than classes: the confidence's logit.
        base,
        lambda k, i: LearnedConfidence(ConvClassifier(k + 1, (width,))),
        branches.spread(base, exits),
    )
    # Halved each epoch: samples of the gates grow sharper as they learn.
    temperature = Halving(common.steps(base.data, 1))
    mixture = Term(Mixture(net.exit_names, over, temperature, masked), name="mixture")
    # The mean over branches, whatever their number.
    weight = Rising(common.steps(base.data, epochs), beta / len(net.exits))
    sure = tuple(
        Term(ConfidenceTarget(e.name), weight, f"{e.name}_confidence")
        for e in net.exits
    )
    last = net.names[-1]
    parts = (*branches.exit_parts(net, base), last) if frozen else ("*",)
    phase = branches.phase("branches", base, epochs, (mixture, *sure), trainable=parts)
    return replace(
        branches.finish(base, "pomponi", "Confidence branches", net, (phase,)),
        teacher=base if frozen else None,
        setting=f"{over}, beta={beta}"
        + ("" if frozen else ", joint")
        + branches.said(exits),
        policy="threshold:score=confidence",
    )
