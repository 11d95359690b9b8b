"""What recipes of early exits share: exits on a classifier, their terms and phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.solve.placement import candidates
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.backbones.registry import backbone, exit_net, those
from sc_jax.nets.net import Exit, Net, resolve
from sc_jax.nets.run import run, variable_shapes
from sc_jax.plan import placement
from sc_jax.recipes import common
from sc_jax.recipes.classifier import adamw
from sc_jax.traces import record
from sc_jax.train.recipe import Phase, Recipe


def branch(
    base: Recipe,
    classifier: Callable[[int, int], nn.Module] | None = None,
    places: Sequence[str] | None = None,
    last: nn.Module | None = None,
) -> Net:
    """The base's net with exits classifier(K, index) after `places`, perhaps `last`.

    places: stages or groups; None: the backbone's usual ones. Without a `classifier`
    they are of the kind that the backbone was published with. `last`: a final exit in
    place of the net's own end.
    """
    chosen, net = backbone(base.backbone), base.net
    if places is None:
        places_of(base, lambda each: classifier is None or not each.views)

    def of(classes: int, index: int, final: bool) -> nn.Module:
        if final and last is not None:
            return last
        # A net that ends in features gets its logits from the last exit.
        if final or classifier is None:
            return chosen.classifier(classes)
        return classifier(classes, index)

    classes = classes_of(base)
    exits = exit_net(base.backbone, classes, places=places, classifier=of).exits
    # exit_net puts none after the last stage of a net that ends in logits.
    if last is not None and all(e.after != net.names[-1] for e in exits):
        exits = (*exits, Exit(net.names[-1], last))
    branched = Net(net.stages, exits, net.splits)
    if chosen.views:
        _check_views(branched, base)
    return branched


def _check_views(net: Net, base: Recipe) -> None:
    """UsageError where an exit of images stands on the features of several views."""
    try:
        variable_shapes(net, example(base))
    # Whatever a module of images says of an axis more.
    except (TypeError, ValueError) as error:
        raise _of_images(base, lambda each: True) from error


def _of_images(base: Recipe, fits: Callable[[Backbone], bool]) -> UsageError:
    known = those(lambda each: each.exits != () and not each.views and fits(each))
    return UsageError(
        f"{base.backbone} has exits on the views of several devices, where those of "
        f"this method read one image; these have such: {known}"
    )


def standing(net: Net, knob: str, name: str) -> str:
    """The stage that a recipe's `knob` names; UsageError names the knob too."""
    try:
        return resolve(net, name)
    except UsageError as error:
        raise UsageError(f"{knob}={name}: {error}") from None


def places_of(base: Recipe, fits: Callable[[Backbone], bool]) -> None:
    """UsageError, with those that have and that `fits` holds of, where the backbone has
    no usual places for exits.
    """
    if not backbone(base.backbone).exits:
        known = those(lambda each: each.exits != () and fits(each))
        raise UsageError(
            f"{base.backbone} has no usual places for exits; these have: {known}"
        )


def own_logits(base: Recipe, why: str) -> None:
    """UsageError unless the net has exits on images, and ends in logits of its own."""

    def fits(each: Backbone) -> bool:
        return not each.features_only and not each.views

    places_of(base, fits)
    chosen = backbone(base.backbone)
    if chosen.views:
        raise _of_images(base, fits)
    if chosen.features_only:
        known = those(lambda each: each.exits != () and fits(each))
        raise UsageError(f"{base.backbone} {why}; these have: {known}")


def placed(base: Recipe, file: str, budget: float, threshold: float) -> tuple[str, ...]:
    """The places that the dynamic programme keeps of those recorded in `file`.

    budget: mean cost, share of the network without exits; threshold: of the largest
    probability.
    """
    recorded, shapes = record.load(file), variable_shapes(base.net, example(base))
    # Stages alone: exits that were recorded are not part of this network.
    (trunk,) = record.exit_costs(base.net, shapes, example(base))
    if recorded.trace.cost[-1] - recorded.classifier_cost[-1] != trunk:
        raise UsageError(
            f"the trace {file!r} is of {recorded.trace.net!r}, whose network is "
            f"another than {base.backbone}: record one of it"
        )
    known = candidates(
        recorded.trace, threshold, classifier_cost=recorded.classifier_cost
    )
    # The budget as a share of the trunk, which stays the same whatever is kept.
    places = placement.dynamic_programme(known, budget * known.trunk_cost[-1])
    if not places:
        raise UsageError(f"no branch pays at a budget of {budget:g}: give a lower one")
    return places


