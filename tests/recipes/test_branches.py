"""What recipes of early exits share: places, terms, costs, grafts."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.errors import UsageError
from sc_jax.exits.solve.solvers import SOLVERS
from sc_jax.nets.exit_classifiers.classifiers import MixedPool, PooledLinear
from sc_jax.nets.exit_classifiers.gated import Identity
from sc_jax.nets.graft import widened
from sc_jax.nets.net import FINAL, Exit
from sc_jax.nets.run import init, run, variable_shapes
from sc_jax.recipes import branches
from sc_jax.recipes.classifier import classifier
from sc_jax.traces import record
from sc_jax.traces.trace import Trace
from sc_jax.train.loop import first_variables

EXAMPLE = np.zeros((1, 28, 28, 1), np.uint8)
BASE = classifier(epochs=0.01)


def plain(classes, index):
    return PooledLinear(classes)


def test_exits_stand_at_the_usual_places_or_where_asked():
    net = branches.branch(BASE, plain)
    assert net.exit_names == ("exit@stem", "exit@layer1", "exit@layer2", FINAL)
    assert net.stages == BASE.net.stages
    net = branches.branch(BASE, plain, ("layer1",), last=Identity())
    assert [e.after for e in net.exits] == ["layer1", "fc"]
    assert net.exit_names == ("exit@layer1", FINAL)
    with pytest.raises(UsageError, match="did you mean 'layer1'"):
        branches.branch(BASE, plain, ("layer11",))


def test_weights_by_depth_grow_evenly_and_sum_to_one():
    net = branches.branch(BASE, plain)
    terms = branches.joint(net, branches.by_depth)
    assert [t.weight for t in terms] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [t.loss.exit for t in terms] == list(net.exit_names)


def test_even_places_are_nearest_to_equal_shares_of_the_trunk():
    base = classifier(backbone="resnet20", epochs=0.01)
    places = branches.evenly(base, 3)
    net = branches.branch(base, plain, places)
    shares = branches.shares_of(net, base)
    assert len(places) == 3 and shares[-1] == 1.0
    assert np.abs(np.array(shares[:3]) - [0.25, 0.5, 0.75]).max() < 0.06
    with pytest.raises(UsageError):
        branches.evenly(BASE, 9)


@pytest.mark.parametrize(
    "name", ["shallow_deep", "zero_time_waste", "pomponi", "eenet", "jei_dnn"]
)
def test_a_number_of_exits_is_spread_over_the_cost(name):
    def places(**knobs):
        built = recipes.build(name, recipes.tiny(name) | knobs)
        return tuple(e.after for e in built.net.exits)

    # Zero Time Waste's last ensemble stands behind the network's end.
    assert places(exits=2)[:2] == branches.evenly(BASE, 2)
    assert len(places(exits=2)) == len(places()) - 1
    with pytest.raises(UsageError, match="exits is 1 to"):
        places(exits=99)


def test_a_cut_is_added_to_exits_on_a_frozen_network():
    tiny = recipes.tiny("shallow_deep") | {"frozen": True}
    whole = recipes.build("shallow_deep", tiny)
    place = whole.net.exits[0].after
    knobs = tiny | {"after": place, "compressor": "clipped:points=4", "epochs": 0}
    cut = recipes.build("shallow_deep", knobs)
    assert (cut.net.stages, cut.net.exits) == (whole.net.stages, whole.net.exits)
    (split,) = cut.net.splits
    assert (split.after, split.compressor.points) == (place, 4)
    assert cut.phases == () and len(whole.phases) == 1 and not whole.net.splits
    with pytest.raises(UsageError, match="after=layer99"):
        recipes.build("shallow_deep", knobs | {"after": "layer99"})


def test_the_placed_branches_are_those_that_the_programme_keeps(tmp_path):
    """The first branch is always right and sure: no other is worth its head."""
    labels = np.arange(40) % 4
    sure = 20.0 * np.eye(4)[labels]
    shapes = variable_shapes(BASE.net, EXAMPLE)
    (whole,) = record.exit_costs(BASE.net, shapes, EXAMPLE)
    trace = Trace(
        answers=np.stack([sure, sure, sure]),
        labels=labels,
        cost=np.array([0.2 * whole, 0.6 * whole, whole + 2.0]),
        net="toy",
        exits=("exit@stem", "exit@layer1", FINAL),
        split="validation",
    )
    made = record.Recorded(trace, np.array([1.0, 2.0, 2.0]))
    record.save(made, tmp_path / "trace.npz")
    file = str(tmp_path / "trace.npz")
    assert branches.placed(BASE, file, 0.5, 0.9) == ("stem",)
    recipe = recipes.build("chiang", {"trace": file, "budget": 0.5})
    assert recipe.net.exit_names == ("exit@stem", FINAL)
    with pytest.raises(UsageError, match="of 'toy', whose network is another than res"):
        branches.placed(classifier(backbone="resnet20"), file, 0.5, 0.9)


def test_heads_that_differ_from_the_teachers_stay_fresh_and_the_rest_is_its_own():
    net = branches.branch(BASE, plain, ("stem", "layer1"))
    teacher = replace(BASE, net=net)
    other = Exit("layer1", MixedPool(10))
    recipe = replace(BASE, net=replace(net, exits=(net.exits[0], other)))
    recipe = replace(recipe, teacher=teacher, seed=3)
    taught = init(teacher.net, jax.random.key(7), EXAMPLE)
    mine = first_variables(recipe, taught, EXAMPLE)
    assert set(mine.params) == set(recipe.net.parts)
    for part in recipe.net.parts:
        a, b = mine.params[part], taught.params[part]
        same = a.keys() == b.keys() and all(
            jax.tree.leaves(jax.tree.map(np.array_equal, a, b))
        )
        assert same == (part != "exit@layer1"), part


def test_every_recipe_with_exits_names_how_it_leaves():
    """An unknown policy shows before training."""
    with_exits = [
        made
        for made in (recipes.build(n, recipes.tiny(n)) for n in recipes.RECIPES)
        if made.net.exits
    ]
    assert len(with_exits) >= 20
    for made in with_exits:
        assert made.policy.partition(":")[0] in ("", *SOLVERS), made.name


def test_linked_heads_go_on_from_the_teachers_own():
    """IMTA: at first every exit answers as the teacher's does."""
    recipe = recipes.build("imta", recipes.tiny("imta"))
    taught = init(recipe.teacher.net, jax.random.key(7), EXAMPLE)
    mine = first_variables(recipe, taught, EXAMPLE)
    x = np.random.default_rng(0).integers(0, 256, (4, *EXAMPLE.shape[1:]), np.uint8)
    found, wanted = (
        jax.jit(lambda v, n=net: run(n, v, x)[0].predictions)(variables)
        for net, variables in ((recipe.net, mine), (recipe.teacher.net, taught))
    )
    assert found.keys() == wanted.keys()
    for name, logits in wanted.items():
        np.testing.assert_allclose(found[name], logits, rtol=1e-5, atol=1e-6)
    assert "link" in mine.params[recipe.net.exits[1].name]
    with pytest.raises(UsageError, match="no array of"):
        widened({"a": np.zeros((2, 3))}, {"a": np.zeros((2, 4))})
    with pytest.raises(UsageError, match="has no b"):
        widened({"a": np.zeros(2)}, {"b": np.zeros(2)})
