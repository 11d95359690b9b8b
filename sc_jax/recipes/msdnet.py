"""MSDNet: features of all scales at every depth, so that early exits see coarse ones.

    python -m launch.train --recipe=msdnet

Huang et al., ICLR 2018 (https://arxiv.org/abs/1703.09844). Plain sum of the exits'
cross-entropies; leave by the largest probability, thresholds from geometric shares.
Published: SGD 0.1, batch 64, 300 epochs on CIFAR (`backbone=msdnet`; optimiser by
--set=phases.joint.optimiser...); ImageNet, five exits: 62.90/70.32/73.00/73.59/74.59 %
at 616/1436/2283/2967/3254 MMACs (authors' repository). Expected: above exits on a plain
network at low budgets.
"""

from typing import Unpack

from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.train.recipe import Recipe

TINY = {"backbone": "msdnet_nano", "epochs": 0.01, "batch_size": 16}


def msdnet(
    *,
    backbone: BackboneName = "msdnet_tiny",
    epochs: Epochs = 5.0,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: the sum of all exits' cross-entropies."""
    base = classifier(backbone=backbone, **shared)
    net = branches.branch(base)
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    return branches.finish(base, "msdnet", "MSDNet", net, (joint,), setting=backbone)
