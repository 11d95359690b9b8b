"""Cross-entropy training of a bottleneck: the labels alone teach the split net.

    python -m launch.train --recipe=cross_entropy:channels=3

Eshratifar et al., BottleNet, ISLPED 2019 (https://arxiv.org/abs/1902.01000); survey Eq.
2 and Fig. 3. The whole net is trained end to end from the classifier's weights; values
are quantised at test only. Expected: the weakest of the recipes here at equal bytes and
steps (survey section 4.4).
"""

from dataclasses import replace
from typing import Unpack

from sc_jax.compressors import Affine
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Bits, Channels, Epochs, LearningRate, Pair
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01}


def cross_entropy(
    *,
    channels: Channels = 3,
    bits: Bits = 8,
    pair: Pair = "cr",
    epochs: Epochs = 18.0,
    learning_rate: LearningRate = 1e-3,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: cross-entropy, Adam, cosine schedule, all parts trained."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    net = common.student(teacher, pair, channels, Affine(bits))
    phase = Phase(
        "end_to_end",
        common.steps(teacher.data, epochs),
        # The baseline of the others: labels alone, though a teacher is at hand.
        (Term(CrossEntropy(), name="cross_entropy"),),
        trainable=("*",),
        optimiser=Optimiser("adam", learning_rate, "cosine"),
    )
    return replace(
        teacher,
        name="cross_entropy",
        title="Cross-entropy",
        net=net,
        phases=(phase,),
        teacher=teacher,
        setting=f"{channels} channels, {bits} bit",
    )