def classes_of(base: Recipe) -> int:
    return common.facts(base.data).classes


def example(base: Recipe) -> np.ndarray:
    """uint8 [1, H, W, C] of the recipe's data."""
    shape: tuple[int, int, int] = common.facts(base.data).shape
    return np.zeros((1, *shape), np.uint8)


def joint(
    net: Net, weights: Callable[[int, int], float] = lambda i, n: 1.0
) -> tuple[Term, ...]:
    """Cross-entropy of every exit (survey Eq. 8) by weights(index, exits)."""
    names = net.exit_names
    return tuple(
        Term(CrossEntropy(name), weights(i, len(names)), name=name)
        for i, name in enumerate(names)
    )


def by_depth(index: int, exits: int) -> float:
    """Weights j / sum j of the exits j = 1..E (PABEE, Zhou et al. 2020)."""
    return (index + 1) / (exits * (exits + 1) / 2)


def exit_parts(net: Net, base: Recipe | None = None) -> tuple[str, ...]:
    """Names of the exits' parameters; with `base`, of those that it does not have."""
    own = base.net.exits if base else ()
    return tuple(e.name for e in net.exits if e not in own)


def phase(name: str, base: Recipe, epochs: float, terms, **more: Any) -> Phase:
    """A phase of `epochs` with the classifier's own optimiser, all parts trained."""
    known: dict[str, Any] = {"trainable": ("*",), "optimiser": adamw()}
    steps = common.steps(base.data, epochs)
    return Phase(name, steps, tuple(terms), **(known | more))


def spread(base: Recipe, exits: int) -> tuple[str, ...] | None:
    """The places that `branch` takes: evenly `exits`; 0: None, the usual ones."""
    return evenly(base, exits) if exits else None


def said(exits: int) -> str:
    """A setting's words for the knob `exits`, none for the usual places."""
    return f", {exits} exits" if exits else ""


def evenly(base: Recipe, count: int) -> tuple[str, ...]:
    """`count` stages at equal shares of the classifier's MACs (SPINN).

    Of those whose feature is an image: an exit of convolutions fits there.
    """
    net, image = base.net, example(base)
    read = jax.eval_shape(
        lambda v: run(net, v, image)[0].features, variable_shapes(net, image)
    )
    # Not behind the normalisation, which computes nothing, nor behind the end.
    names = [n for n in net.names[1:-1] if jax.tree.leaves(read[n])[-1].ndim == 4]
    if count > len(names):
        raise UsageError(
            f"exits is 1 to {len(names)}, the places of {base.backbone}, not {count}"
        )
    # All candidates at once: one trace counts every place.
    bare = Net(net.stages, tuple(Exit(n, _Nothing()) for n in names))
    *costs, whole = record.exit_costs(bare, variable_shapes(bare, image), image)
    return placement.equal_macs(names, costs, count, whole)


def shares_of(net: Net, base: Recipe) -> tuple[float, ...]:
    """Each exit's cost as a share of the last one's, exits on the way included."""
    image = example(base)
    costs = record.exit_costs(net, variable_shapes(net, image), image)
    return tuple(float(c / costs[-1]) for c in costs)


def finish(base: Recipe, name: str, title: str, net: Net, phases, **more) -> Recipe:
    """The recipe of a method that starts from the classifier `base`."""
    return replace(base, name=name, title=title, net=net, phases=tuple(phases), **more)


class _Nothing(nn.Module):
    """An exit without parameters or MACs: to count what the trunk alone takes."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        return jax.tree.leaves(x)[-1]
