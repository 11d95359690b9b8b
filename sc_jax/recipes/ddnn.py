"""DDNN: several devices, an edge and a cloud, each with an exit of its own.

    python -m launch.train --recipe=ddnn

Teerapittayanon, McDanel & Kung, ICDCS 2017 (https://arxiv.org/abs/1709.01921). Each
device sees a view (here a crop of one image), runs binary layers and sends them up; the
local exit joins the devices' class vectors, the edge and the cloud join features. All
exits are trained together with equal weights; leave where the entropy of the softmax
over ln K is low. Bytes of a device: plan/transferred_bytes.py; with `edge_bits=4` the
net has two splits, to be served on three tiers (docs/deployment.md), and its bytes are
measured. Published on six cameras: overall 97 % with 61 % leaving locally at 0.8.
Expected: within a point of the cloud at 70 % of its cost or less.
"""

from typing import Annotated, Literal, Unpack

from sc_jax.compressors import Affine, Clipped
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.multiview import DevicesClassifier, OnDevices
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import Net, cut_at
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
    edge_bits: Annotated[
        int,
        Knob(
            "a value that the edge sends to the cloud; 0: nothing is coded", at_least=0
        ),
    ] = 0,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: the sum of the cross-entropies of local, edge and cloud exits."""
    base = classifier(backbone=backbone, **shared)
    net = branches.branch(
        # Only the first exit stands on the devices, before their features are joined.
        base,
        lambda k, i: DevicesClassifier(k, local) if i == 0 else PooledLinear(k),
    )
    if edge_bits:
        net = _split(net, edge_bits)
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    return branches.finish(
        base,
        "ddnn",
        "DDNN",
        net,
        (joint,),
        setting=f"local {local}" + (f", edge_bits {edge_bits}" if edge_bits else ""),
        policy="threshold:score=normalised_entropy",
    )


def _split(net: Net, edge_bits: int) -> Net:
    """Splits behind the devices and behind the edge.

    Devices that are binary send +1 or -1 as they are, a bit a value or less as a table
    of each channel says; those that are float 8 bits.
    """
    devices = [s.module for s in net.stages if isinstance(s.module, OnDevices)]
    if not devices:
        raise UsageError("edge_bits splits a net of several devices: backbone=ddnn")
    sent = Clipped(points=2) if devices[-1].binary else Affine(8)
    return cut_at(cut_at(net, "device", sent), "edge", Affine(edge_bits))
