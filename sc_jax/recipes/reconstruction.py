"""Feature reconstruction: an autoencoder after an unchanged head.

    python -m launch.train --recipe=reconstruction:channels=3

Choi et al. 2020; Jankowski et al. 2020 (survey Eq. 5): the device keeps the
classifier's own first groups, an encoder/decoder pair behind them learns to give the
feature back; the rest of the net is not touched. Expected: a far larger head than a
replaced one, below GHND at equal bytes (Matsubara et al. 2022).
"""

from sc_jax.compressors.simple import Affine
from sc_jax.config import Optimiser, Phase, Recipe
from sc_jax.losses.distillation import Reconstruction
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones import backbone as family
from sc_jax.nets.bottlenecks import AutoDecoder, AutoEncoder
from sc_jax.nets.net import insert, resolve
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier

TINY = {"epochs": 0.01, "teacher_epochs": 0.01, "batch_size": 32}


def reconstruction(
    *,
    channels: int = 3,
    bits: int = 8,
    epochs: float = 18.0,
    backbone: str = "cnn",
    data: str = "fashion_mnist_12k",
    teacher_epochs: float = 12.0,
    batch_size: int = 64,
    augment: str = "flip",
    image_size: int | None = None,
    data_dir: str | None = None,
    seed: int = 0,
) -> Recipe:
    """One phase: squared error of the feature; only the autoencoder is trained."""
    teacher = classifier(
        backbone=backbone,
        data=data,
        epochs=teacher_epochs,
        batch_size=batch_size,
        augment=augment,
        image_size=image_size,
        data_dir=data_dir,
        seed=seed,
    )
    chosen = family(backbone)
    pair = (AutoEncoder(channels), AutoDecoder(chosen.target))
    net = insert(teacher.net, chosen.cut, pair, Affine(bits))
    original = resolve(teacher.net, chosen.cut)
    phase = Phase(
        "reconstruct",
        common.steps(teacher.data, epochs),
        (Term(Reconstruction("decoder", original), name="reconstruction"),),
        trainable=("encoder", "decoder"),
        optimiser=Optimiser("adam", 1e-3, "step", drops=(0.5, 0.8)),
        reduction="sum",
    )
    return Recipe(
        "reconstruction",
        "Reconstruction",
        teacher.data,
        net,
        (phase,),
        teacher,
        setting=f"{channels} channels, {bits} bit",
        seed=seed,
    )
