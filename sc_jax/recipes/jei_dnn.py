"""JEI-DNN: exit classifiers and gates trained for where inputs will leave.

    python -m launch.train --recipe=jei_dnn

Regol, Chataoui & Coates, ICLR 2024 (https://arxiv.org/abs/2310.09163), beyond the
survey. The classifier is the teacher and stays as it is. A gate at each exit, linear in
four uncertainties of its logits (the fourth of the squared softmax), learns to leave at
or after the exit of least cross-entropy + price * cost; each exit classifier learns by
P(exit) = max(0, min(g, 1 - the sum of earlier g)). Warm-up weights fall with depth.
Theirs differ so: classifiers and gates take turns over a few batches, here they learn
in the same steps with no gradient between; cost there is the exit's number over all,
here its MACs; balance there is of right and wrong over all gates at once, here of each;
and the released loss divides by the sum of its weights within the gradient, which
undoes them. Expected: beside `zero_time_waste`, its gates better than the largest
probability at equal cost.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.losses.gates import GatedCrossEntropy, GateTarget
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.classifiers import MixedPool
from sc_jax.nets.exit_classifiers.gated import Gated
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, Exits, PoolSide
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"warm_epochs": 0.01, "epochs": 0.01, "teacher_epochs": 0.01, "batch_size": 16}


def jei_dnn(
    *,
    warm_epochs: Epochs = 3.0,
    epochs: Epochs = 4.0,
    price: Annotated[
        float, Knob("of the whole cost, in nats of cross-entropy", at_least=0)
    ] = 0.5,
    side: PoolSide = 4,
    exits: Exits = 0,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """Two phases over frozen stages: exit classifiers alone, then gates too."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    places = branches.spread(teacher, exits)
    net = branches.branch(teacher, lambda k, i: Gated(MixedPool(k, side)), places)
    # Gates included: what deciding costs is part of the price.
    costs = branches.shares_of(net, teacher)
    only = {"trainable": branches.exit_parts(net, teacher)}
    # Early exits most: gates that find them useless would never train them.
    warm = branches.joint(net, lambda i, n: float(n - i))
    both = (
        Term(GatedCrossEntropy(net.exit_names), name="gated"),
        Term(GateTarget(net.exit_names, costs, price), name="gates"),
    )
    phases = (
        branches.phase("warm", teacher, warm_epochs, warm, **only),
        branches.phase("gates", teacher, epochs, both, **only),
    )
    recipe = branches.finish(teacher, "jei_dnn", "JEI-DNN", net, phases)
    policy = "threshold:score=confidence"
    return replace(
        recipe,
        teacher=teacher,
        setting=f"price={price}" + branches.said(exits),
        policy=policy,
    )
