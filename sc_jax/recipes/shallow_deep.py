"""Shallow-Deep Networks and PABEE for images: mixed pooling exits, weights by depth.

    python -m launch.train --recipe=shallow_deep

Kaya, Hong & Dumitras, ICML 2019 (https://proceedings.mlr.press/v97/kaya19a.html), whose
rule is a threshold on the largest probability (`rule=threshold`); Zhou et al., PABEE,
NeurIPS 2020 (https://arxiv.org/abs/2006.04152), whose rule is to leave when `patience`
exits in a row repeat an answer (`rule=patience`), so that patience + 1 exits run at
least. Both train all exits at once, here with PABEE's weights j / sum j (those of
Shallow-Deep grow over the epochs instead); with `frozen` only the exit classifiers,
over a network that stays as it is, as Zero Time Waste compares them. `after` cuts it
there: exits up to the cut are the device's, and what none answers is sent by
`compressor`, fitted to training images as of `unmodified`. Expected: within a
point of the whole network at 70 % of its cost or less by threshold; patience saves less
on few exits.
"""

from dataclasses import replace
from typing import Annotated, Literal, Unpack

from sc_jax.compressors import named
from sc_jax.nets.exit_classifiers.classifiers import MixedPool
from sc_jax.nets.net import cut_at
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Compressor, Epochs, Exits, PoolSide
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def shallow_deep(
    *,
    epochs: Epochs = 8.0,
    side: PoolSide = 4,
    exits: Exits = 0,
    rule: Annotated[
        Literal["threshold", "patience"], Knob("how an input leaves")
    ] = "threshold",
    patience: Annotated[
        int, Knob("exits in a row that must repeat an answer", at_least=1)
    ] = 1,
    frozen: Annotated[
        bool, Knob("train exit classifiers alone, on a trained network")
    ] = False,
    teacher_epochs: Epochs = 10.0,
    after: Annotated[
        str, Knob("last stage on the device, or group; empty: nothing is sent")
    ] = "",
    compressor: Compressor = "clipped:points=8",
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: cross-entropies of all exits, weighted by depth."""
    base = classifier(epochs=teacher_epochs, **shared)
    places = branches.spread(base, exits)
    net = branches.branch(base, lambda k, i: MixedPool(k, side), places)
    if after:
        net = cut_at(net, branches.standing(net, "after", after), named(compressor))
    weighted = branches.joint(net, branches.by_depth)
    # Fixed stages keep the whole network's accuracy as it was.
    trained = branches.exit_parts(net, base) if frozen else ("*",)
    joint = branches.phase("joint", base, epochs, weighted, trainable=trained)
    phases = (joint,) if epochs else ()  # none: of --init, or of a checkpoint
    recipe = branches.finish(base, "shallow_deep", "SDN/PABEE", net, phases)
    return replace(
        recipe,
        # A trained network to start from; else there is nothing to wait for.
        teacher=base if frozen else None,
        setting=rule
        + (", frozen" if frozen else "")
        + branches.said(exits)
        + (f", cut after {after}" if after else ""),
        policy=f"patience:patience={patience}" if rule == "patience" else rule,
    )
