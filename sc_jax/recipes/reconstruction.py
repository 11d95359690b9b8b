"""Feature reconstruction: an autoencoder after an unchanged head.

    python -m launch.train --recipe=reconstruction:channels=3

The device keeps the classifier's own first groups, an encoder/decoder pair behind them
learns to give the feature back; the rest of the net is not touched. The loss is survey
Eq. 5, the m-th power of the n-norm of z - z_dec + eps, by `variant`: "choi" n = 2, m =
1, eps 1e-6 (Choi et al. 2020, https://arxiv.org/abs/2002.07036), "jankowski" n = m = 1
(Jankowski et al. 2020, https://arxiv.org/abs/2003.02027; their stages of cross-entropy
and pruning behind it are not here), "squares" n = m = 2, as hints are. Expected: a far
larger head than a replaced one, below GHND at equal bytes (Matsubara et al. 2022).
"""

from dataclasses import replace
from typing import Annotated, Literal, Unpack

from sc_jax.compressors import Affine
from sc_jax.losses.distillation import Reconstruction
from sc_jax.losses.terms import Term
from sc_jax.nets.bottlenecks.pairs import AutoDecoder, AutoEncoder
from sc_jax.nets.net import insert, resolve
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Bits, Channels, Epochs, LearningRate
from sc_jax.spec import Knob
from sc_jax.train.recipe import Optimiser, Phase, Recipe

# (norm, power, eps) of survey Eq. 5.
VARIANTS = {"choi": (2, 1, 1e-6), "jankowski": (1, 1, 0.0), "squares": (2, 2, 0.0)}
TINY = {"epochs": 0.01, "teacher_epochs": 0.01}


def reconstruction(
    *,
    channels: Channels = 3,
    bits: Bits = 8,
    variant: Annotated[
        Literal["choi", "jankowski", "squares"], Knob("norm and power of the error")
    ] = "choi",
    epochs: Epochs = 18.0,
    learning_rate: LearningRate = 1e-3,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: error of the feature; only the autoencoder is trained."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    chosen = common.bottlenecked(teacher)
    pair = (AutoEncoder(channels), AutoDecoder(chosen.target, chosen.linear))
    cut = chosen.cut or ""
    # Inserted and not injected: the device runs the teacher's own first groups.
    net = insert(teacher.net, cut, pair, Affine(bits))
    original = resolve(teacher.net, cut)
    error = Reconstruction("decoder", original, *VARIANTS[variant])
    phase = Phase(
        "reconstruct",
        common.steps(teacher.data, epochs),
        (Term(error, name="reconstruction"),),
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
        setting=f"{variant}, {channels} channels, {bits} bit",
    )
