"""Law: head, then tail, is the whole net, bit for bit, at every cut of every backbone.

Parameters are random numbers of the right shapes (an init of a deep net compiles for
half a minute), batch statistics too, so that nothing is hidden by zeros and ones.
"""

from functools import lru_cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.compressors import Affine
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import BACKBONES, classifier_net
from sc_jax.nets.layers.blocks import Classifier
from sc_jax.nets.net import FINAL, INPUT, Exit, Net, Stage, cut_at, head, resolve, tail
from sc_jax.nets.run import Variables, run, variable_shapes

CLASSES = 5
# Cuts at which head and tail are compiled too, once each; the others by induction.
CUTS = {
    "cnn": (INPUT, "normalise", "stem", "layer1", "layer2", "layer3", "fc"),
    "resnet20": ("stem", "layer2.2", "layer3.1", "layer3.2", "avgpool"),
    "icnn": ("step2",),  # a pytree
}
# More of the modules that a shallower member stands for (a test holds that): minutes to
# compile.
DEEP = (
    *("resnet32", "resnet56", "resnet110", "resnet34", "resnet101", "resnet152"),
    *("vgg16", "wrn28_10", "skipnet", "msdnet", "ranet"),
    *("efficientnet_lite1", "efficientnet_lite2"),
    *("msdnet_imagenet", "ranet_imagenet"),
)
OWN = """
import flax.linen as nn
from sc_jax.nets.net import Stage

class Halved(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(self.features, (3, 3), (2, 2))(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train)(x))

class Pooled(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.classes)(x.mean((1, 2)))

def mine(*, classes):
    body = (Stage(f"part{i}", Halved(8 * i)) for i in (1, 2, 3))
    return (*body, Stage("fc", Pooled(classes)))
"""
WINDOW = 20  # stages compiled together: all 54 of resnet152 would take 20 s


@lru_cache
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def filled(shapes: Variables) -> Variables:
    """Random variables that keep activations at a moderate size."""
    rng = np.random.default_rng(1)

    def leaf(path, like):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 1.0, like.shape).astype(np.float32)
        fan = max(1, int(np.prod(like.shape[:-1])))
        values = rng.standard_normal(like.shape, np.float32)
        return values * np.float32(fan**-0.5)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def prepared(net: Net) -> Variables:
    return filled(variable_shapes(net, images()))


@jax.jit(static_argnums=0)
def one_stage(module: nn.Module, params, state, x):
    """A stage alone, compiled once for all stages of the same module and shapes."""
    net = Net((Stage("alone", module),))
    out, _ = run(net, Variables({"alone": params}, {"alone": state}), x)
    return out.features["alone"]


def features(net: Net, variables: Variables) -> dict[str, np.ndarray]:
    """Every stage's output; up to WINDOW stages, so all of most nets, as one jit."""
    found = {INPUT: images()}
    names = (INPUT, *net.names)
    for at in range(0, len(net.names), WINDOW):
        start, stop = names[at], names[min(at + WINDOW, len(net.names))]
        window = jax.jit(
            lambda v, x, a=start, b=stop: run(net, v, x, start=a, stop=b)[0].features
        )
        found |= jax.device_get(window(variables, found[start]))
    return found


def assert_same(got, expected, name: str):
    """Bit for bit, leaf by leaf: features may be pytrees."""
    assert jax.tree.structure(got) == jax.tree.structure(expected), name
    for a, b in zip(*map(jax.tree.leaves, (got, expected))):
        np.testing.assert_array_equal(a, b, name)


def test_deeper_members_are_of_modules_that_are_tested():
    def modules(names) -> set[type]:
        nets = (classifier_net(name, CLASSES) for name in names)
        return {type(stage.module) for net in nets for stage in net.stages}

    assert modules(DEEP) <= modules(set(BACKBONES) - set(DEEP))


@pytest.mark.parametrize("name", [*(n for n in BACKBONES if n not in DEEP), "FILE.py"])
def test_each_stage_alone_gives_the_wholes_own_bits(name, tmp_path):
    """So any head and any tail, which are chains of stages, do (by induction)."""
    if name == "FILE.py":  # a backbone of one's own is tested by being named
        (tmp_path / "mine.py").write_text(OWN)
        name = f"{tmp_path}/mine.py:mine"
    net = classifier_net(name, CLASSES)
    assert len(set(net.names)) == len(net.names)
    variables = prepared(net)
    whole = features(net, variables)
    last = jax.tree.leaves(whole[net.names[-1]])[-1]
    assert np.isfinite(last).all()
    assert not np.array_equal(*last)
    before = INPUT
    for stage in net.stages:
        own = variables.params[stage.name], variables.state[stage.name]
        alone = one_stage(stage.module, *own, whole[before])
        assert_same(alone, whole[stage.name], stage.name)
        before = stage.name


@pytest.mark.parametrize("name", CUTS)
def test_compiled_head_then_compiled_tail_is_the_compiled_whole(name):
    net = classifier_net(name, CLASSES)
    variables = prepared(net)
    whole = features(net, variables)
    # Nothing else is read here: the compiler is free to fuse the stages.
    plain = jax.jit(lambda v, x: run(net, v, x)[0].predictions[FINAL])
    expected = plain(variables, images())
    np.testing.assert_array_equal(expected, whole[net.names[-1]])
    for cut in CUTS[name]:
        before, after = head(net, cut), tail(net, cut)
        assert before.names + after.names == net.names
        z = jax.jit(lambda v, x, n=before, c=cut: run(n, v, x)[0].features[c])(
            variables, images()
        )
        z = jax.device_get(z)
        assert_same(z, whole[cut], cut)
        answer = jax.jit(lambda v, z, n=after: run(n, v, z)[0].predictions[FINAL])
        logits = answer(variables, z)
        np.testing.assert_array_equal(logits, expected, cut)


