"""IMTA: MSDNet by gradient equilibrium, then exits that help and teach each other.

    python -m launch.train --recipe=imta

Li et al., ICCV 2019 (https://arxiv.org/abs/1908.06294). The teacher is MSDNet trained
under gradient equilibrium (every trunk parameter gets the mean of the later exits'
gradients). Then its trunk is frozen; its exit classifiers go on, each now reading the
logits of the one before too (inline subnetwork collaboration), from labels and the
teacher's last exit (one-for-all distillation): L = CE of the last + sum (1 - gamma) CE
+ gamma T^2 KL, gamma 0.1, T 1 on ImageNet; KL is summed over classes, in the authors'
code their mean, a K times weaker term. Expected: at or above `msdnet` at every exit.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.errors import UsageError
from sc_jax.losses.distillation import KnowledgeDistillation
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones import registry
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.exit_classifiers.classifiers import MSDNetClassifier
from sc_jax.nets.net import FINAL
from sc_jax.recipes import branches
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs, Temperature
from sc_jax.recipes.msdnet import msdnet
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"backbone": "msdnet_nano", "epochs": 0.01, "teacher_epochs": 0.01}
TINY |= {"batch_size": 16}


def imta(
    *,
    backbone: BackboneName = "msdnet_tiny",
    epochs: Epochs = 2.0,
    gamma: Annotated[
        float, Knob("share of the teacher in the loss", at_least=0, at_most=1)
    ] = 0.1,
    tau: Temperature = 1.0,
    link: Annotated[
        int, Knob("features of what an exit hands to the next", at_least=1)
    ] = 32,
    teacher_epochs: Epochs = 4.0,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """A teacher under gradient equilibrium, then a phase of linked exit classifiers."""
    if not _has_links(registry.backbone(backbone)):
        raise UsageError(
            f"imta links exit classifiers of MSDNet, not of {backbone}; these have "
            f"them: {registry.those(_has_links)}"
        )
    base = msdnet(backbone=backbone, epochs=teacher_epochs, **shared)
    met = replace(base.phases[0], gradients="equilibrium")
    teacher = replace(base, phases=(met,))
    # The same parameter names and wider: the teacher's weights can be taken over.
    linked = [replace(e, module=e.module.clone(link=link)) for e in base.net.exits]
    net = replace(base.net, exits=tuple(linked))
    early = [
        # Their gamma weighs the teacher, alpha here the labels.
        Term(KnowledgeDistillation(1 - gamma, tau, name), name=name)
        for name in net.exit_names[:-1]
    ]
    # The last exit has no better one to learn from.
    terms = (*early, Term(CrossEntropy(), name=FINAL))
    phase = branches.phase(
        "exit_classifiers", base, epochs, terms, trainable=branches.exit_parts(net)
    )
    setting = f"{backbone}, gamma={gamma}"
    recipe = branches.finish(base, "imta", "IMTA", net, (phase,), setting=setting)
    return replace(recipe, teacher=teacher)


def _has_links(backbone: Backbone) -> bool:
    return isinstance(backbone.classifier(2), MSDNetClassifier)
