"""DDNN: several devices, an edge and a cloud, each with an exit of its own.

    python -m launch.train --recipe=ddnn

Teerapittayanon, McDanel & Kung, ICDCS 2017 (https://arxiv.org/abs/1709.01921). Each
device sees a view (here a crop of one image), runs binary layers and sends them up; the
local exit joins the devices' class vectors, the edge and the cloud join features. All
exits are trained together with equal weights; leave where the entropy of the softmax
over ln K is low. Bytes of a device: plan/transferred_bytes.py. Published on six
cameras: overall 97 % with 61 % leaving locally at a threshold of 0.8. Expected: within
a point of the cloud at 70 % of its cost or less.
"""

from typing import Annotated, Literal, Unpack

from sc_jax.nets.backbones.multiview import DevicesClassifier
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def ddnn(
    *,
    backbone: BackboneName = "ddnn",
    epochs: Epochs = 8.0,
    local: Annotated[
        Literal["max", "mean", "concat"], Knob("how the devices' answers are joined")
    ] = "max",
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: the sum of the cross-entropies of local, edge and cloud exits."""
    base = classifier(backbone=backbone, **shared)
    net = branches.branch(
        # Only the first exit stands on the devices, before their features are joined.
        base,
        lambda k, i: DevicesClassifier(k, local) if i == 0 else PooledLinear(k),
    )
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    return branches.finish(
        base,
        "ddnn",
        "DDNN",
        net,
        (joint,),
        setting=f"local {local}",
        policy="threshold:score=normalised_entropy",
    )
