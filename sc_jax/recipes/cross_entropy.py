"""Cross-entropy training of a bottleneck: the labels alone teach the split net.

    python -m launch.train --recipe=cross_entropy:channels=3

Eshratifar et al. 2019 (BottleNet); survey Eq. 2 and Fig. 3. The whole net is trained
end to end from the classifier's weights; values are quantised at test only. Expected:
the weakest of the recipes here at equal bytes and steps (survey section 4.4).
"""

from sc_jax.compressors.simple import Affine
from sc_jax.config import Optimiser, Phase, Recipe
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier

TINY = {"epochs": 0.01, "teacher_epochs": 0.01, "batch_size": 32}


def cross_entropy(
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
    """One phase: cross-entropy, Adam, cosine schedule, all parts trained."""
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
        "end_to_end",
        common.steps(teacher.data, epochs),
        (Term(CrossEntropy(), name="cross_entropy"),),
        trainable=("*",),
        optimiser=Optimiser("adam", 1e-3, "cosine"),
    )
    return Recipe(
        "cross_entropy",
        "Cross-entropy",
        teacher.data,
        net,
        (phase,),
        teacher,
        setting=f"{channels} channels, {bits} bit",
        seed=seed,
    )
