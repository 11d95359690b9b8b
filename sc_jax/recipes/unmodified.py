"""A network as it is, cut after a stage, its activations compressed without training.

    python -m launch.train --recipe=unmodified:after=layer1,compressor=clipped:points=8
    python -m launch.train --recipe=unmodified:after=layer2,compressor=tiled:bits=4

`pretrained=FILE` and `teacher_epochs=0` take a public checkpoint as it is.
Split computing without network modification (Matsubara et al. 2022,
https://arxiv.org/abs/2103.04505, section 4.1): Choi and Bajić 2018
(https://arxiv.org/abs/1802.03931) is `compressor=tiled`, Cohen et al. 2020
(https://arxiv.org/abs/2105.06002) `clipped`, Sung et al. 2025 `slicer`
(https://arxiv.org/abs/2511.11608) and `csr` (https://arxiv.org/abs/2511.11664);
`affine` and `top_k` need no training either. What a compressor takes from activations
(clip range, points, tables) is solved from training images at the end. Expected: the
teacher's accuracy at 8 bits a value of `affine`; MobileNetV2 at 224 pixels within a
point of its own after `layer4.0` by `clipped:points=5` and --set=context=8, 1.3 bits a
value, 2.1 kB. Where the cut is early that is more than an image file: which cut pays
is for a planner.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.compressors import named
from sc_jax.nets.net import SplitPoint, resolve
from sc_jax.recipes import common
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Compressor, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"teacher_epochs": 0.01, "batch_size": 16}


def unmodified(
    *,
    after: Annotated[
        str, Knob("last stage on the device, or group; empty: where bottlenecks end")
    ] = "",
    compressor: Compressor = "clipped:points=8",
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """The classifier with one split; no phase."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    place = resolve(teacher.net, after or common.bottlenecked(teacher).cut or "")
    split = SplitPoint(place, named(compressor))
    return replace(
        teacher,
        name="unmodified",
        title="Unmodified",
        net=replace(teacher.net, splits=(split,)),
        phases=(),
        teacher=teacher,
        setting=f"{compressor} after {place}",
    )
