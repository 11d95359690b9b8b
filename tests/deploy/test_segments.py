"""Stretches, whole nets, stages in float and operations: segments beyond one head."""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from members import NEW

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from ai_edge_litert.interpreter import Interpreter

from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.codec import real_difference
from sc_jax.compressors import Affine
from sc_jax.compressors.splits import codecs_of
from sc_jax.deploy.device.runtime import Runner, in_turn
from sc_jax.deploy.export import convert, operations, segments
from sc_jax.deploy.export.convert import ExportError
from sc_jax.deploy.export.operations import OPERATIONS
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.efficientnet_lite import efficientnet_lite
from sc_jax.nets.backbones.registry import exit_net
from sc_jax.nets.layers.pooling import max_pool, mean_pool
from sc_jax.nets.net import INPUT, Net, Stage, cut_at, head, tail
from sc_jax.nets.run import Variables, init, run


@pytest.mark.parametrize(
    ("name", "family", "side", "colours"),
    [("cnn", "cnn", 28, 1), ("resnet20", "resnet", 32, 3),
     ("mobilenetv2", "mobilenetv2", 32, 3)],
)  # fmt: skip
def test_a_whole_backbone_exports_with_the_operations_listed(
    nets, images, name, family, side, colours
):
    net, variables, x = nets(name, side, colours, images)
    made = segments.segment(net, variables, x, stop=net.names[-1])
    assert made.signature.outputs == ("final",)
    assert made.parity.different == 0 and made.parity.symbols == 4 * 10
    found = set(convert.operations(made.model))
    groups = (family, "any batch", "uint8 images")
    assert found <= {op for group in groups for op in OPERATIONS[group].split()}


@pytest.mark.parametrize(
    ("name", "side", "colours"),
    [("alexnet", 32, 3), ("icnn", 28, 1), ("ddnn", 28, 1), ("ranet_nano", 28, 1),
     *((name, 28, 1) for name in NEW)],
)  # fmt: skip
def test_a_backbone_exports_whole_with_its_exits(nets, images, name, side, colours):
    _, _, x = nets("cnn", side, colours, images)
    net = exit_net(name, 10)
    variables = init(net, jax.random.key(0), x[:1])
    made = segments.segment(net, variables, x, stop=net.names[-1])
    assert made.signature.outputs == net.exit_names
    assert made.parity.symbols == len(x) * 10 * len(net.exit_names)
    assert made.parity.different == 0


@pytest.mark.parametrize("side", [14, 15])
def test_blocks_padded_as_tensorflow_pads_export(side):
    """EfficientNet-Lite's: a stem and 5x5 blocks of stride 2 and 1, sides even, odd."""
    stages = efficientnet_lite(classes=2)
    own = {stage.name: stage for stage in stages}
    net = Net(tuple(own[name] for name in ("stem", "layer3.0", "layer3.1")))
    x = np.random.default_rng(0).normal(size=(4, side, side, 3)).astype(np.float32)
    variables = init(net, jax.random.key(0), x[:1])
    made = segments.segment(net, variables, x, stop="layer3.1")
    assert made.parity.different == 0 and made.parity.symbols == 4 * 4 * 4 * 40
    # TensorFlow's padding is the operation's own: nothing is padded before it.
    assert "PAD" not in convert.operations(made.model)


def test_any_stretch_between_two_stages_is_a_segment(nets, images):
    net, variables, x = nets("cnn", 28, 1, images)
    through = jax.jit(lambda v, x: run(net, v, x)[0].features)
    features = through(variables, x)
    made = segments.segment(
        net, variables, np.asarray(features["stem"]), start="stem", stop="layer2"
    )
    assert made.signature.inputs == made.signature.outputs == ("feature",)
    got = Runner(made.model)(np.asarray(features["stem"]))["feature"]
    np.testing.assert_allclose(got, features["layer2"], rtol=1e-4, atol=1e-4)
    for start, stop in (("stem", "stem"), ("layer2", "stem"), (INPUT, INPUT)):
        with pytest.raises(UsageError):
            segments.stretch(net, start, stop)


