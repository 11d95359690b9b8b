"""Gated blocks: identity when closed, the plain block when open, gates that learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import classifier_net
from sc_jax.nets.backbones.resnet import BasicBlock
from sc_jax.nets.backbones.skipnet import (
    Always,
    Carry,
    Skippable,
    executed_share,
    gates,
    skipnet,
)
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.layers.blocks import ConvNorm
from sc_jax.nets.net import Net, Stage
from sc_jax.nets.run import init, run

X = np.random.default_rng(0).random((6, 5, 5, 4), np.float32)


def biased(variables, bias: float):
    """The gate's last layer gives `bias` and nothing else."""
    params = dict(variables["params"])
    last = {"kernel": jnp.zeros_like(params["Dense_1"]["kernel"])}
    params["Dense_1"] = last | {"bias": jnp.full((1,), bias)}
    return {**variables, "params": params}


@pytest.fixture(scope="module")
def block():
    module = Skippable(4)
    return module, drawn(lambda: module.init(jax.random.key(0), X, train=False))


def test_a_closed_block_is_the_identity_and_an_open_one_the_plain_block(block):
    module, variables = block
    evaluate = jax.jit(lambda v, x: module.apply(v, x, train=False))
    closed = evaluate(biased(variables, -1.0), X)
    np.testing.assert_array_equal(closed.x, X)
    np.testing.assert_array_equal(closed.gates, np.zeros((6, 1)))
    open_ = evaluate(biased(variables, 1.0), X)
    np.testing.assert_array_equal(open_.gates, np.ones((6, 1)))
    own = {
        kind: {name: tree[name] for name in ("ConvNorm_0", "ConvNorm_1")}
        for kind, tree in variables.items()
    }
    plain = jax.jit(lambda v, x: BasicBlock(4).apply(v, x, train=False))(own, X)
    np.testing.assert_allclose(open_.x, plain, rtol=1e-5, atol=1e-6)
    assert np.abs(open_.x - X).max() > 1e-3


def test_one_input_alone_does_not_compute_a_closed_block(block):
    """Weights that are no numbers do no harm where they are not read."""
    module, variables = block
    evaluate = jax.jit(lambda v, x: module.apply(v, x, train=False))
    for bias in (-1.0, 1.0):
        one = evaluate(biased(variables, bias), X[:1])
        many = evaluate(biased(variables, bias), X)
        np.testing.assert_allclose(one.x, many.x[:1], rtol=1e-5, atol=1e-6)
    params = dict(biased(variables, -1.0)["params"])
    params["ConvNorm_0"] = jax.tree.map(lambda w: w * jnp.nan, params["ConvNorm_0"])
    broken = {**variables, "params": params}
    np.testing.assert_array_equal(evaluate(broken, X[:1]).x, X[:1])
    assert np.isnan(evaluate(broken, X).x).all()


def test_closed_groups_of_channels_are_not_read():
    module = Skippable(4, groups=2)
    variables = drawn(lambda: module.init(jax.random.key(1), X, train=False))
    last = dict(variables["params"]["Dense_1"])
    half = {**last, "kernel": 0 * last["kernel"], "bias": jnp.array([-1.0, 1.0])}
    params = {**variables["params"], "Dense_1": half}
    state = {k: v for k, v in variables.items() if k != "params"}
    evaluate = jax.jit(
        lambda p, x: module.apply({"params": p, **state}, x, train=False)
    )
    found = evaluate(params, X)
    np.testing.assert_array_equal(found.gates, np.full((6, 1), 0.5))
    inner = jnp.asarray(params["ConvNorm_0"]["Conv_0"]["kernel"])
    for channels, same in ((slice(0, 2), True), (slice(2, 4), False)):
        other = {"Conv_0": {"kernel": inner.at[..., channels].mul(3.0)}}
        changed = {**params, "ConvNorm_0": {**params["ConvNorm_0"], **other}}
        assert np.array_equal(evaluate(changed, X).x, found.x) == same
    one = evaluate(params, X[:1])
    np.testing.assert_allclose(one.x, found.x[:1], rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="3 groups do not divide 16"):
        skipnet(classes=2, groups=3)


