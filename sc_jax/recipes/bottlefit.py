"""BottleFit: GHND first, then the whole net is refined.

    python -m launch.train --recipe=bottlefit:channels=3

Matsubara et al. 2022 (https://arxiv.org/abs/2201.02693): stage 1 hints at the cut and
at all later groups (layer2 to layer4 there; Adam 1e-3, x0.1 at half), stage 2
distillation (alpha 0.5, temperature 1) with the encoder frozen (`freeze_encoder`, "FE")
or trained. Their bottleneck is `pair=hnd`. Published stage 2 is SGD 1e-3, plain
momentum, weight decay 5e-4, x0.1 at half (--set=phases.stage2.optimiser.name=sgd, and
likewise nesterov=False, weight_decay=5e-4, schedule=step, drops=(0.5,)); short
schedules here use Adam on a cosine. Expected: above GHND at the same bytes.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.compressors import Affine
from sc_jax.losses.distillation import KnowledgeDistillation
from sc_jax.losses.terms import Term
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Bits, Channels, Epochs, LearningRate, Over, Pair
from sc_jax.spec import Knob
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"stage1_epochs": 0.01, "stage2_epochs": 0.01, "teacher_epochs": 0.01}


def bottlefit(
    *,
    channels: Channels = 3,
    bits: Bits = 8,
    pair: Pair = "cr",
    stage1_epochs: Epochs = 10.0,
    stage2_epochs: Epochs = 8.0,
    freeze_encoder: Annotated[
        bool, Knob("whether stage 2 leaves the encoder alone")
    ] = True,
    learning_rate: LearningRate = 1e-3,
    over: Over = "sum",
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """Two phases: hints at the cut and all later groups, then distillation."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    net = common.student(teacher, pair, channels, Affine(bits))
    stage1 = Phase(
        "stage1",
        common.steps(teacher.data, stage1_epochs),
        common.hints(teacher, pair, over=over),
        trainable=("encoder", "split@encoder", "decoder"),
        optimiser=Optimiser("adam", learning_rate, "step", drops=(0.5,)),
        reduction="sum",
    )
    # A fixed encoder: bundles on devices stay valid while the server is refined.
    refined = ("decoder", *common.after_bottleneck(net))
    stage2 = Phase(
        "stage2",
        common.steps(teacher.data, stage2_epochs),
        (Term(KnowledgeDistillation(0.5, 1.0), name="distillation"),),
        trainable=refined if freeze_encoder else ("encoder", "split@encoder", *refined),
        optimiser=Optimiser("adam", learning_rate, "cosine"),
    )
    return replace(
        teacher,
        name="bottlefit",
        title="BottleFit",
        net=net,
        phases=(stage1, stage2),
        teacher=teacher,
        setting=f"{channels} channels, {bits} bit",
    )
