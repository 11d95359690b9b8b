"""Views, devices, links that fail, aggregation: a DDNN's own parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.multiview import (
    AGGREGATIONS,
    DevicesClassifier,
    OnDevices,
    Uplink,
    Views,
    aggregate,
    ddnn,
    signs,
)
from sc_jax.nets.backbones.registry import backbone, classifier_net
from sc_jax.nets.net import Exit, Net, resolve
from sc_jax.nets.run import run, variable_shapes

X = np.random.default_rng(0).normal(size=(3, 4, 6, 6, 2)).astype(np.float32)  # 4 views


@pytest.mark.parametrize("sides", [(7, 5), (28, 28), (32, 32)])
@pytest.mark.parametrize(
    ("grid", "share"), [((2, 2), 0.5), ((2, 2), 0.75), ((2, 3), 0.5), ((1, 1), 1.0)]
)
def test_views_see_every_pixel_and_all_have_one_shape(sides, grid, share):
    pixels = np.arange(np.prod(sides)).reshape(1, *sides, 1)
    views = Views(grid, share).apply({}, jnp.asarray(pixels), train=False)
    h, w = (int(np.ceil(share * side)) for side in sides)
    assert views.shape == (1, grid[0] * grid[1], h, w, 1)
    assert set(np.unique(views)) == set(pixels.ravel())
    np.testing.assert_array_equal(views[:, 0], pixels[:, :h, :w])
    np.testing.assert_array_equal(views[:, -1], pixels[:, -h:, -w:])


def test_views_of_several_cameras_pass_and_gaps_are_refused():
    np.testing.assert_array_equal(Views().apply({}, X, train=False), X)
    with pytest.raises(UsageError, match=r"0\.5\.\.1 of a side, not 0\.4"):
        Views(share=0.4).apply({}, X[:, 0], train=False)


def test_signs_are_exact_and_let_gradients_through_within_one():
    x = jnp.array([-3.0, -1e-9, 0.0, 0.3, 0.1, 3.0])
    np.testing.assert_array_equal(signs(x), [-1, -1, 1, 1, 1, 1])
    gradient = jax.grad(lambda x: (signs(x) * jnp.arange(6.0)).sum())(x)
    np.testing.assert_array_equal(gradient, [0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("shared", [False, True])
def test_a_device_sees_its_own_view_and_sends_bits(shared):
    module = OnDevices(8, binary_weights=True, shared=shared)
    variables = drawn(lambda: module.init(jax.random.key(0), X, train=False))
    evaluate = jax.jit(lambda v, x: module.apply(v, x, train=False))
    assert len(variables["params"]) == (1 if shared else 4)
    out = evaluate(variables, X)
    assert out.shape == (3, 4, 3, 3, 8) and set(np.unique(out)) == {-1, 1}
    turned = X * np.float32([1, -9, 1, -9]).reshape(1, 4, 1, 1, 1)
    moved = evaluate(variables, turned)
    same = [np.array_equal(moved[:, v], out[:, v]) for v in range(4)]
    assert same == [True, False, True, False]
    scaled = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 3 if path[-1].key == "kernel" else leaf, variables
    )
    # Binary: only the signs of weights count.
    np.testing.assert_array_equal(evaluate(scaled, X), out)


def test_a_missing_device_sends_zeros_and_the_others_their_own():
    got = Uplink(drop=0.5, missing=(1, 3)).apply({}, X, train=False)
    np.testing.assert_array_equal(got[:, [1, 3]], np.zeros_like(X[:, [1, 3]]))
    np.testing.assert_array_equal(got[:, [0, 2]], X[:, [0, 2]])
    np.testing.assert_array_equal(Uplink(drop=0.5).apply({}, X, train=False), X)
    with pytest.raises(UsageError, match="no device 4: there are 0 to 3"):
        Uplink(missing=(4,)).apply({}, X, train=False)


def test_devices_drop_as_a_whole_and_in_training_only():
    x = np.ones((2000, 4, 1, 2, 1), np.float32)
    rngs = {"dropout": jax.random.key(0)}
    got = np.asarray(Uplink(drop=0.3).apply({}, x, train=True, rngs=rngs))
    assert set(np.unique(got)) == {0, 1}  # what arrives is not rescaled
    np.testing.assert_array_equal(got[:, :, 0, 0], got[:, :, 0, 1])
    down = 1 - got[:, :, 0, 0, 0].mean(0)
    assert np.abs(down - 0.3).max() < 4 * (0.21 / 2000) ** 0.5


def test_aggregations():
    np.testing.assert_array_equal(aggregate(X, "max"), X.max(1))
    np.testing.assert_allclose(aggregate(X, "mean"), X.mean(1), rtol=1e-5, atol=1e-7)
    joined = aggregate(X, "concat")
    np.testing.assert_array_equal(joined, np.concatenate(list(X.swapaxes(0, 1)), -1))
    with pytest.raises(UsageError, match="did you mean 'mean'"):
        aggregate(X, "means")
    with pytest.raises(UsageError, match="Known: max, mean, concat"):
        ddnn(classes=3, how="sum")


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_the_local_exit_aggregates_class_vectors(how):
    head = DevicesClassifier(5, how)
    variables = drawn(lambda: head.init(jax.random.key(0), X, None, train=False))
    params = jax.device_get(variables["params"])
    votes = np.einsum("bvn,vnk->bvk", X.reshape(3, 4, -1), params["kernel"])
    got = head.apply(variables, X, None, train=False)
    if how == "concat":
        dense = params["Dense_0"]
        expected = votes.reshape(3, -1) @ dense["kernel"] + dense["bias"]
    else:
        expected = getattr(votes, how)(1) + params["bias"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    silent = head.apply(variables, np.zeros_like(X), None, train=False)
    bias = params["Dense_0"]["bias"] if how == "concat" else params["bias"]
    np.testing.assert_array_equal(silent, np.tile(bias, (3, 1)))


def test_a_ddnn_has_three_tiers_with_an_exit_each():
    plain = classifier_net("ddnn", 5)
    device, edge = (resolve(plain, place) for place in backbone("ddnn").exits)
    assert (device, edge) == ("device.link", "edge")
    # The edge's feature, of four axes, counts as one view.
    net = Net(
        plain.stages, tuple(Exit(p, DevicesClassifier(5)) for p in (device, edge))
    )
    x = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.uint8)
    variables = variable_shapes(net, x)
    out = jax.eval_shape(lambda v, x: run(net, v, x)[0], variables, x)
    assert out.features[device].shape == (2, 4, 6, 6, 4)
    assert out.features["aggregate"].shape == (2, 6, 6, 16)
    assert len(out.predictions) == 3
    assert {p.shape for p in out.predictions.values()} == {(2, 5)}