def test_a_rounded_gate_has_the_gradient_of_its_probability(block):
    module, variables = block
    share = lambda v: module.apply(v, X, train=False).gates.mean()  # noqa: E731
    gradient = jax.jit(jax.grad(lambda b: share(biased(variables, b))))(0.5)
    p = jax.nn.sigmoid(0.5)
    assert gradient == pytest.approx(float(p * (1 - p)), rel=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_noise_in_training_opens_gates_as_often_as_their_probability(soft):
    module = Skippable(1, temperature=0.5, soft=soft)
    x = np.ones((4000, 1, 1, 1), np.float32)
    key = jax.random.key(0)
    variables = biased(drawn(lambda: module.init(key, x, train=False)), 0.4)

    @jax.jit
    def gates_of(key):
        form = {"rngs": {"noise": key}, "mutable": ["batch_stats"]}
        return gates(module.apply(variables, x, train=True, **form)[0])

    first, again, other = (np.asarray(gates_of(jax.random.key(s))) for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    p = float(jax.nn.sigmoid(0.4))
    sigma = (p * (1 - p) / len(x)) ** 0.5
    assert abs((first > 0.5).mean() - p) < 4 * sigma
    assert (np.unique(first).size > 100) == soft
    assert first.min() >= 0 and first.max() <= 1


def test_the_share_of_blocks_or_of_their_costs():
    rows = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    feature = Carry(rows, rows, rows, rows)
    np.testing.assert_allclose(executed_share(feature), [2 / 3, 1 / 3], rtol=1e-6)
    costs = executed_share(feature, (1.0, 2.0, 5.0))
    np.testing.assert_allclose(costs, [6 / 8, 5 / 8], rtol=1e-6)
    half = Carry(*(a.astype(jnp.bfloat16) for a in feature))
    assert gates(half).dtype == jnp.float32
    with pytest.raises(UsageError, match="no gates"):
        executed_share(rows)
    with pytest.raises(UsageError, match="2 costs for 3 gates"):
        executed_share(feature, (1.0, 2.0))


def small() -> Net:
    stages = (Stage("stem", ConvNorm(4, 3)), Stage("a", Skippable(4)))
    stages += (Stage("b", Always(BasicBlock(6, 2))), Stage("c", Skippable(6)))
    return Net((*stages, Stage("fc", PooledLast())))


class PooledLast(PooledLinear):
    """A head as the last stage."""

    classes: int = 3

    def __call__(self, x, *, train):  # type: ignore[override]
        return super().__call__(x, None, train=train)


def test_gates_collect_along_a_net_whose_controller_remembers():
    net = small()
    variables = drawn(lambda: init(net, jax.random.key(0), X))

    def last_gate(params):
        out, _ = run(net, variables._replace(params=params), X)
        return gates(out.features["c"])[:, 1].sum(), out

    gradient, out = jax.jit(jax.grad(last_gate, has_aux=True))(variables.params)
    a, b, c = (out.features[name] for name in "abc")
    np.testing.assert_array_equal(b.gates, a.gates)
    np.testing.assert_array_equal(b.hidden, a.hidden)
    np.testing.assert_array_equal(gates(c)[:, :1], gates(a))
    assert b.x.shape == (6, 3, 3, 6) and out.predictions["final"].shape == (6, 3)
    # The second gate depends on the first controller through its state alone too.
    for part in "ac":
        assert np.abs(gradient[part]["lstm"]["kernel"]).max() > 0


def test_training_one_gated_stage_changes_no_other():
    net = Net((Stage("a", Skippable(4)), Stage("b", Skippable(4))))
    variables = drawn(lambda: init(net, jax.random.key(0), X))
    train = frozenset({"b"})
    step = jax.jit(lambda v, k: run(net, v, X, train=train, key=k))
    plain = jax.jit(lambda v: run(net, v, X, stop="a")[0])(variables)
    out, state = step(variables, jax.random.key(1))
    same = jax.tree.map(np.array_equal, out.features["a"], plain.features["a"])
    assert all(jax.tree.leaves(same))
    same = jax.tree.map(np.array_equal, state["a"], variables.state["a"])
    assert all(jax.tree.leaves(same))
    moved = jax.tree.map(np.array_equal, state["b"], variables.state["b"])
    assert not any(jax.tree.leaves(moved))


def test_seven_of_nine_blocks_of_depth_20_are_gated():
    net = classifier_net("skipnet", 10)
    gated = [s.name for s in net.stages if isinstance(s.module, Skippable)]
    assert len(gated) == 7 and "layer2.0" not in gated and "layer1.0" in gated
    assert net.names == classifier_net("resnet20", 10).names
    assert len([s for s in skipnet(classes=2, depth=74) if "layer" in s.name]) == 36
    with pytest.raises(UsageError, match="38, 44, 56, 74"):
        skipnet(classes=10, depth=50)