def test_a_stage_kept_in_float_is_in_float(nets, images):
    """Of an int8 stretch: no int8 tensor bears its name, others' do."""
    net, variables, x = nets("cnn", 28, 1, images)

    def int8_names(kept):
        made = segments.segment(
            net, variables, x, stop="layer2", dtype="int8", float_stages=kept
        )
        details = Interpreter(model_content=made.model).get_tensor_details()
        return made, {d["name"] for d in details if d["dtype"] == np.int8}

    plain, names = int8_names(())
    for stage in ("stem", "layer1", "layer2"):
        assert any(f"/{stage}/" in name for name in names), stage
    mixed, names = int8_names(("layer1",))
    weights = [n for n in names if "/layer1/" in n and "conv_general_dilated1" in n]
    assert not weights and any("/stem/" in name for name in names)
    assert len(mixed.model) > len(plain.model)
    last, names = int8_names(("layer2",))
    assert not any("/layer2/" in n and "conv_general_dilated1" in n for n in names)
    assert last.parity.largest < plain.parity.largest
    with pytest.raises(UsageError, match="Known: "):
        int8_names(("nothing",))


def test_an_int8_feature_goes_in_and_out_as_float(nets, images):
    net, variables, x = nets("cnn", 28, 1, images)
    first = segments.segment(net, variables, x, stop="layer1", dtype="int8")
    feature = Runner(first.model)(x)["feature"]
    exact = jax.jit(lambda v, x: run(net, v, x)[0].features["layer1"])(variables, x)
    assert feature.dtype == np.float32
    assert np.abs(feature - exact).mean() < 0.02 * np.abs(exact).max()
    rest = segments.segment(
        net, variables, np.asarray(exact), start="layer1", stop="fc", dtype="int8"
    )
    after = tail(net, "layer1")
    logits = jax.jit(lambda v, z: run(after, v, z)[0].predictions["final"])
    got, wanted = Runner(rest.model)(feature)["final"], logits(variables, exact)
    assert np.abs(got - wanted).mean() < 0.1 * np.abs(wanted).max()


def test_an_int8_affine_head_reckons_its_scale_in_float(nets, images):
    """Of the latent as it is: not rounded to, nor cut at, a calibrated range."""
    net, variables, x = nets("cnn", 28, 1, images)
    net = cut_at(net, "layer1", Affine(8))
    bare = {"split@layer1": {}}
    variables = Variables(variables.params | bare, variables.state | bare)
    codec: Any = codecs_of(net, variables, x[:1])["split@layer1"]
    made = segments.segment(net, variables, x, stop="layer1", codec=codec, dtype="int8")
    details = Interpreter(model_content=made.model).get_signature_runner("segment")
    types = {k: d["dtype"] for k, d in details.get_output_details().items()}
    assert types == {"symbols": np.int32, "zero": np.int32, "scale": np.float32}
    assert "QUANTIZE" in convert.operations(made.model)
    outputs = Runner(made.model)(x)
    row = {name: value[0] for name, value in outputs.items()}
    exact = run(head(net, "layer1"), variables, x[:1])[0].features["layer1"][0]
    decoded = codec.decode(codec.pack(**row))
    assert np.abs(decoded - exact).mean() < 0.02 * np.abs(exact).max()


def test_numbers_that_are_none_and_far_symbols_are_differences(student):
    nothing = np.array([np.nan, 1.0, np.inf]), np.array([0.5, 1.0, 3.0])
    for got, exact in (nothing, nothing[::-1]):
        assert (real_difference(got, exact)[0] > 0).tolist() == [True, False, True]
    sums = np.array([300.0, 1e-3])  # the small one may be a sum of large ones
    for off, near in ((1e-2, True), (1e-1, False)):
        assert (
            real_difference(sums + np.array([0.0, off]), sums)[0] == 0
        ).all() == near
    affine = AffineCodec((5,))
    z = np.linspace(-131, -130, 5, dtype=np.float32)
    symbols, zero, scale = affine.quantise(z)
    for wrong, found in ((1, 0), (1.002, 1)):
        told = {"symbols": symbols, "zero": zero, "scale": wrong * scale}
        assert (affine.difference(z, told)[0] > 0).sum() == found
    codec = student[3]
    z = np.full(codec.shape, 0.50001, np.float32) + codec.medians
    symbols = codec.symbols(z) + 1
    near, far = (codec.difference(z, {"symbols": s}) for s in (symbols, symbols + 300))
    assert near[1].any() and not far[1].any() and (far[0] > 0).all()


