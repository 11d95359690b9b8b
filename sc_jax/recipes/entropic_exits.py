"""Exits around a learned bottleneck: on the device before it, on the server behind it.

    python -m launch.train --recipe=entropic_exits

Exits and compressors are parts of one network, so they compose: an Entropic Student
(Matsubara et al. 2022, https://arxiv.org/abs/2108.11898) with an exit on its encoder,
whose inputs never travel, and exits among the server's stages. Stage 1 is the Entropic
Student's own; stage 2 freezes encoder and prior and trains the rest and all exits by
labels and the teacher's answers. Expected: fewer bytes and fewer MACs an input than the
Entropic Student at its accuracy.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.errors import UsageError
from sc_jax.losses.distillation import KnowledgeDistillation
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.nets.net import Exit
from sc_jax.recipes import branches
from sc_jax.recipes.common import Shared
from sc_jax.recipes.entropic_student import entropic_student
from sc_jax.recipes.knobs import Beta, Epochs, ExitWidth
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"stage1_epochs": 0.01, "stage2_epochs": 0.01, "teacher_epochs": 0.01}


def entropic_exits(
    *,
    beta: Beta = 0.00015,
    stage1_epochs: Epochs = 8.0,
    stage2_epochs: Epochs = 6.0,
    teacher_epochs: Epochs = 10.0,
    width: ExitWidth = 16,
    server: Annotated[str, Knob("stage or group of the server's exit")] = "layer2",
    **shared: Unpack[Shared],
) -> Recipe:
    """The Entropic Student's two phases, with exits in the second."""
    student = entropic_student(
        beta=beta,
        stage1_epochs=stage1_epochs,
        stage2_epochs=stage2_epochs,
        teacher_epochs=teacher_epochs,
        **shared,
    )
    if len(student.phases) < 2:
        raise UsageError("entropic_exits takes epochs above 0 in both stages")
    classes = branches.classes_of(student)
    places = ("encoder", branches.standing(student.net, "server", server))
    exits = tuple(Exit(place, ConvClassifier(classes, (width,))) for place in places)
    net = replace(student.net, exits=exits)
    # Exits come with the second phase: the first trains the bottleneck alone.
    hints, distil = student.phases
    losses = [(name, KnowledgeDistillation(0.5, 1.0, name)) for name in net.exit_names]
    terms = tuple(Term(loss, name=name) for name, loss in losses)
    trainable = (*distil.trainable, *branches.exit_parts(net))
    stage2 = replace(distil, terms=terms, trainable=trainable)
    return branches.finish(
        student, "entropic_exits", "Entropic exits", net, (hints, stage2)
    )
