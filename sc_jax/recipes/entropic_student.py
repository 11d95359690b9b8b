"""Entropic Student: supervised compression for split computing.

    python -m launch.train --recipe=entropic_student

Matsubara et al., WACV 2022 (https://arxiv.org/abs/2108.11898); SC2 benchmark, TMLR 2023
(https://arxiv.org/abs/2203.08875). Stage 1 distils the teacher's features through the
bottleneck under a rate of weight beta; stage 2 freezes encoder and prior and trains the
rest on 0.5 cross-entropy + 0.5 KL, temperature 1; with alpha=0 on the KL alone, which
needs no labels (data=photos:PATH). As published, hints are sums over a
feature (`over=sum,stage1_rate=0.001`) with beta in BETAS for ResNet-50 on ImageNet,
Adam x0.1 at half and four fifths (--set=phases.stage1.optimiser.schedule=step), and
stage 2 is SGD 1e-3. The defaults are for minutes on small images: means over each
feature, a beta to that scale, a higher rate, Adam on a cosine in both stages, and the
pair's small form (nets/bottlenecks/fp.py). `shallow_epochs` come before: the hint at
the bottleneck alone (Furutanpey et al. 2024, https://arxiv.org/abs/2302.10681), squares
of `window` pixels, beta from 0 up: no rate silences what has not learnt. `logits`
weighs the divergence from the teacher's answers beside the hints. `rates`: of one
network, beta in their middle. pair=projection keeps the teacher's stages to `after` on
the device (as BottleNet++, Shao & Zhang 2020, https://arxiv.org/abs/1910.14315).
Expected: within a point of its teacher at a third of WebP's bytes; fewer by context=8.
"""

from dataclasses import replace
from typing import Unpack

from sc_jax.compressors.variable_rate import prior_of
from sc_jax.losses.distillation import KnowledgeDistillation
from sc_jax.losses.rate import Rate
from sc_jax.losses.terms import Term
from sc_jax.recipes import common, knobs
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.train.recipe import Optimiser, Phase, Recipe

TINY = {"stage1_epochs": 0.01, "stage2_epochs": 0.01, "teacher_epochs": 0.01}
BETAS = (0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)


def entropic_student(
    *,
    beta: knobs.Beta = 0.00015,
    channels: knobs.Channels = 12,
    rates: knobs.Rates = 1,
    pair: knobs.Pair = "fp",
    after: knobs.After = "",
    shallow_epochs: knobs.Epochs = 0.0,
    window: knobs.Crop = 0,
    stage1_epochs: knobs.Epochs = 20.0,
    stage2_epochs: knobs.Epochs = 12.0,
    teacher_epochs: knobs.Epochs = 10.0,
    alpha: knobs.TeacherShare = 0.5,
    logits: knobs.Logits = 0.0,
    stage1_rate: knobs.LearningRate = 3e-3,
    stage2_rate: knobs.LearningRate = 1e-3,
    over: knobs.Over = "mean",
    **shared: Unpack[Shared],
) -> Recipe:
    """Hints at the bottleneck and all later groups + beta bits, then distillation."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    net = common.student(teacher, pair, channels, prior_of(rates), after)
    cut, *later = common.hints(teacher, pair, over=over, after=after)
    answers = Term(KnowledgeDistillation(0.0, 1.0), weight=logits, name="logits")
    distortion = (cut, *later, answers) if logits else (cut, *later)
    stage1 = Phase(
        "stage1",
        common.steps(teacher.data, stage1_epochs),
        (*distortion, Term(Rate(), weight=beta, name="bits")),
        trainable=("encoder", "split@encoder", "decoder"),
        optimiser=Optimiser("adam", stage1_rate, "cosine"),
        reduction="sum",
    )
    shallow = common.shallow(stage1, cut, teacher.data, shallow_epochs, window)
    stage2 = Phase(
        "stage2",
        common.steps(teacher.data, stage2_epochs),
        (Term(KnowledgeDistillation(alpha, 1.0), name="distillation"),),
        trainable=("decoder", *common.after_bottleneck(net)),
        optimiser=Optimiser("adam", stage2_rate, "cosine"),
    )
    epochs = shallow_epochs, stage1_epochs, stage2_epochs
    setting = f"beta={beta}" if pair == "fp" else f"{pair}, beta={beta}"
    return replace(
        teacher,
        name="entropic_student",
        title="Entropic Student" + (f", {rates} rates" if rates > 1 else ""),
        net=net,
        phases=tuple(p for p, n in zip((shallow, stage1, stage2), epochs) if n),
        teacher=teacher,
        setting=setting + (f", logits={logits}" if logits else ""),
    )