def test_a_split_behind_the_last_stage_ends_a_segment(student, images):
    recipe, variables, cut, codec = student
    alone = replace(head(recipe.net, cut), splits=recipe.net.splits)
    made = segments.head_segment(alone, variables, cut, codec, images[:4])
    assert made.signature.outputs == ("symbols",) and made.parity.symbols > 0


def test_an_operation_outside_the_list_is_refused_by_name(nets, images):
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return jnp.cumsum(x.astype(jnp.float32), axis=1)

    net = Net((Stage("odd", Odd()),))
    variables = init(net, jax.random.key(0), images[:1])
    with pytest.raises(ExportError, match="CUMSUM: not among") as caught:
        segments.segment(net, variables, images[:4], stop="odd")
    assert "\n" not in str(caught.value)
    assert "CUMSUM" not in " ".join(operations.OPERATIONS.values())


def test_a_split_inside_a_stretch_must_be_its_end(student):
    recipe, *_ = student
    with pytest.raises(UsageError, match="stop there"):
        segments.stretch(recipe.net, INPUT, recipe.net.names[-1])


def _tokens(x):
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _attend(x):
    t = _tokens(x)
    weights = nn.softmax(jnp.einsum("bic,bjc->bij", t, t))
    return jnp.einsum("bij,bjc->bic", weights, t)


def _layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def _roots(x):
    return jnp.sqrt(jnp.abs(x)) + jnp.log(jnp.abs(x) + 1)


def _steps(x):
    return jnp.floor(x) + jnp.ceil(x) + jnp.sign(x)


def _pools(x):
    means = [mean_pool(x, (4, 4), (4, 4), "SAME"), mean_pool(x, (3, 3), (1, 1))]
    return [max_pool(x, (2, 2), (2, 2), "SAME"), *means]


GROUPS = {
    "activations": (nn.relu, nn.relu6, nn.gelu, nn.silu, nn.hard_swish, nn.leaky_relu,
                    nn.tanh, nn.softplus, nn.elu),
    "norms, softmax": (nn.softmax, nn.log_softmax, _layer_norm, _roots, _steps),
    "pools": tuple(lambda x, i=i: _pools(x)[i] for i in range(3)),
    "attention": (_attend,),
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_the_operations_listed_for_users_are_right_and_all_needed(group):
    """Exactly those listed, found equal to JAX in one program of the whole group."""
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 5)).astype(np.float32)

    def program(feature):
        return {f"out{i}": f(feature) for i, f in enumerate(GROUPS[group])}

    lowered, signature = segments.lower(program, x)
    model = convert.convert(lowered, signature)
    got, wanted = Runner(model)(x), jax.jit(program)(x)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-5)
    batch = set(OPERATIONS["any batch"].split())
    found = set(convert.operations(model))
    assert found - batch == set(OPERATIONS[group].split()) - batch


def test_features_of_several_scales_go_from_segment_to_segment(images):
    """MSDNet: a tuple of images is a tensor each, and the answer is the whole net's."""
    net = exit_net("msdnet_nano", 10)
    x = images[:4]
    variables = init(net, jax.random.key(0), x[:1])
    whole = jax.jit(lambda v, x: run(net, v, x)[0])(variables, x)
    middle, last = net.exits[0].after, net.names[-1]
    first = segments.segment(net, variables, x, stop=middle)
    feature = jax.device_get(whole.features[middle])
    scales = tuple(f"feature{i}" for i in range(len(feature)))
    assert len(scales) > 1
    assert first.signature.outputs == (net.exits[0].name, *scales)
    second = segments.segment(net, variables, feature, start=middle, stop=last)
    assert second.signature.inputs == scales
    outputs = in_turn([Runner(first.model), Runner(second.model)], x)
    assert set(outputs) == set(net.exit_names)
    for name, logits in outputs.items():
        np.testing.assert_allclose(logits, whole.predictions[name], atol=1e-4)
