"""Exit classifiers: shapes, what they read of the exit before, where gradients stop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.nets.backbones.registry import classifier_net
from sc_jax.nets.exit_classifiers.classifiers import (
    Boosted,
    ConvClassifier,
    MixedPool,
    MSDNetClassifier,
    PooledLinear,
)
from sc_jax.nets.net import Exit, Net, head, tail
from sc_jax.nets.run import init, run
from sc_jax.traces.cost import parameters

K = 5
CLASSIFIERS = {
    "pooled": PooledLinear(K),
    "conv": ConvClassifier(K, (8, 4)),
    "mixed": MixedPool(K),
    "cascade": MixedPool(K, cascade=True),
    "msdnet": MSDNetClassifier(K, 8),
    "isc": MSDNetClassifier(K, 8, link=6),
    "boosted": Boosted(PooledLinear(K), 0.5),
}
READS = {"cascade", "isc", "boosted"}  # the exit before
SHARES = {"isc"}  # its gradient with it


def fed(name, side=9):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, side, side, 6)).astype(np.float32)
    previous = rng.normal(size=(3, K)).astype(np.float32)
    module = CLASSIFIERS[name]
    variables = module.init(jax.random.key(1), x, previous, train=False)
    return module, variables, x, previous


@pytest.mark.parametrize("side", [1, 2, 9, 16])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_gives_float32_logits_at_any_side(name, side):
    module, variables, x, previous = fed(name, side)
    logits = module.apply(variables, x, previous, train=False)
    assert logits.shape == (3, K) and logits.dtype == np.float32
    assert np.isfinite(logits).all() and np.unique(np.asarray(logits)).size > K
    first = module.init(jax.random.key(1), x, None, train=False)
    assert module.apply(first, x, None, train=False).shape == (3, K)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_only_linked_classifiers_read_the_exit_before_and_isc_alone_trains_it(name):
    module, variables, x, previous = fed(name)

    def total(x, previous):
        weights = jnp.arange(K * 3.0).reshape(3, K)  # not constant over classes
        return (module.apply(variables, x, previous, train=False) * weights).sum()

    moved = total(x, previous + np.arange(K)) != total(x, previous)
    assert moved == (name in READS)
    feature, before = jax.grad(total, (0, 1))(x, previous)
    assert np.abs(feature).max() > 0
    assert (np.abs(before).max() > 0) == (name in SHARES)


def test_mixed_pooling_mixes_by_its_learnt_share():
    module, variables, x, _ = fed("mixed", side=8)
    params = dict(variables["params"])
    assert params["Dense_0"]["kernel"].shape == (4 * 4 * 6, K)
    means = x.reshape(3, 4, 2, 4, 2, 6).mean((2, 4)).reshape(3, -1)
    highs = x.reshape(3, 4, 2, 4, 2, 6).max((2, 4)).reshape(3, -1)
    for share in (0.0, 0.25, 1.0):
        mixed = {"params": params | {"mix": jnp.float32(share)}}
        got = module.apply(mixed, x, None, train=False)
        flat = share * highs + (1 - share) * means
        dense = jax.device_get(params["Dense_0"])
        np.testing.assert_allclose(
            got, flat @ dense["kernel"] + dense["bias"], rtol=1e-4, atol=1e-5
        )


def test_the_msdnet_classifier_of_cifar_has_its_published_parameters():
    """Two 3x3 convolutions of 128 with batch norm, and a linear layer on 1x1x128."""
    shapes = jax.eval_shape(
        lambda: MSDNetClassifier(10).init(
            jax.random.key(0), jnp.zeros((1, 8, 8, 64)), None, train=False
        )
    )
    expected = 9 * 64 * 128 + 256 + 9 * 128 * 128 + 256 + 128 * 10 + 10
    assert parameters(shapes["params"]) == expected


def test_an_exit_behind_a_cut_reads_the_one_before_it_when_it_is_sent():
    """Law: split == whole, exits that are linked included."""
    net = classifier_net("cnn", K)
    exits = tuple(Exit(s, MixedPool(K, cascade=True)) for s in ("stem", "layer2"))
    net = Net(net.stages, exits)
    x = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    variables = init(net, jax.random.key(0), x)
    whole = jax.jit(lambda v, x: run(net, v, x)[0])(variables, x)
    before, after = head(net, "layer1"), tail(net, "layer1")
    device = jax.jit(lambda v, x: run(before, v, x)[0])(variables, x)
    server = jax.jit(lambda v, z, p: run(after, v, z, previous=p)[0])
    z, sent = device.features["layer1"], device.predictions["exit@stem"]
    got = server(variables, z, sent).predictions["exit@layer2"]
    np.testing.assert_array_equal(got, whole.predictions["exit@layer2"])