@pytest.mark.parametrize("name", BACKBONES)
def test_heads_and_tails_are_the_stages_before_and_after(name):
    net = classifier_net(name, CLASSES)
    for at, cut in enumerate((INPUT, *net.names)):
        assert head(net, cut).stages == net.stages[:at]
        assert tail(net, cut).stages == net.stages[at:]


@pytest.mark.parametrize("name", ["resnet50"])
def test_an_imagenet_net_at_its_usual_cut(name):
    net = classifier_net(name, CLASSES)
    variables = prepared(net)
    cut = resolve(net, BACKBONES[name].cut)
    before, after = head(net, cut), tail(net, cut)
    whole = jax.jit(lambda v, x: run(net, v, x)[0].predictions[FINAL])
    device = jax.jit(lambda v, x: run(before, v, x)[0].features[cut])
    server = jax.jit(lambda v, z: run(after, v, z)[0].predictions[FINAL])
    z = np.asarray(device(variables, images()))
    np.testing.assert_array_equal(server(variables, z), whole(variables, images()))


class Deeper(nn.Module):
    """An exit that reads the one before it."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        logits = Classifier(CLASSES)(x.mean((1, 2)), train=train)
        return logits if previous is None else logits + previous


def branchy() -> Net:
    net = classifier_net("cnn", CLASSES)
    exits = (Exit("stem", Deeper()), Exit("layer2", Deeper()))
    net = Net(net.stages, exits)
    return cut_at(cut_at(net, "stem", Affine(8)), "layer2", Affine(4))


def test_exits_and_splits_of_a_three_way_cut():
    """Device | edge | cloud: each gets what the one before sends, decoded."""
    net = branchy()
    variables = prepared(net)
    assert set(net.parts) == set(variables.params)
    run_whole = jax.jit(lambda v, x: run(net, v, x)[0])
    whole = run_whole(variables, images())
    assert set(whole.predictions) == {"exit@stem", "exit@layer2", FINAL}
    assert set(whole.bits) == {"split@stem", "split@layer2"}
    assert whole.bits["split@stem"].shape == (2,)

    device, rest = head(net, "stem"), tail(net, "stem")
    assert [e.after for e in device.exits] == ["stem"] and not device.splits
    assert [e.after for e in rest.exits] == ["layer2"]
    assert [s.after for s in rest.splits] == ["layer2"]
    out = jax.jit(lambda v, x: run(device, v, x)[0])(variables, images())
    np.testing.assert_array_equal(
        out.predictions["exit@stem"], whole.predictions["exit@stem"]
    )
    quantised = [net.splits[0].compressor, net.splits[1].compressor]
    z = out.features["stem"]
    z_hat, bits = jax.jit(partial(quantised[0].apply, {}, train=False))(z)
    np.testing.assert_array_equal(bits, whole.bits["split@stem"])
    out = jax.jit(lambda v, z: run(rest, v, z)[0])(variables, z_hat)
    np.testing.assert_array_equal(out.predictions[FINAL], whole.predictions[FINAL])
    np.testing.assert_array_equal(out.bits["split@layer2"], whole.bits["split@layer2"])
    edge, cloud = head(rest, "layer2"), tail(rest, "layer2")
    z = jax.jit(lambda v, z: run(edge, v, z)[0].features["layer2"])(variables, z_hat)
    z_hat, _ = jax.jit(partial(quantised[1].apply, {}, train=False))(z)
    last = jax.jit(lambda v, z: run(cloud, v, z)[0].predictions[FINAL])
    np.testing.assert_array_equal(last(variables, z_hat), whole.predictions[FINAL])


def test_start_and_stop_give_the_same_bits_as_head_and_tail():
    net = branchy()
    variables = prepared(net)
    out = jax.jit(lambda v, x: run(net, v, x, stop="layer1")[0])(variables, images())
    assert set(out.features) == {INPUT, "normalise", "stem", "layer1"}
    assert FINAL not in out.predictions
    rest = jax.jit(lambda v, z: run(net, v, z, start="layer1")[0])
    got = rest(variables, out.features["layer1"])
    whole = jax.jit(lambda v, x: run(net, v, x)[0])(variables, images())
    np.testing.assert_array_equal(got.predictions[FINAL], whole.predictions[FINAL])
    assert set(got.bits) == {"split@layer2"}
    assert "normalise" not in got.features


def test_bfloat16_features_leave_exits_and_latents_in_float32():
    net = branchy()
    variables = prepared(net)
    trace = lambda v, x: run(net, v, x, dtype=jnp.bfloat16)[0]  # noqa: E731
    out = jax.eval_shape(trace, variables, images())
    assert out.features["layer2"].dtype == jnp.bfloat16
    assert {p.dtype for p in out.predictions.values()} == {np.dtype("float32")}
    assert {b.dtype for b in out.bits.values()} == {np.dtype("float32")}


def test_mistakes_are_one_line_with_the_known_names():
    net = branchy()
    variables = prepared(net)
    wrong = [
        lambda: head(net, "layr1"),
        lambda: tail(net, "nothing"),
        lambda: run(net, variables, images(), stop="nothing"),
        lambda: run(net, variables, images(), start="layer3", stop="stem"),
        lambda: run(net, variables, images(), train=frozenset({"layr1"})),
        lambda: run(net, variables, images(), train=frozenset({"layer1"})),
        lambda: Net((*net.stages, net.stages[0])),
        lambda: Net(net.stages, (Exit("nowhere", Deeper()),)),
        lambda: cut_at(net, "nowhere", Affine()),
    ]
    for mistake in wrong:
        with pytest.raises(UsageError) as caught:
            mistake()
        assert "\n" not in str(caught.value)
