"""MSDNet: published costs, which scales live how long, exits across a cut."""

from functools import partial

import jax
import numpy as np
import pytest
from shapes import filled, traced, walked

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.msdnet import IMAGENET, Layer, msdnet
from sc_jax.nets.backbones.registry import BACKBONES, classifier_net, exit_net
from sc_jax.nets.exit_classifiers.classifiers import MSDNetClassifier, PooledLinear
from sc_jax.nets.net import FINAL, Exit, Net, head, resolve, tail
from sc_jax.nets.run import init, run

K = 5
ANYTIME = {"blocks": 7, "base": 4, "step": 2, "step_mode": "even"}
IMAGENET_4 = IMAGENET | {"base": 4, "step": 4}
FORMS = {  # knobs, side, classes, head channels, millions at each exit
    "imagenet 7": (
        IMAGENET,
        224,
        1000,
        0,
        (615.69, 1436.39, 2283.21, 2967.42, 3253.79),
    ),
    "imagenet 4": (IMAGENET_4, 224, 1000, 0, (337, 682, 1004, 1250, 1356)),
    "anytime": (ANYTIME, 32, 100, 128, (15.0, 25.3, 36.8, 46.0, 56.9, 66.5, 75.5)),
    "budgeted": ({}, 32, 100, 128, (6.8, 14.2, 27.3, 41.4, 58.1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_multiply_accumulates_are_the_published_ones_at_every_exit(form):
    """Trunk and heads so far; the authors' counts hold pooling and ReLU besides."""
    knobs, side, classes, features, published = FORMS[form]
    stages = msdnet(classes=classes, **knobs)
    ends = {resolve(Net(stages), f"block{i + 1}") for i in range(len(published))}
    made, total, counted, logits = MSDNetClassifier(classes, features), 0, [], None
    for name, cost, x in walked(stages, side, side, 3):
        total += cost
        if name in ends:
            more, logits = traced(made, x, logits)
            total += more
            counted.append(total / 1e6)
    np.testing.assert_allclose(counted, published, rtol=0.01)


def test_the_finest_scale_ends_after_each_share_of_the_layers():
    """15 layers of 3 scales: channels halve where one ends, 6 x (1, 2, 4) a layer."""
    found = {
        name: [(*a.shape[1:],) for a in x]
        for name, _, x in walked(msdnet(classes=K), 29, 28, 1)
    }
    assert len(found) == 16
    assert found["stem"] == [(29, 28, 16), (15, 14, 32), (8, 7, 64)]
    assert found["block3.1"] == [(29, 28, 46), (15, 14, 92), (8, 7, 184)]
    assert found["block3.2"] == [(15, 14, 52), (8, 7, 104)]  # (46 + 6) / 2 = 26
    assert found["block4.3"] == [(15, 14, 100), (8, 7, 200)]
    assert found["block5.0"] == [(8, 7, 112)]  # (50 + 6) / 2 = 28
    assert found["block5.4"] == [(8, 7, 208)]


def test_a_layer_appends_and_a_coarse_scale_hears_the_finer_one():
    module = Layer((4, 6), (1, 2))
    rng = np.random.default_rng(0)
    x = tuple(rng.normal(size=(2, n, n, 8)).astype(np.float32) for n in (5, 3))
    variables = filled(lambda: module.init(jax.random.key(0), x, train=False))
    apply = jax.jit(partial(module.apply, variables, train=False))
    grown = apply(x)
    assert [a.shape for a in grown] == [(2, 5, 5, 12), (2, 3, 3, 14)]
    for before, after in zip(x, grown):
        np.testing.assert_array_equal(after[..., :8], before)
    finer, coarser = apply((x[0] + 1, x[1])), apply((x[0], x[1] + 1))
    assert (finer[1] != grown[1]).any()
    np.testing.assert_array_equal(coarser[0], grown[0])


@pytest.mark.parametrize("name", [n for n in BACKBONES if BACKBONES[n].features_only])
def test_exits_stand_at_the_usual_places_and_behind_the_last_stage(name):
    net = exit_net(name, K)
    after = [resolve(net, place) for place in BACKBONES[name].exits]
    assert [e.after for e in net.exits] == [*after, net.names[-1]]
    assert net.exit_names == (*(e.name for e in net.exits[:-1]), FINAL)
    assert classifier_net(name, K) == Net(net.stages, net.exits[-1:])


@pytest.mark.parametrize("name", ["msdnet_tiny", "ranet_tiny"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 30, 3)])
def test_tiny_nets_cost_little_and_their_first_exit_half_of_it_at_most(name, shape):
    net, total, costs = exit_net(name, K), 0, []
    for stage, cost, x in walked(net.stages, *shape):
        total += cost
        at = net.exit_at(stage)
        if at is not None:
            more, logits = traced(at.module, x, None)
            assert logits.shape == (1, K)
            total += more
            costs.append(total)
    assert 3 <= len(costs) <= 4 and costs[0] <= costs[-1] / 2
    if shape == (28, 28, 1):
        assert 5e6 < costs[-1] < 10e6


def test_exit_net_asks_head_for_each_exit_in_the_order_of_the_stages():
    asked = []

    def made(*of):
        asked.append(of)
        return PooledLinear(K)

    net = exit_net("msdnet_tiny", K, places=("block3", "block1"), classifier=made)
    assert [e.after for e in net.exits] == ["block1.1", "block3.0", "block4.0"]
    assert asked == [(K, 0, False), (K, 1, False), (K, 2, True)]
    plain = exit_net("cnn", K)
    assert plain.exits == tuple(
        Exit(s, PooledLinear(K)) for s in BACKBONES["cnn"].exits
    )
    with pytest.raises(UsageError, match="nowhere"):
        exit_net("cnn", K, places=("nowhere",))


def test_linked_exits_on_both_sides_of_a_cut_answer_as_the_whole():
    """Two scales, then one; three exits, each linked to the one before."""
    stages = msdnet(
        classes=K, blocks=3, step_mode="even", channels=4, growth=2, factors=(1, 2)
    )
    exits = tuple(Exit(s.name, MSDNetClassifier(K, 8, link=4)) for s in stages[1:])
    net = Net(stages, exits)
    images = np.random.default_rng(0).normal(size=(2, 15, 15, 1)).astype(np.float32)
    variables = filled(lambda: init(net, jax.random.key(0), images))
    whole = jax.jit(lambda v, x: run(net, v, x)[0].predictions)(variables, images)
    np.testing.assert_array_equal(whole[FINAL], whole["exit@block3.0"])
    before, after = head(net, "block2"), tail(net, "block2")
    device = jax.jit(lambda v, x: run(before, v, x)[0])(variables, images)
    sent = device.features["block2.0"], device.predictions["exit@block2.0"]
    server = jax.jit(lambda v, z, p: run(after, v, z, previous=p)[0].predictions)
    got = device.predictions | server(variables, *sent)
    assert got.keys() == whole.keys() and len(whole) == 4
    for name, logits in whole.items():
        assert np.isfinite(logits).all() and not np.array_equal(*np.asarray(logits))
        np.testing.assert_array_equal(got[name], logits, name)


@pytest.mark.parametrize(
    "wrong", [{"step_mode": "lg"}, {"blocks": 0}, {"base": 0}, {"step": 0}]
)
def test_mistakes_name_what_is_possible(wrong):
    with pytest.raises(UsageError, match=r"lin_grow|1 or more"):
        msdnet(classes=K, **wrong)
