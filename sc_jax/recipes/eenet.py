"""EENet: a scheduler learnt on recorded answers decides who leaves within a budget.

    python -m launch.train --recipe=eenet

Ilhan et al., WACV 2024 (https://arxiv.org/abs/2301.07099), beyond the survey. The
network is trained jointly (`frozen`: its exits alone, which compares schedulers on one
trained network); then, on the validation split, each exit's score (linear in its
probabilities, their maximum and entropy, the votes so far and the earlier scores) and
the exits' shares are fitted to a budget; thresholds follow from the shares in order of
score (exits/solve/eenet.py). Expected: at or above the largest probability at equal
budgets.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, Exits, ExitWidth
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def eenet(
    *,
    epochs: Epochs = 8.0,
    width: ExitWidth = 16,
    exits: Exits = 0,
    frozen: Annotated[
        bool, Knob("train exit classifiers alone, on a trained network")
    ] = False,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: the sum of all exits' cross-entropies; the scheduler comes after."""
    base = classifier(epochs=teacher_epochs, **shared)
    places = branches.spread(base, exits)
    net = branches.branch(base, lambda k, i: ConvClassifier(k, (width,)), places)
    trained = branches.exit_parts(net, base) if frozen else ("*",)
    terms = branches.joint(net)
    joint = branches.phase("joint", base, epochs, terms, trainable=trained)
    recipe = branches.finish(base, "eenet", "EENet", net, (joint,), policy="eenet")
    setting = f"{len(net.exits)} exits" + (", frozen" if frozen else "")
    return replace(recipe, teacher=base if frozen else None, setting=setting)
