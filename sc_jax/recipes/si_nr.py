"""SI-NR: a network trained for a link that loses packets and sends none again.

    python -m launch.train --recipe=si_nr:rate=0.5,after=layer1

Itahara, Nishio and Yamamoto 2021 (https://arxiv.org/abs/2104.13629): dropout at the cut
stands for the loss of packets while the whole network is trained (VGG-16 on CIFAR-10
there), so that at run time what is lost is left out, what arrives is scaled by
1/(1 - p) and no retransmission adds a delay. Values are sent in `bits` each: a lost
packet takes its own values only. Reports are of a link that loses nothing; what a loss
costs, against a network trained without: `python -m benchmarks.methods.unmodified
--run=RUN --cuts=layer1 --compressors=affine:bits=8+loss=0.6`. Expected: above the plain
classifier under the same loss, and about its accuracy without one.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.compressors import Affine, Erasure, OverChannel
from sc_jax.nets.net import SplitPoint, resolve
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Bits, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def si_nr(
    *,
    rate: Annotated[float, Knob("packets lost in training", at_least=0, below=1)] = 0.5,
    packet: Annotated[int, Knob("values of a packet", at_least=1)] = 1,
    after: Annotated[
        str, Knob("last stage on the device, or group; empty: where bottlenecks end")
    ] = "",
    bits: Bits = 8,
    epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """The classifier's own phase, through a split whose channel erases."""
    base = classifier(epochs=epochs, **shared)
    place = resolve(base.net, after or common.bottlenecked(base).cut or "")
    channel = OverChannel(Affine(bits), Erasure(rate, packet))
    return replace(
        base,
        name="si_nr",
        title="SI-NR",
        net=replace(base.net, splits=(SplitPoint(place, channel),)),
        setting=f"rate={rate}",
    )
