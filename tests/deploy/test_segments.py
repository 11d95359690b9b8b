"""Stretches, exits and stages in float: what a device runs beyond one plain head."""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from ai_edge_litert.interpreter import Interpreter

from sc_jax.compressors.freeze import freeze_all
from sc_jax.compressors.simple import Affine, Raw
from sc_jax.deploy import bundle, export, operations, segments
from sc_jax.deploy.bundle import NEVER
from sc_jax.deploy.chain import chain, runner
from sc_jax.deploy.device import Device, ServerLost, greatest_probability
from sc_jax.deploy.export import ExportError
from sc_jax.deploy.operations import OPERATIONS
from sc_jax.deploy.runtime import Runner, latent_of
from sc_jax.errors import UsageError
from sc_jax.nets.backbones import classifier_net
from sc_jax.nets.blocks import Classifier
from sc_jax.nets.net import INPUT, Exit, Net, Stage, cut_at, head, tail
from sc_jax.nets.run import Variables, init, run


class Pool(nn.Module):
    """A pooled linear exit."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        return Classifier(10)(x.mean((1, 2)), train=train)


class Absolute(nn.Module):
    """|x|: some stage between two exits."""

    @nn.compact
    def __call__(self, x, *, train):
        return jnp.abs(x)


@pytest.fixture(scope="module")
def branchy(student):
    """The student with an exit at its cut: (net, variables, codec)."""
    recipe, variables, _, codec = student
    net = replace(recipe.net, exits=(Exit("encoder", Pool()),))
    fresh = init(net, jax.random.key(5), np.zeros((1, 28, 28, 1), np.uint8))
    return net, over(fresh, variables), codec


def over(fresh: Variables, known: Variables) -> Variables:
    """`fresh` with every part that `known` has."""
    return Variables(fresh.params | known.params, fresh.state | known.state)


def test_a_head_of_two_exits_is_two_segments_that_equal_the_whole(student, images):
    """An exit in mid-head ends a segment; its feature feeds the next."""
    recipe, variables, _, codec = student
    stem = Stage("first", Absolute())
    normalise, *rest = recipe.net.stages
    exits = (Exit("first", Pool()), Exit("encoder", Pool()))
    net = Net((normalise, stem, *rest), exits, recipe.net.splits)
    fresh = init(net, jax.random.key(2), images[:1])
    both = over(fresh, variables)
    made = chain(net, both, codec, images[:32])
    assert list(made) == ["head0", "head1"]
    assert made["head0"].signature.outputs == ("exit@first", "feature")
    assert made["head1"].signature.inputs == ("feature",)
    outputs = runner(made)(images[:32])
    whole = jax.jit(lambda v, x: run(head(net, "encoder"), v, x)[0])(both, images[:32])
    for name in ("exit@first", "exit@encoder"):
        np.testing.assert_allclose(outputs[name], whole.predictions[name], atol=1e-4)
    exact = np.stack([codec.symbols(np.asarray(z)) for z in whole.features["encoder"]])
    same = np.moveaxis(exact, 1, -1) == outputs["symbols"]
    assert same.mean() > 0.9999


@pytest.fixture(scope="module")
def installed(branchy, images):
    """threshold -> a bundle whose head has one exit."""
    net, variables, codec = branchy
    models = {k: s.model for k, s in chain(net, variables, codec, images[:32]).items()}

    def make(threshold, folder):
        return bundle.write(
            folder / f"at{threshold}", models, codec, model="m", split=0,
            thresholds=(threshold,), labels=tuple("0123456789"),
            facts={"input": [28, 28, 1]},
        )  # fmt: skip

    return make


def test_a_sure_exit_answers_and_nothing_is_sent(installed, branchy, images, tmp_path):
    def send(*_):
        raise AssertionError("sent")

    net, variables, _ = branchy
    installed(0.0, tmp_path)
    made = bundle.read(tmp_path / "at0.0.zip")
    answer = Device(made, send).infer(images[0])
    whole = run(head(net, "encoder"), variables, images[:1])[0].predictions
    assert answer.prediction == int(whole["exit@encoder"].argmax())
    assert (answer.exit, answer.sent_bytes, answer.note) == ("exit@encoder", 0, "")
    assert set(answer.seconds) == {"head"}


def test_a_lost_server_leaves_the_best_local_answer(installed, images, tmp_path):
    made = installed(NEVER, tmp_path)

    def lost(*_):
        raise ServerLost("UNAVAILABLE: no answer")

    answer = Device(made, lost).infer(images[0])
    assert answer.exit == "exit@encoder" and answer.prediction is not None
    assert answer.note == "UNAVAILABLE: no answer" and answer.sent_bytes > 0
    offline = Device(made).infer(images[0])
    assert offline.prediction == answer.prediction and offline.sent_bytes == 0
    late = Device(made, lost, deadline_s=0.0).infer(images[0])
    assert late.prediction == answer.prediction and "deadline" in late.note
    assert Device(made, lambda *_: 7).infer(images[0]).exit == "edge"
    data, seconds = Device(made).encode(images[0])
    assert len(data) == answer.sent_bytes and set(seconds) == {"head", "code"}


def test_greatest_probability_is_that_of_the_softmax():
    assert greatest_probability(np.zeros(4, np.float32)) == pytest.approx(0.25)
    assert greatest_probability(np.array([1e4, 0], np.float32)) == 1.0
    assert greatest_probability(np.array([np.log(3), 0], np.float32)) == pytest.approx(
        0.75
    )


@pytest.fixture(scope="module")
def nets(student):
    """name -> (net, variables, images): random photographs' sizes, real pixels."""

    def make(name, side, colours, images):
        net = classifier_net(name, 10)
        x = np.repeat(np.resize(images[:4], (4, 28, 28, 1)), colours, -1)
        x = np.asarray(jax.image.resize(x, (4, side, side, colours), "nearest"))
        return net, init(net, jax.random.key(0), x[:1]), x

    return make


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
    found = set(export.operations(made.model))
    groups = (family, "any batch", "uint8 images")
    assert found <= {op for group in groups for op in OPERATIONS[group].split()}


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


