"""Exits in a net: who is last, what exits carry, how their gradients meet."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import classifier_net
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.gradients import GRADIENTS
from sc_jax.nets.net import FINAL, Exit, Net, head, tail
from sc_jax.nets.run import init, run

K = 4
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
NAMES = ("exit@stem", "exit@layer2", FINAL)


class Summed(nn.Module):
    """Its carry is the sum of all logits so far; gives a confidence too."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        own = nn.Dense(K)(x.reshape(x.shape[0], -1))
        carry = own if previous is None else own + previous
        return own, {"confidence": own[:, 0], "carry": carry}


@partial(jax.jit, static_argnums=0, static_argnames=("gradients",))
def answers_of(net, variables, x, previous=None, gradients="sum"):
    return run(net, variables, x, previous=previous, gradients=gradients)[0]


def with_exits(*stages, module=None):
    net = classifier_net("cnn", K)
    return Net(net.stages, tuple(Exit(s, module or PooledLinear(K)) for s in stages))


def test_an_exit_after_the_last_stage_is_the_final_one():
    net = with_exits("stem", "fc", module=Summed())
    assert net.exit_names == ("exit@stem", FINAL)
    variables = init(net, jax.random.key(0), IMAGES)
    out = answers_of(net, variables, IMAGES)
    np.testing.assert_array_equal(out.predictions[FINAL], out.predictions["exit@fc"])
    assert not np.array_equal(out.predictions[FINAL], out.features["fc"])
    plain = with_exits("stem")
    assert plain.exit_names == ("exit@stem", FINAL)
    out = answers_of(plain, init(plain, jax.random.key(0), IMAGES), IMAGES)
    np.testing.assert_array_equal(out.predictions[FINAL], out.features["fc"])


def test_what_an_exit_carries_crosses_a_cut():
    net = with_exits("stem", "layer1", "fc", module=Summed())
    variables = init(net, jax.random.key(0), IMAGES)
    whole = answers_of(net, variables, IMAGES)
    assert set(whole.extras["exit@layer1"]) == {"confidence"}
    own = whole.extras["exit@layer1"]["confidence"]
    np.testing.assert_array_equal(own, whole.predictions["exit@layer1"][:, 0])
    first = answers_of(head(net, "stem"), variables, IMAGES)
    carried = first.predictions["exit@stem"]  # the first's carry is its logits
    rest = answers_of(tail(net, "stem"), variables, first.features["stem"], carried)
    np.testing.assert_array_equal(rest.predictions[FINAL], whole.predictions[FINAL])


@partial(jax.jit, static_argnums=(0, 3))
def gradients_of(net, variables, weights, gradients):
    """Gradient of a weighted sum of the exits' own losses; one program a kind."""

    def loss(params):
        whole = variables._replace(params=params)
        out, _ = run(net, whole, IMAGES, gradients=gradients)
        each = [(out.predictions[name] ** 2).mean() for name in net.exit_names]
        return jnp.dot(weights, jnp.stack(each))

    return jax.grad(loss)(variables.params)


@pytest.fixture(scope="module")
def net_and_variables():
    net = with_exits("stem", "layer2")
    return net, init(net, jax.random.key(1), IMAGES)


def test_equilibrium_gives_the_trunk_the_mean_of_the_exits_gradients(net_and_variables):
    """Li et al. 2019; exact for every trunk parameter, exits keep their own."""
    net, variables = net_and_variables
    alone = [gradients_of(net, variables, w, "sum") for w in jnp.eye(3)]
    met = gradients_of(net, variables, jnp.ones(3), "equilibrium")
    plain = gradients_of(net, variables, jnp.ones(3), "sum")
    ahead = {"stem": 3, "layer1": 2, "layer2": 2, "layer3": 1, "fc": 1}
    for part, count in ahead.items():
        total = jax.tree.map(lambda *g: sum(g), *(a[part] for a in alone))
        trees = (total, plain[part], met[part])
        for mean, sum_, got in zip(*map(jax.tree.leaves, trees)):
            np.testing.assert_allclose(got, mean / count, rtol=1e-4, atol=1e-7)
            np.testing.assert_allclose(sum_, mean, rtol=1e-4, atol=1e-7)
    for part, index in (("exit@stem", 0), ("exit@layer2", 1)):
        # An exit is scaled where it meets the trunk, never inside.
        for a, b in zip(*map(jax.tree.leaves, (alone[index][part], met[part]))):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_detached_exits_leave_the_trunk_to_the_last_exit(net_and_variables):
    net, variables = net_and_variables
    met = gradients_of(net, variables, jnp.ones(3), "detached")
    last = gradients_of(net, variables, jnp.array([0.0, 0, 1]), "sum")
    for part in ("stem", "layer1", "fc"):
        for a, b in zip(*map(jax.tree.leaves, (met[part], last[part]))):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(met["exit@stem"]))


def test_how_gradients_meet_changes_no_value(net_and_variables):
    net, variables = net_and_variables
    answers = [
        answers_of(net, variables, IMAGES, gradients=g).predictions for g in GRADIENTS
    ]
    for name in NAMES:
        for other in answers[1:]:
            np.testing.assert_array_equal(other[name], answers[0][name])
    with pytest.raises(UsageError, match="did you mean 'equilibrium'"):
        run(net, variables, IMAGES, gradients="equilibrum")
