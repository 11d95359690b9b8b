"""What the PyTorch peer of the Entropic Student reads: a finished run, as arrays."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError, unknown
from sc_jax.losses.distillation import Hint, KnowledgeDistillation
from sc_jax.nets.bottlenecks.fp import FPEncoder
from sc_jax.nets.net import FINAL
from sc_jax.nets.run import Variables, run
from sc_jax.runs import run_folder
from sc_jax.runs.sweep import TEACHER
from sc_jax.train.optimisers import Optimiser
from sc_jax.train.recipe import Phase, Recipe

BACKBONES = ("resnet20", "resnet32", "resnet56", "resnet110")  # three groups
CHECKED = 32  # test images whose logits both sides compare
AUGMENTATIONS = ("none", "flip", "crop_flip")  # that the peer has
# https://github.com/yoshitomo-matsubara/sc2-benchmark, configs/ilsvrc2012/
# supervised_compression/entropic_student: milestones 5 and 8 of 10 epochs, then 5.
PUBLISHED = (
    Optimiser("adam", 1e-3, "step", (0.5, 0.8)),
    Optimiser("sgd", 1e-3, "step", (0.5,), weight_decay=5e-4, nesterov=False),
)
SETTINGS = ("published", "ours")


class Run(NamedTuple):
    """One run of several that differ in beta alone; betas: on the scale of ours."""

    recipe: Recipe
    teacher: Variables
    train: Dataset
    test: Dataset
    betas: tuple[float, ...]


def points(folders: list[str]) -> list[Path]:
    """Finished runs: the folders themselves, or those of a sweep; UsageError."""
    found: list[Path] = []
    for folder in map(Path, folders):
        if (folder / run_folder.FILE).exists():
            found.append(folder)
            continue
        inside = sorted(file.parent for file in folder.glob(f"*/{run_folder.FILE}"))
        inside = [each for each in inside if each.name != TEACHER]
        if not inside:
            raise UsageError(f"{folder} holds no run of launch.train, and no sweep")
        found += [each for each in inside if run_folder.is_finished(each)]
    if not found:
        raise UsageError(f"{', '.join(folders)}: no run is finished yet")
    return found


def of_points(found: list[Path], betas: list[str], limit_test: int = 0) -> Run:
    """UsageError unless the runs share data, seed, steps, teacher and a fit backbone.

    betas: empty for those of the runs. limit_test: so many test images, 0 is all.
    """
    recipes = [run_folder.recipe_of(folder) for folder in found]
    first, folder = recipes[0], run_folder.teacher_of(found[0])
    for recipe, place in zip(recipes, found):
        if not _is_fit(recipe):
            raise UsageError(
                f"{place}: the peer is of entropic_student with two stages, pair=fp "
                "and backbone=resnet20, resnet32, resnet56 or resnet110"
            )
        if _shared(recipe) != _shared(first):
            raise UsageError(f"{place} has other data or steps than {found[0]}")
        if run_folder.teacher_of(place).resolve() != folder.resolve():
            raise UsageError(f"{place} has another teacher than {found[0]}")
    assert first.teacher is not None
    if first.data.augment not in AUGMENTATIONS:
        raise unknown("augmentation of the peer", first.data.augment, AUGMENTATIONS)
    train, test = (run_folder.dataset_of(first, part) for part in ("train", "test"))
    if not (train.in_memory and test.in_memory and train.shape[-1] == 3):
        raise UsageError(f"{train.name}: the peer takes colour images of one size")
    variables, _ = run_folder.restore(first.teacher, folder)
    own = tuple(dict.fromkeys(_weight(r.phases[-2], "bits") for r in recipes))
    if limit_test:  # evenly: folders come sorted by class
        rows = np.linspace(0, len(test) - 1, min(limit_test, len(test)))
        test = test.take(rows.astype(int))
    try:
        return Run(first, variables, train, test, tuple(map(float, betas)) or own)
    except ValueError:
        raise UsageError(f"betas are numbers, not {','.join(betas)}") from None


def _is_fit(recipe: Recipe) -> bool:
    if recipe.name != "entropic_student" or len(recipe.phases) < 2:
        return False
    pair = any(isinstance(stage.module, FPEncoder) for stage in recipe.net.stages)
    return pair and recipe.backbone in BACKBONES


def _shared(recipe: Recipe) -> Any:
    return recipe.data, recipe.seed, [(p.name, p.steps) for p in recipe.phases]


def _weight(phase: Phase, name: str) -> float:
    found: Any = next((t.weight for t in phase.terms if t.name == name), 0.0)
    return float(found)


def case(run_: Run, name: str, threads: int = 1, limit_steps: int = 0) -> dict:
    """Arrays for the peer by name: weights as "params/stem/Conv_0/kernel", images.

    name: of SETTINGS. Learning rates are given step by step, so that both sides have
    the schedules of one implementation. limit_steps: of each stage, 0 is the run's.
    """
    if name not in SETTINGS:
        raise unknown("setting", name, SETTINGS)
    recipe, test, train = run_.recipe, run_.test, run_.train
    stages = [phase.optimiser for phase in recipe.phases]
    if name == "published":
        # What comes before the last phase is its first stage, however divided.
        stages = list(PUBLISHED)
    elif len(stages) != 2:
        names = ", ".join(phase.name for phase in recipe.phases)
        raise UsageError(f"settings=ours takes runs of two phases, not of {names}")
    counts = sum(p.steps for p in recipe.phases[:-1]), recipe.phases[-1].steps
    counts = [min(n, limit_steps or n) for n in counts]
    rates = [
        np.asarray(jax.vmap(stage.rate(n))(jnp.arange(n)), np.float32)
        for stage, n in zip(stages, counts)
    ]
    some = np.stack([test.image(i) for i in range(min(CHECKED, len(test)))])
    assert recipe.teacher is not None
    out, _ = run(recipe.teacher.net, run_.teacher, some)
    settings = settings_of(recipe, name, run_.betas, test.shape)
    settings |= {"stages": [asdict(s) for s in stages], "threads": threads}
    return {
        **flat(run_.teacher),
        "logits": np.asarray(out.predictions[FINAL]),
        "images": train.images,
        "labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
        "rates1": rates[0],
        "rates2": rates[1],
        "settings": np.array(json.dumps(settings)),
    }


def flat(variables: Variables) -> dict[str, np.ndarray]:
    """Every leaf by its path: "state/stem/batch_stats/BatchNorm_0/mean"."""
    leaves = jax.tree_util.tree_flatten_with_path(variables._asdict())[0]
    return {
        "/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves
    }


def settings_of(
    recipe: Recipe, name: str, betas: tuple[float, ...], shape: tuple[int, ...]
) -> dict[str, Any]:
    """What the peer's Student takes, but for its optimisers; shape: of an image."""
    modules: dict[str, Any] = {stage.name: stage.module for stage in recipe.net.stages}
    encoder, decoder = modules["encoder"], modules["decoder"]
    stage1, stage2 = recipe.phases[-2:]
    hints = [term.loss for term in stage1.terms if isinstance(term.loss, Hint)]
    cut, *later = [hint.teacher.partition(".")[0] for hint in hints]
    over, logits, scale, alpha = hints[0].over, _weight(stage1, "logits"), 1.0, 0.5
    if name == "ours":
        losses = [t.loss for t in stage2.terms]
        alpha = next(s.alpha for s in losses if isinstance(s, KnowledgeDistillation))
    else:
        side = shape[0] // int(np.prod(encoder.strides))
        scale = side**2 * decoder.target if over == "mean" else 1.0
        over, logits = "sum", 0.0
    normalise = modules["normalise"]
    return {
        "name": name,
        "betas": [float(f"{beta * scale:.4g}") for beta in betas],
        "over": over,
        "logits": logits,
        "alpha": alpha,
        "cut": cut,
        "later": later,
        "channels": encoder.channels,
        "target": decoder.target,
        "strides": list(encoder.strides),
        "mean": list(normalise.mean),
        "std": list(normalise.std),
        "batch_size": recipe.data.batch_size,
        "augment": recipe.data.augment,
        "seed": recipe.seed,
    }
