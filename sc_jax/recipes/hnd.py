"""Head network distillation: the bottleneck alone learns the teacher's head.

    python -m launch.train --recipe=hnd:channels=3

Matsubara et al. 2019 (https://doi.org/10.1145/3349614.3356022; survey Eq. 6): one sum
of squares at the teacher's stage, Adam 1e-3, x0.1 at a quarter, half and three
quarters; the tail stays the teacher's own. `pair=hnd` is the published bottleneck: it
takes the place of layer1 and layer2 of an ImageNet ResNet, 28 x 28 of 224, and of the
groups up to that side of others; its decoder is BottleFit's, wider than theirs
(nets/bottlenecks/pairs.py). Expected: below GHND.
"""

from dataclasses import replace
from typing import Unpack

from sc_jax.compressors import Affine
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Bits, Channels, Epochs, LearningRate, Pair
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01}


def hnd(
    *,
    channels: Channels = 3,
    bits: Bits = 8,
    pair: Pair = "cr",
    epochs: Epochs = 18.0,
    learning_rate: LearningRate = 1e-3,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: squared error at the cut; only encoder and decoder are trained."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    net = common.student(teacher, pair, channels, Affine(bits))
    phase = Phase(
        "head",
        common.steps(teacher.data, epochs),
        # At the cut alone, so the tail is never run in training.
        common.hints(teacher, pair, deep=False),
        trainable=("encoder", "split@encoder", "decoder"),
        optimiser=Optimiser("adam", learning_rate, "step", drops=(0.25, 0.5, 0.75)),
        reduction="sum",
    )
    return replace(
        teacher,
        name="hnd",
        title="HND",
        net=net,
        phases=(phase,),
        teacher=teacher,
        setting=f"{channels} channels, {bits} bit",
    )
