"""Authentic operation: one exit on the device, a threshold for each class it predicts.

    python -m launch.train --recipe=lo

Lo et al., ICCD 2017, NiN, ResNet and WRN on CIFAR
(https://doi.org/10.1109/ICCD.2017.49). Exit and network are trained jointly; on
held-out data each class gets its own threshold; who fails is sent to the server.
Reconstruction: the threshold of a class is the `quantile` of the scores of its wrong
answers, since the paper's fit could not be read; plan/ has the table that picks the
exit's depth by the state of the channel. Published: up to 17 % fewer transmissions at
equal accuracy. Expected: within a point of the whole network at 70 % of its cost.
"""

from typing import Annotated, Unpack

from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, ExitWidth, Place
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def lo(
    *,
    epochs: Epochs = 8.0,
    place: Place = "layer1",
    width: ExitWidth = 16,
    quantile: Annotated[
        float,
        Knob("of wrong answers' scores, a class's threshold", at_least=0, at_most=1),
    ] = 0.6,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase: cross-entropies of the device's exit and of the whole network."""
    base = classifier(**shared)
    places = (branches.standing(base.net, "place", place),)
    net = branches.branch(base, lambda k, i: ConvClassifier(k, (width,)), places)
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    return branches.finish(
        base,
        "lo",
        "Authentic operation",
        net,
        (joint,),
        setting=f"exit after {place}",
        policy=f"per_class:quantile={quantile}",
    )
