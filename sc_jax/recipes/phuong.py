"""Distillation-based training: every exit learns from the last one.

    python -m launch.train --recipe=phuong

Phuong & Lampert, ICCV 2019
(https://openaccess.thecvf.com/content_ICCV_2019/html/Phuong_Distillation-Based_Training_for_Multi-Exit_Architectures_ICCV_2019_paper.html).
MSDNet with L = (1 - C) CE of every exit + C T^2 KL to the last exit, held fixed; C 0.5,
scaled by 2 * 5 / K for K exits. The temperature grows by 1.05 a step while the
teacher's mean largest probability is over `sharpness`. Expected: at or above `msdnet`
at early exits, most with few examples.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.errors import UsageError
from sc_jax.losses.exits import ExitDistillation
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones.registry import those
from sc_jax.nets.exit_classifiers.gated import Softening
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"backbone": "msdnet_nano", "epochs": 0.01, "batch_size": 16}


def phuong(
    *,
    backbone: BackboneName = "msdnet_tiny",
    epochs: Epochs = 5.0,
    share: Annotated[
        float, Knob("of the distillation in the loss", at_least=0, at_most=1)
    ] = 0.5,
    sharpness: Annotated[
        float,
        Knob("largest probability that the teacher is kept under", above=0, at_most=1),
    ] = 0.5,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: labels for all exits, the last exit's answer for all others."""
    base = classifier(backbone=backbone, **shared)
    if not base.net.exits:
        raise UsageError(
            f"phuong softens the last exit, and {backbone} ends in logits of its own; "
            f"these end in an exit: {those(lambda each: each.features_only)}"
        )
    net = branches.branch(base)
    # The temperature belongs to who teaches, the last exit.
    last = replace(net.exits[-1], module=Softening(net.exits[-1].module, sharpness))
    net = replace(net, exits=(*net.exits[:-1], last))
    scale = 2 * 5 / len(net.exit_names)
    distilled = tuple(
        # None: the temperature that the teaching exit has come to.
        Term(ExitDistillation(name, tau=None), scale * share, f"{name}_taught")
        for name in net.exit_names[:-1]
    )
    hard = branches.joint(net, lambda i, n: scale * (1 - share))
    joint = branches.phase("joint", base, epochs, hard + distilled)
    setting = f"{backbone}, C={share}"
    return branches.finish(
        base, "phuong", "Phuong & Lampert", net, (joint,), setting=setting
    )
