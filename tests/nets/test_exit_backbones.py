"""Backbones of early exiting: published counts, exits, cuts; abstract values mostly."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from members import NEW

from sc_jax.compressors import Raw
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.alexnet import local_response_norm, overlapping_pool
from sc_jax.nets.backbones.registry import backbone, classifier_net
from sc_jax.nets.backbones.vgg import vgg
from sc_jax.nets.backbones.wrn import WideBlock, wrn
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import FINAL, Exit, Net, inject, resolve
from sc_jax.nets.run import run, variable_shapes
from sc_jax.traces.cost import macs, parameters

# That take a bottleneck.
SPLIT = (
    *("alexnet", "nin", "vgg11", "wrn16_2", "efficientnet_lite0"),
    *(n for n in NEW if backbone(n).cut),
)
NAMES = (*dict.fromkeys((*SPLIT, "icnn", "ddnn", "skipnet", *NEW)),)


def image(side: int, channels: int = 3):
    return jax.ShapeDtypeStruct((1, side, side, channels), jnp.uint8)


@lru_cache
def shapes(net: Net, x) -> dict:
    out = jax.eval_shape(lambda v, x: run(net, v, x)[0], variable_shapes(net, x), x)
    return {k: jax.tree.map(lambda a: a.shape[1:], v) for k, v in out.features.items()}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("nin", 966_986),
        ("wrn16_2", 691_674),
        ("wrn28_10", 36_479_194),
        # 14,728,266 and 9,231,114 with the biases that batch norm cancels.
        ("vgg16", 14_728_266 - 4_224),
        ("vgg11", 9_231_114 - 2_752),
        # By hand, of the layers in BranchyNet's code: convolutions, linear layers.
        (
            "alexnet",
            2_432 + 51_264 + 55_392 + 83_040 + 55_360 + 262_400 + 32_896 + 1290,
        ),
    ],
)
def test_published_parameters_for_ten_classes_at_32(name, count):
    variables = variable_shapes(classifier_net(name, 10), image(32))
    assert parameters(variables.params) == count


@pytest.mark.parametrize(
    ("name", "millions"), [("vgg16", 313.2), ("nin", 222.5), ("wrn28_10", 5243.3)]
)
def test_published_macs_at_32(name, millions):
    net, x = classifier_net(name, 10), image(32)
    answer = lambda v, x: run(net, v, x)[0].predictions[FINAL]  # noqa: E731
    assert round(macs(answer, variable_shapes(net, x), x) / 1e6, 1) == millions


def test_sides_and_names():
    found = shapes(classifier_net("vgg16", 10), image(32))
    assert found["conv1.1"] == (32, 32, 64) and found["conv1.2"] == (16, 16, 64)
    assert found["conv5.3"] == (1, 1, 512) and found["avgpool"] == (512,)
    found = shapes(classifier_net("vgg16", 10), image(28, 1))
    sides = [found[f"conv{g}"] for g in ("1.2", "2.2", "3.3", "4.3", "5.3")]
    assert [side[0] for side in sides] == [14, 7, 3, 1, 1]
    found = shapes(classifier_net("wrn16_2", 10), image(28, 1))
    assert found["layer1.1"] == (28, 28, 32) and found["layer3.1"] == (7, 7, 128)
    found = shapes(classifier_net("alexnet", 10), image(32))
    assert [found[f"conv{i}"][0] for i in range(1, 6)] == [16, 8, 8, 8, 4]
    assert len(vgg(depth=19, classes=2)) == 16 + 2
    assert len(vgg(depth=13, classes=2)) == 10 + 2
    assert [s.name for s in wrn(depth=10, widen=1, classes=2)][1:4] == [
        "layer1.0",
        "layer2.0",
        "layer3.0",
    ]


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("side", [28, 32])
def test_bottlenecks_restore_the_replaced_stage(name, side):
    family, x = backbone(name), image(side, 1)
    whole = classifier_net(name, 10)
    pair = PAIRS["fp"](6, family.target, family.strides, family.small)
    net = inject(whole, family.replaced, pair, Raw())
    found, expected = shapes(net, x), shapes(whole, x)
    assert found["decoder"] == expected[resolve(whole, family.cut)]
    for group in family.hints:
        stage = resolve(whole, group)
        assert found[stage] == expected[stage]


@pytest.mark.parametrize("name", NAMES)
def test_usual_exits_stand_and_train_at_an_odd_side(name):
    """Traced only: every part in training mode, on 27 px with one channel."""
    plain = classifier_net(name, 5)
    places = [resolve(plain, place) for place in backbone(name).exits]
    net = Net(plain.stages, tuple(Exit(p, PooledLinear(5)) for p in places))
    x = image(27, 1)
    variables = variable_shapes(net, x)

    def loss(params, x, key):
        own = variables._replace(params=params)
        out, state = run(net, own, x, train=frozenset(net.parts), key=key)
        return sum(p.sum() for p in out.predictions.values()), (out.predictions, state)

    # Parameters and state as arguments would do as well; only shapes are asked.
    variables = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), variables)
    key = jax.eval_shape(lambda: jax.random.key(0))
    graded = jax.eval_shape(jax.grad(loss, has_aux=True), variables.params, x, key)
    gradient, (predictions, state) = graded
    assert list(predictions) == list(net.exit_names)
    assert {p.shape for p in predictions.values()} == {(1, 5)}
    assert jax.tree.structure(gradient) == jax.tree.structure(variables.params)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)


def test_local_response_norm_is_over_three_channels():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype(np.float32) * 100
    near = np.stack(
        [(x[..., max(0, c - 1) : c + 2] ** 2).sum(-1) for c in range(5)], -1
    )
    expected = x / (2 + 5e-5 * near) ** 0.75
    np.testing.assert_allclose(local_response_norm(x), expected, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 7, 8])
def test_the_overlapping_pool_covers_every_row(side):
    x = np.random.default_rng(0).random((2, side, side, 3), np.float32)
    got = overlapping_pool(x)
    tops = range(0, max(1, 2 * ((side - 1) // 2)), 2) if side % 2 else range(0, side, 2)
    expected = [[x[:, i : i + 3, j : j + 3].max((1, 2)) for j in tops] for i in tops]
    np.testing.assert_array_equal(got, np.moveaxis(np.array(expected), 2, 0))
    assert max(tops) + 3 >= side


def test_a_wide_block_around_an_identity_adds_to_its_input():
    block = WideBlock(4)
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype(np.float32)
    variables = drawn(lambda: block.init(jax.random.key(0), x, train=False))
    silent = jax.tree.map(jnp.zeros_like, variables["params"])
    evaluate = jax.jit(lambda v: block.apply(v, x, train=False))
    got = evaluate({**variables, "params": silent})
    np.testing.assert_array_equal(got, x)
    assert "Conv_1" not in variables["params"]
    wider = jax.eval_shape(
        lambda: WideBlock(8, 2).init(jax.random.key(0), x, train=False)
    )
    assert wider["params"]["Conv_1"]["kernel"].shape == (1, 1, 4, 8)


def test_unknown_depths_name_the_known():
    with pytest.raises(UsageError, match="11, 13, 16, 19"):
        vgg(depth=12, classes=10)
    with pytest.raises(UsageError, match="6 n \\+ 4"):
        wrn(depth=18, widen=2, classes=10)
