"""RANet: easy inputs leave from a low resolution, hard ones go on to a higher one.

    python -m launch.train --recipe=ranet

Yang et al., CVPR 2020 (https://arxiv.org/abs/2003.07326). Sub-networks at growing
resolution, each fed with the features of the one before; plain sum of the exits'
cross-entropies, thresholds as MSDNet's. Published schedule: MSDNet's (SGD 0.1, batch
64, 300 epochs on CIFAR); its accuracies stand only in plots. Expected: beside MSDNet,
ahead at the lowest budgets.
"""

from typing import Unpack

from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.train.recipe import Recipe

TINY = {"backbone": "ranet_nano", "epochs": 0.01, "batch_size": 16}


def ranet(
    *,
    backbone: BackboneName = "ranet_tiny",
    epochs: Epochs = 5.0,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: the sum of all exits' cross-entropies."""
    base = classifier(backbone=backbone, **shared)
    net = branches.branch(base)
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    return branches.finish(base, "ranet", "RANet", net, (joint,), setting=backbone)
