"""Entropic Student: supervised compression for split computing.

    python -m launch.train --recipe=entropic_student:beta=0.32

Matsubara, Yang, Levorato & Mandt, WACV 2022; SC2 benchmark, TMLR 2023. Stage 1 distils
the teacher's features through the bottleneck at rate weight beta (sum over features and
batch, Adam 1e-3, x0.1 at half and four fifths); stage 2 freezes encoder and prior and
trains the rest on 0.5 cross-entropy + 0.5 KL, temperature 1. Published betas for
ResNet-50: 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12. Published stage 2 is SGD 1e-3 over
ten ImageNet epochs; short schedules here use Adam at the same rate.
Expected on the embedded set: within 1 point of the teacher (docs/results.md).
"""

from sc_jax.compressors.prior import FactorizedPrior
from sc_jax.config import Optimiser, Phase, Recipe
from sc_jax.losses.distillation import KnowledgeDistillation
from sc_jax.losses.rate import Rate
from sc_jax.losses.terms import Term
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier

TINY = {
    "stage1_epochs": 0.01,
    "stage2_epochs": 0.01,
    "teacher_epochs": 0.01,
    "batch_size": 32,
}
BETAS = (0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)


def entropic_student(
    *,
    beta: float = 0.32,
    channels: int = 12,
    backbone: str = "cnn",
    data: str = "fashion_mnist_12k",
    stage1_epochs: float = 10.0,
    stage2_epochs: float = 8.0,
    teacher_epochs: float = 12.0,
    batch_size: int = 64,
    stage1_rate: float = 1e-3,
    stage2_rate: float = 1e-3,
    over: str = "sum",
    augment: str = "flip",
    image_size: int | None = None,
    data_dir: str | None = None,
    seed: int = 0,
) -> Recipe:
    """Hints at the bottleneck and all later groups + beta bits, then distillation."""
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
    net = common.student(backbone, teacher.data, "fp", channels, FactorizedPrior())
    stage1 = Phase(
        "stage1",
        common.steps(teacher.data, stage1_epochs),
        (
            *common.hints(backbone, net, deep=True, over=over),
            Term(Rate(), weight=beta, name="bits"),
        ),
        trainable=("encoder", "split@encoder", "decoder"),
        optimiser=Optimiser("adam", stage1_rate, "step", drops=(0.5, 0.8)),
        reduction="sum",
    )
    stage2 = Phase(
        "stage2",
        common.steps(teacher.data, stage2_epochs),
        (Term(KnowledgeDistillation(0.5, 1.0), name="distillation"),),
        trainable=("decoder", *common.after_bottleneck(net)),
        optimiser=Optimiser("adam", stage2_rate, "cosine"),
    )
    return Recipe(
        "entropic_student",
        "Entropic Student",
        teacher.data,
        net,
        (stage1, stage2),
        teacher,
        setting=f"beta={beta}",
        seed=seed,
    )