def test_an_exit_that_reads_the_one_before_is_not_cut_silently(nets, images):
    class Deeper(nn.Module):
        @nn.compact
        def __call__(self, x, previous, *, train):
            own = Classifier(10)(x.mean((1, 2)), train=train)
            return own if previous is None else own + previous

    net, _, x = nets("cnn", 28, 1, images)
    exits = (Exit("stem", Deeper()), Exit("layer1", Deeper()))
    net = cut_at(Net(net.stages, exits), "layer1", Raw())
    variables = init(net, jax.random.key(0), x[:1])
    codec = freeze_all(net, variables, x[:1])["split@layer1"]
    with pytest.raises(ExportError, match="exit@layer1 reads the exit before"):
        chain(net, variables, codec, x)


def test_an_int8_chain_keeps_a_stage_of_one_segment_in_float(nets, images):
    """Each segment is asked only for the stages that it holds."""
    net, _, x = nets("cnn", 28, 1, images)
    exits = (Exit("stem", Pool()), Exit("layer1", Pool()))
    net = cut_at(Net(net.stages, exits), "layer1", Raw())
    variables = init(net, jax.random.key(0), x[:1])
    codec = freeze_all(net, variables, x[:1])["split@layer1"]
    made = chain(net, variables, codec, x, dtype="int8", float_stages=("normalise",))
    outputs = runner(made)(x)
    exact = jax.jit(lambda v, x: run(head(net, "layer1"), v, x)[0])(variables, x)
    for name in ("exit@stem", "exit@layer1"):
        value = exact.predictions[name]
        assert np.abs(outputs[name] - value).mean() < 0.1 * np.abs(value).max()
    assert len(latent_of(outputs)) == 1
    with pytest.raises(UsageError, match="unknown part"):
        chain(net, variables, codec, x, dtype="int8", float_stages=("nothing",))


