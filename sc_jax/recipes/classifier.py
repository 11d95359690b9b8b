"""The plain classifier: the teacher of every other recipe, and local or edge computing.

    python -m launch.train --recipe=classifier:backbone=resnet20,data=folder:PATH

He et al. 2016 (https://arxiv.org/abs/1512.03385); LeCun et al. 1998 for `cnn`. Expected
on the embedded set: above 88 % top-1 in about two minutes on two cores. With
`pretrained=FILE`, torchvision's checkpoint of mobilenetv2 or a ResNet, or one of an
EfficientNet-Lite, training starts from it (of other classes from all but its
classifier), and `epochs=0` leaves it as it is.
"""

from typing import Annotated

from sc_jax.data.pipeline import Data
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.recipes import common
from sc_jax.recipes.knobs import (
    Augment,
    BackboneName,
    BatchSize,
    DataDir,
    DataName,
    Epochs,
    ImageSize,
    LearningRate,
    Pretrained,
    Seed,
    TestName,
)
from sc_jax.spec import Knob
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def adamw(learning_rate: float = 2e-3, weight_decay: float = 1e-2) -> Optimiser:
    """On a cosine with a short warm-up: of the classifier, and of exits on one."""
    return Optimiser(
        "adamw", learning_rate, "cosine", warmup=0.1, weight_decay=weight_decay
    )


def classifier(
    *,
    backbone: BackboneName = "cnn",
    data: DataName = "fashion_mnist_12k",
    epochs: Epochs = 10.0,
    batch_size: BatchSize = 32,
    learning_rate: LearningRate = 2e-3,
    weight_decay: Annotated[float, Knob("of AdamW", at_least=0)] = 1e-2,
    augment: Augment = "flip",
    image_size: ImageSize = None,
    data_dir: DataDir = None,
    test: TestName = None,
    pretrained: Pretrained = None,
    seed: Seed = 0,
) -> Recipe:
    """Cross-entropy, AdamW, cosine schedule with a short warm-up."""
    source = Data(data, batch_size, augment, image_size, data_dir, test)
    phase = Phase(
        "classify",
        common.steps(source, epochs),
        (Term(CrossEntropy(smoothing=0.05), name="cross_entropy"),),
        trainable=("*",),
        optimiser=adamw(learning_rate, weight_decay),
    )
    # Weights of a public checkpoint fit its own normalisation only.
    make = common.published if pretrained else common.whole
    return Recipe(
        "classifier",
        "Classifier",
        source,
        make(backbone, source),
        # No epochs: a checkpoint is taken as it is.
        (phase,) if epochs else (),
        backbone=backbone,
        pretrained=pretrained,
        seed=seed,
    )
