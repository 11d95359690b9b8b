"""BranchyNet: convolutional branches on a trained network, trained jointly.

    python -m launch.train --recipe=branchynet

Teerapittayanon, McDanel & Kung, ICPR 2016 (https://arxiv.org/abs/1709.01686). The
backbone is trained first, then all exits together (survey Eq. 8); an input leaves where
the entropy of its softmax, in nats, is under a threshold. Earlier branches are the
deeper ones. Published: Adam 1e-3; on AlexNet with two branches weights of 1.0 early and
0.3 last gained 1 % over equal ones (`last_weight=0.3`); 79.19 % at 1.5 x the speed of
78.38 %. Expected: within a point of the whole network at 70 % of its cost or less.
"""

from typing import Annotated, Unpack

from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.classifiers import ConvClassifier
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, ExitWidth
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"backbone_epochs": 0.01, "epochs": 0.01, "batch_size": 16}


def branchynet(
    *,
    backbone_epochs: Epochs = 4.0,
    epochs: Epochs = 5.0,
    width: ExitWidth = 16,
    last_weight: Annotated[
        float, Knob("of the last exit, the others have 1", at_least=0)
    ] = 1.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """Two phases: cross-entropy of the last exit, then of all by their weights."""
    base = classifier(**shared)
    net = branches.branch(
        # Deeper at the first exit, whose features are the least processed.
        base,
        lambda k, i: ConvClassifier(k, (width, width) if i == 0 else (width,)),
    )
    weights = lambda i, n: last_weight if i == n - 1 else 1.0  # noqa: E731
    alone = (Term(CrossEntropy(), name="final"),)
    phases = (
        branches.phase(
            "backbone", base, backbone_epochs, alone, trainable=base.net.parts
        ),
        branches.phase("joint", base, epochs, branches.joint(net, weights)),
    )
    setting = f"{len(net.exits)} branches"
    return branches.finish(
        base,
        "branchynet",
        "BranchyNet",
        net,
        phases,
        setting=setting,
        policy="threshold:score=entropy",
    )
