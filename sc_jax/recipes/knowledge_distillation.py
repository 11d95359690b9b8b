"""Knowledge distillation of a bottleneck from the unsplit classifier.

    python -m launch.train --recipe=knowledge_distillation:channels=3

Hinton et al. 2014 (https://arxiv.org/abs/1503.02531); baseline of Matsubara et al. 2019
(survey Eq. 3-4): alpha 0.5, temperature 1, the whole net trained. Published with SGD
1e-3 over 20 ImageNet epochs; short schedules here use Adam. Expected: above
cross-entropy, below HND.
"""

from dataclasses import replace
from typing import Unpack

from sc_jax.compressors import Affine
from sc_jax.losses.distillation import KnowledgeDistillation
from sc_jax.losses.terms import Term
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import (
    Bits,
    Channels,
    Epochs,
    LearningRate,
    Pair,
    TeacherShare,
    Temperature,
)
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01}


def knowledge_distillation(
    *,
    channels: Channels = 3,
    bits: Bits = 8,
    pair: Pair = "cr",
    epochs: Epochs = 18.0,
    alpha: TeacherShare = 0.5,
    tau: Temperature = 1.0,
    learning_rate: LearningRate = 1e-3,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: alpha CE + (1 - alpha) tau^2 KL to the teacher, all parts trained."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    net = common.student(teacher, pair, channels, Affine(bits))
    phase = Phase(
        "distil",
        common.steps(teacher.data, epochs),
        (Term(KnowledgeDistillation(alpha, tau), name="distillation"),),
        # No hints, so that nothing ties the tail to the teacher's features.
        trainable=("*",),
        optimiser=Optimiser("adam", learning_rate, "cosine"),
    )
    return replace(
        teacher,
        name="knowledge_distillation",
        title="Knowledge distillation",
        net=net,
        phases=(phase,),
        teacher=teacher,
        setting=f"{channels} channels, {bits} bit",
    )
