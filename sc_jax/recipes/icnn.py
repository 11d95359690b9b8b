"""ICNN: small networks in a row, each sees one wavelet sub-band more of the image.

    python -m launch.train --recipe=icnn

Neshatpour et al., 2018 and ISQED 2019
(https://www.isqed.org/English/Archives/2019/Technical_Sessions/117.html). Every stage
classifies from its sub-band and the features of the stage before; an input leaves at an
acceptable confidence. With `keep`, a stage answers only with that many of the likeliest
classes of the one before (the later paper's pruning by context; reconstruction).
Variable fixed-point width is not here. Expected: within a point of its own last stage
at 70 % of its cost or less.
"""

from typing import Annotated, Unpack

import flax.linen as nn

from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.exit_classifiers.gated import Identity, Pruned
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import OfOneBackbone
from sc_jax.recipes.knobs import BackboneName, Epochs
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "batch_size": 16}


def icnn(
    *,
    backbone: BackboneName = "icnn",
    epochs: Epochs = 8.0,
    keep: Annotated[
        int | None, Knob("likeliest classes that a stage keeps; None: all", at_least=1)
    ] = None,
    **shared: Unpack[OfOneBackbone],
) -> Recipe:
    """One phase: the sum of all stages' cross-entropies; keep=None: all classes."""
    base = classifier(backbone=backbone, **shared)

    def pruned(classifier: nn.Module) -> nn.Module:
        return classifier if keep is None else Pruned(classifier, keep)

    # The network's own logits are pruned too, or a class could come back at the end.
    last = None if keep is None else pruned(Identity())
    net = branches.branch(base, lambda k, i: pruned(PooledLinear(k)), last=last)
    joint = branches.phase("joint", base, epochs, branches.joint(net))
    setting = f"{len(net.exit_names)} sub-bands" + (f", keep={keep}" if keep else "")
    return branches.finish(base, "icnn", "ICNN", net, (joint,), setting=setting)
