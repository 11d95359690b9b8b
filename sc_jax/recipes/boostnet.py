"""BoostNet: each exit learns what the sum of the exits before it leaves.

    python -m launch.train --recipe=boostnet

Yu et al., AAAI 2023 (https://arxiv.org/abs/2211.16726), beyond the survey. The logits
of exit n are its own plus `scale` times those of the exit before, held fixed; gradient
equilibrium in the trunk. Of the paper's extras (a weight decay for each exit,
reweighting of the temperature) none is here. Expected: at or above `msdnet`, most at
late exits.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.nets.exit_classifiers.classifiers import Boosted
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"backbone": "msdnet_nano", "epochs": 0.01, "batch_size": 16}


def boostnet(
    *,
    backbone: BackboneName = "msdnet_tiny",
    epochs: Epochs = 5.0,
    scale: Annotated[float, Knob("of the logits of the exit before", at_least=0)] = 1.0,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: cross-entropy of boosted sums, gradients in equilibrium."""
    base = classifier(backbone=backbone, **shared)
    plain = branches.branch(base)
    # The first too: it has nothing before it and adds nothing.
    boosted = [replace(e, module=Boosted(e.module, scale)) for e in plain.exits]
    net = replace(plain, exits=tuple(boosted))
    joint = branches.phase(
        "joint", base, epochs, branches.joint(net), gradients="equilibrium"
    )
    setting = f"{backbone}, scale={scale}"
    return branches.finish(base, "boostnet", "BoostNet", net, (joint,), setting=setting)
