"""Feature reconstruction: an autoencoder after an unchanged head.

    python -m launch.train --recipe=reconstruction:channels=3

Choi et al. 2020 (https://arxiv.org/abs/2002.07036); Jankowski et al. 2020
(https://arxiv.org/abs/2003.02027) (survey Eq. 5): the device keeps the classifier's own
first groups, an encoder/decoder pair behind them learns to give the feature back; the
rest of the net is not touched. Expected: a far larger head than a replaced one, below
GHND at equal bytes (Matsubara et al. 2022).
"""

from dataclasses import replace
from typing import Unpack

from sc_jax.compressors import Affine
from sc_jax.losses.distillation import Reconstruction
from sc_jax.losses.terms import Term
from sc_jax.nets.bottlenecks.pairs import AutoDecoder, AutoEncoder
from sc_jax.nets.net import insert, resolve
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Bits, Channels, Epochs, LearningRate
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01}


def reconstruction(
    *,
    channels: Channels = 3,
    bits: Bits = 8,
    epochs: Epochs = 18.0,
    learning_rate: LearningRate = 1e-3,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: squared error of the feature; only the autoencoder is trained."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    chosen = common.bottlenecked(teacher)
    pair = (AutoEncoder(channels), AutoDecoder(chosen.target, chosen.linear))
    cut = chosen.cut or ""
    # Inserted and not injected: the device runs the teacher's own first groups.
    net = insert(teacher.net, cut, pair, Affine(bits))
    original = resolve(teacher.net, cut)
    phase = Phase(
        "reconstruct",
        common.steps(teacher.data, epochs),
        (Term(Reconstruction("decoder", original), name="reconstruction"),),
        trainable=("encoder", "split@encoder", "decoder"),
        optimiser=Optimiser("adam", learning_rate, "step", drops=(0.5, 0.8)),
        reduction="sum",
    )
    return replace(
        teacher,
        name="reconstruction",
        title="Reconstruction",
        net=net,
        phases=(phase,),
        teacher=teacher,
        setting=f"{channels} channels, {bits} bit",
    )
