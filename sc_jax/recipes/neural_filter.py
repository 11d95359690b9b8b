"""Neural filter: a small network says on the device that nothing of interest is there.

    python -m launch.train \\
        --recipe=neural_filter:data=only:5+7+9:fashion_mnist_12k

Matsubara & Levorato, ICPR 2020 (https://arxiv.org/abs/2007.15818), whose filter stops
images without a person before a detector; this is its classification form. Inputs of
the class `negative` are of no interest, above all but three kinds of shoes; the filter
after `place` learns negative or not over the frozen classifier, and its threshold is
the one that stops most while the wanted `recall` of all others goes on. Published: SGD
1e-3, 30 epochs, ROC-AUC 0.919 for people (quoted at second hand). Expected: most of the
negative class stops there.
"""

from dataclasses import replace
from typing import Annotated, Unpack

from sc_jax.errors import UsageError
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.exit_classifiers.gated import Filter
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.knobs import Epochs, Place
from sc_jax.spec import Knob
from sc_jax.train.recipe import Recipe

TINY = {"epochs": 0.01, "teacher_epochs": 0.01, "batch_size": 16}


def neural_filter(
    *,
    negative: Annotated[int, Knob("class of no interest", at_least=0)] = 0,
    place: Place = "stem",
    recall: Annotated[
        float, Knob("share of the others that goes on", above=0, at_most=1)
    ] = 0.98,
    epochs: Epochs = 4.0,
    teacher_epochs: Epochs = 10.0,
    **shared: Unpack[Shared],
) -> Recipe:
    """One phase over frozen stages: cross-entropy of the filter."""
    teacher = classifier(epochs=teacher_epochs, **shared)
    if not 0 <= negative < branches.classes_of(teacher):
        raise UsageError(f"no class {negative} of {branches.classes_of(teacher)}")
    # The trained network behind it is not touched: only the filter is new.
    places = (branches.standing(teacher.net, "place", place),)
    net = branches.branch(teacher, lambda k, i: Filter(k, negative), places)
    name = net.exits[0].name
    phase = branches.phase(
        "filter",
        teacher,
        epochs,
        (Term(CrossEntropy(name), name=name),),
        trainable=branches.exit_parts(net, teacher),
    )
    recipe = branches.finish(teacher, "neural_filter", "Neural filter", net, (phase,))
    policy = f"filter:recall={recall},negative={negative}"
    return replace(recipe, teacher=teacher, setting=f"class {negative}", policy=policy)
