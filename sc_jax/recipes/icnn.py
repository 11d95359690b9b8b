"""ICNN: small networks in a row, each sees one wavelet sub-band more of the image.

    python -m launch.train --recipe=icnn

Neshatpour et al., 2018 and 2019. Every stage classifies from its sub-band and the
features of the stage before; stop at an acceptable confidence. Pruning of classes at
run time and variable fixed-point width, which the later paper adds, are not here.
Expected: within a point of its own last stage at 70 % of its cost or less.
"""

from typing import Unpack

from sc_jax.config import Recipe
from sc_jax.nets.heads import PooledLinear
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone

TINY = {"epochs": 0.01, "batch_size": 16}


def icnn(
    *, backbone: str = "icnn", epochs: float = 8.0, **shared: Unpack[OfOneBackbone]
) -> Recipe:
    """One phase: the sum of all stages' cross-entropies."""
    base = classifier(backbone=backbone, **shared)
    net = branches.branch(base, lambda k, i: PooledLinear(k))
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    setting = f"{len(net.exit_names)} sub-bands"
    return branches.finish(base, "icnn", "ICNN", net, (joint,), setting=setting)
