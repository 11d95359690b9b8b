"""Confidence branches: exits mixed by confidences that are learnt with them.

    python -m launch.train --recipe=pomponi

Pomponi, Scardapane & Uncini, Entropy 2022 (https://doi.org/10.3390/e24010001). Every
branch has one output more, the probability c_i of leaving there, and its cross-entropy
counts c_i times (a relaxed Bernoulli sample), plus beta times the class-balanced
cross-entropy of c_i against "this exit is right". Leave where the confidence reaches a
threshold, or the cumulative one of all so far
(`--policy=threshold:score=cumulative_confidence`). `over=logits` is their other form,
one cross-entropy of the logits mixed by c_i prod (1 - c_j): there an exit learns to
correct those before it, and is worse alone. The temperature halves each epoch from 20
to 5, as theirs; their beta is 1, which takes from the answers in few epochs; branches
are not dropped out. Expected: beside `branchynet`.
"""

from typing import Annotated, Literal, Unpack

from sc_jax.losses.gates import ConfidenceTarget, Halving, Mixture
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.nets.exit_classifiers.gated import LearnedConfidence
from sc_jax.recipes import branches, common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, ExitWidth
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def pomponi(
    *,
    epochs: Epochs = 8.0,
    width: ExitWidth = 16,
    beta: Annotated[
        float, Knob("weight of the confidence against being right", at_least=0)
    ] = 0.1,
    over: Annotated[
        Literal["logits", "losses"], Knob("what the confidences mix")
    ] = "losses",
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: losses by confidences, and each confidence against being right."""
    base = classifier(**shared)
    branches.own_logits(base, "has no answer without a confidence behind its branches")
    net = branches.branch(
        # One output more than classes: the confidence's logit.
        base,
        lambda k, i: LearnedConfidence(ConvClassifier(k + 1, (width,))),
    )
    sure = tuple(
        Term(ConfidenceTarget(e.name), beta, f"{e.name}_confidence") for e in net.exits
    )
    # Halved each epoch: samples of the gates grow sharper as they learn.
    temperature = Halving(common.steps(base.data, 1))
    mixture = Term(Mixture(net.exit_names, over, temperature), name="mixture")
    joint = branches.phase("joint", base, epochs, (mixture, *sure))
    return branches.finish(
        base,
        "pomponi",
        "Confidence branches",
        net,
        (joint,),
        setting=f"{over}, beta={beta}",
        policy="threshold:score=confidence",
    )
