"""Head network distillation: the bottleneck alone learns the teacher's head.

    python -m launch.train --recipe=hnd:channels=3

Matsubara et al. 2019 (survey Eq. 6): one sum of squares at the teacher's stage, Adam
1e-3, x0.1 at a quarter, half and three quarters; the tail stays the teacher's own. On
ImageNet backbones `pair=hnd` is the published 29 x 29 form. Expected: below GHND.
"""

from sc_jax.compressors.simple import Affine
from sc_jax.config import Optimiser, Phase, Recipe
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier

TINY = {"epochs": 0.01, "teacher_epochs": 0.01, "batch_size": 32}


def hnd(
    *,
    channels: int = 3,
    bits: int = 8,
    pair: str = "cr",
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
    """One phase: squared error at the cut; only encoder and decoder are trained."""
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
    net = common.student(backbone, teacher.data, pair, channels, Affine(bits))
    phase = Phase(
        "head",
        common.steps(teacher.data, epochs),
        common.hints(backbone, net, deep=False),
        trainable=("encoder", "decoder"),
        optimiser=Optimiser("adam", 1e-3, "step", drops=(0.25, 0.5, 0.75)),
        reduction="sum",
    )
    return Recipe(
        "hnd",
        "HND",
        teacher.data,
        net,
        (phase,),
        teacher,
        setting=f"{channels} channels, {bits} bit",
        seed=seed,
    )
