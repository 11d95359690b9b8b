"""Generalised head network distillation: hints at the cut and at all later groups.

    python -m launch.train --recipe=ghnd:channels=3

Matsubara & Levorato, ICPR 2020 (https://arxiv.org/abs/2007.15818; survey Eq. 7, every
lambda 1), the CR+BQ bottleneck of the SC2 benchmark: sums of squares, Adam 1e-3, x0.1
at a quarter, half and three quarters; no quantisation in training, 8 bit at test.
Expected: at or above HND.
"""

from dataclasses import replace
from typing import Unpack

from sc_jax.compressors import Affine
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Bits, Channels, Epochs, LearningRate, Over, Pair
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01}


def ghnd(
    *,
    channels: Channels = 3,
    bits: Bits = 8,
    pair: Pair = "cr",
    epochs: Epochs = 18.0,
    learning_rate: LearningRate = 1e-3,
    over: Over = "sum",
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: squared errors at all groups; only the bottleneck is trained."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    net = common.student(teacher, pair, channels, Affine(bits))
    phase = Phase(
        "generalised",
        common.steps(teacher.data, epochs),
        common.hints(teacher, pair, over=over),
        trainable=("encoder", "split@encoder", "decoder"),
        optimiser=Optimiser("adam", learning_rate, "step", drops=(0.25, 0.5, 0.75)),
        # Summed over the batch too, as published.
        reduction="sum",
    )
    return replace(
        teacher,
        name="ghnd",
        title="GHND",
        net=net,
        phases=(phase,),
        teacher=teacher,
        setting=f"{channels} channels, {bits} bit",
    )