def test_an_int8_affine_head_reckons_its_scale_in_float(nets, images):
    """Of the latent as it is: not rounded to, nor cut at, a calibrated range."""
    net, variables, x = nets("cnn", 28, 1, images)
    net = cut_at(net, "layer1", Affine(8))
    variables = over(Variables({"split@layer1": {}}, {"split@layer1": {}}), variables)
    codec: Any = freeze_all(net, variables, x[:1])["split@layer1"]
    made = segments.segment(net, variables, x, stop="layer1", codec=codec, dtype="int8")
    details = Interpreter(model_content=made.model).get_signature_runner("segment")
    types = {k: d["dtype"] for k, d in details.get_output_details().items()}
    assert types == {"symbols": np.int32, "zero": np.int32, "scale": np.float32}
    assert "QUANTIZE" in export.operations(made.model)
    outputs = Runner(made.model)(x)
    row = {name: value[0] for name, value in outputs.items()}
    exact = run(head(net, "layer1"), variables, x[:1])[0].features["layer1"][0]
    decoded = codec.decode(codec.pack(**row))
    assert np.abs(decoded - exact).mean() < 0.02 * np.abs(exact).max()


def test_numbers_that_are_none_and_far_symbols_are_differences(student):
    nothing = np.array([np.nan, 1.0, np.inf]), np.array([0.5, 1.0, 3.0])
    for got, exact in (nothing, nothing[::-1]):
        assert (segments._real(got, exact)[0] > 0).tolist() == [True, False, True]
    codec = student[3]
    z = np.full(codec.shape, 0.50001, np.float32) + codec.medians
    symbols = np.moveaxis(codec.symbols(z), 0, -1) + 1
    near, far = (
        segments._distance(codec, z, {"symbols": s}) for s in (symbols, symbols + 300)
    )
    assert near[1].any() and not far[1].any() and (far[0] > 0).all()


def test_thresholds_are_checked_before_anything_is_converted(branchy):
    from sc_jax.deploy.package import _checked

    before = head(branchy[0], "encoder")
    assert _checked(None, before) == (NEVER,) and _checked((0.5,), before) == (0.5,)
    for wrong in ((), (0.1, 0.2), (float("nan"),), (float("inf"),)):
        with pytest.raises(UsageError, match="threshold"):
            _checked(wrong, before)


def test_a_bundle_of_too_few_thresholds_is_refused(branchy, images, tmp_path):
    net, variables, codec = branchy
    models = {k: s.model for k, s in chain(net, variables, codec, images[:4]).items()}
    made = bundle.write(
        tmp_path / "b", models, codec, model="m", split=0, labels=(),
        facts={"input": [28, 28, 1]},
    )  # fmt: skip
    with pytest.raises(UsageError, match="0 thresholds for 1 exits"):
        Device(made)


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


GROUPS = {
    "activations": (nn.relu, nn.relu6, nn.gelu, nn.silu, nn.hard_swish, nn.leaky_relu,
                    nn.tanh, nn.softplus, nn.elu),
    "norms, softmax": (nn.softmax, nn.log_softmax, _layer_norm, _roots, _steps),
    "attention": (_attend,),
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_the_operations_listed_for_users_are_right_and_all_needed(group):
    """Exactly those listed, found equal to JAX in one program of the whole group."""
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 5)).astype(np.float32)

    def program(feature):
        return {f"out{i}": f(feature) for i, f in enumerate(GROUPS[group])}

    lowered, signature = segments.lower(program, x)
    model = export.convert(lowered, signature)
    got, wanted = Runner(model)(x), jax.jit(program)(x)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-5)
    batch = set(OPERATIONS["any batch"].split())
    found = set(export.operations(model))
    assert found - batch == set(OPERATIONS[group].split()) - batch
