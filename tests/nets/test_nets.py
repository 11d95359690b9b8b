"""Architectures against published counts; abstract values, little is computed."""

import math
from functools import lru_cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.compressors import FactorizedPrior, Raw
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import backbone, classifier_net
from sc_jax.nets.backbones.resnet import resnet
from sc_jax.nets.bottlenecks.fp import FPDecoder, FPEncoder
from sc_jax.nets.bottlenecks.pairs import PAIRS, AutoDecoder
from sc_jax.nets.layers.blocks import Normalise
from sc_jax.nets.net import Net, Stage, head, inject, insert, match, resolve, tail
from sc_jax.nets.run import init, run, variable_shapes
from sc_jax.traces.cost import macs, parameters


def image(side: int, channels: int = 3):
    return jax.ShapeDtypeStruct((1, side, side, channels), jnp.uint8)


@lru_cache
def shapes(net: Net, x) -> dict[str, tuple[int, ...]]:
    out = jax.eval_shape(lambda v, x: run(net, v, x)[0], variable_shapes(net, x), x)
    return {name: value.shape[1:] for name, value in out.features.items()}


def through(net: Net, x, start="input", stop=None) -> int:
    """MACs of the stages after start."""
    variables = variable_shapes(net, x)
    if start != "input":
        features = jax.eval_shape(lambda v, x: run(net, v, x)[0], variables, x).features
        x = features[start]
    run_to = lambda v, x: run(net, v, x, start=start, stop=stop)[0]  # noqa: E731
    return macs(lambda v, x: list(run_to(v, x).features.values())[-1], variables, x)


def student(pair: str, channels: int, compressor, name="resnet50") -> Net:
    """The published form: the backbone's first stages replaced, stride 2 twice."""
    family = backbone(name)
    made = PAIRS[pair](channels, family.target, family.strides, family.small)
    return inject(classifier_net(name, 1000), family.replaced, made, compressor)


@lru_cache
def entropic() -> Net:
    return student("fp", 24, FactorizedPrior())


def test_entropic_student_has_the_published_parameters():
    params = variable_shapes(entropic(), image(224)).params
    assert parameters(params["encoder"]) == 138_672
    assert parameters(params["decoder"]) == 1_164_032
    prior = dict(params["split@encoder"])
    assert prior["quantiles"].shape == (24, 3)
    assert parameters(prior) == 1_464


def test_entropic_student_has_the_published_macs_at_224():
    net, x = entropic(), image(224)
    assert round(through(net, x, stop="encoder") / 1e6) == 588
    assert round(through(net, x, start="encoder", stop="decoder") / 1e6) == 3583


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("fp_relu", 466),
        ("fp_sigmoid", 588),
        ("patch_relu", 86),
        ("patch", 101),
        ("depthwise_relu", 126),
        ("space_to_depth_relu", 505),
    ],
)
def test_cheaper_heads_have_their_macs_and_the_published_latent(pair, expected):
    net, x = head(student(pair, 24, FactorizedPrior()), "encoder"), image(224)
    assert round(through(net, x, stop="encoder") / 1e6) == expected
    assert shapes(net, x)["encoder"] == shapes(entropic(), x)["encoder"]


@pytest.mark.parametrize(("name", "target"), [("mobilenetv2", 96), ("resnet50", 1024)])
def test_a_residual_pair_works_at_a_sixteenth_of_the_side(name, target):
    """Its encoder computes a quarter of MobileNetV2, the server its decoder."""
    known = backbone(name).deeper(16)
    pair = PAIRS["residual"](48, known.target, (2, 2), False)
    net = inject(classifier_net(name, 1000), known.replaced, pair, FactorizedPrior())
    net, x = head(net, "decoder"), image(224)
    found = shapes(net, x)
    assert found["encoder"] == (14, 14, 48)
    assert found["decoder"] == (14, 14, target) == (14, 14, known.target)
    assert round(through(net, x, stop="encoder") / 1e6) == 72
    decoder = through(net, x, start="encoder", stop="decoder")
    assert decoder > through(net, x, stop="encoder")


def test_an_inserted_pair_starts_as_the_identity():
    encoder, decoder = PAIRS["projection"](8, 8, (1, 1), False)
    net = Net((Stage("encoder", encoder), Stage("decoder", decoder)))
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 8))
    variables = init(net, jax.random.key(1), x)
    np.testing.assert_array_equal(run(net, variables, x)[0].predictions["final"], x)

    on = variables.params["encoder"]["Correction_0"]
    on["scale"] = jnp.ones_like(on["scale"])
    assert jnp.any(run(net, variables, x)[0].predictions["final"] != x)
    # Of fewer channels the first: the others are for the decoder to find.
    few = Stage("encoder", PAIRS["projection"](3, 8, (1, 1), False)[0])
    short = Net((few, net.stages[1]))
    out, _ = run(short, init(short, jax.random.key(1), x), x)
    kept = out.predictions["final"]
    np.testing.assert_array_equal(kept[..., :3], x[..., :3])
    assert not jnp.any(kept[..., 3:])


def test_kernels_start_as_published_and_wider_before_a_relu():
    """Uniform in +-1 / sqrt(fan in), of variance 1 / (3 fan in); He's by fan out."""
    image, latents = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 3, 3, 24))
    for module, x, biased in (
        (FPEncoder(), image, False),
        (FPDecoder(64), latents, False),
        (FPDecoder(64, small=True, linear=True), latents, True),
    ):
        start = jax.jit(partial(module.init, train=True))
        layers = start(jax.random.key(0), x)["params"]
        for layer in (layers[f"Conv_{i}"] for i in range(3)):
            kernel, fan_in = layer["kernel"], math.prod(layer["kernel"].shape[:3])
            assert ("bias" in layer) == biased
            assert jnp.abs(kernel).max() <= fan_in**-0.5
            assert kernel.var() * 3 * fan_in == pytest.approx(1, abs=0.1)
    start = jax.jit(partial(FPDecoder(64, small=True).init, train=True))
    wide = start(jax.random.key(0), latents)
    kernel = wide["params"]["Conv_1"]["kernel"]
    assert kernel.var() * 4 * 64 == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("pair", ["cr", "fp", "auto"])
def test_a_decoder_of_a_linear_feature_reaches_negative_values_and_else_none(pair):
    def restored(linear):
        if pair == "auto":
            decoder = AutoDecoder(8, linear)
        else:
            decoder = PAIRS[pair](4, 8, (2, 2), True, linear)[1]
        z = jax.random.normal(jax.random.key(0), (4, 12, 12, 4))
        both = jax.jit(partial(decoder.init_with_output, train=False))
        out, _ = both(jax.random.key(1), z)
        return np.asarray(out)

    assert restored(False).min() == 0 < restored(False).max()
    # A linear end is as often below zero as above, not a rare value.
    assert 0.2 < (restored(True) < 0).mean() < 0.8


def test_an_unknown_stem_or_activation_lists_the_known():
    for encoder in (FPEncoder(stem="tiny"), FPEncoder(activation="gelu")):
        with pytest.raises(UsageError, match="Known: "):
            encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)


@pytest.mark.parametrize("side", [224, 97, 226, 227])
def test_latent_and_decoder_sides(side):
    latent = -(-side // 4) - 1
    found = shapes(entropic(), image(side))
    assert found["encoder"] == (latent, latent, 24)
    assert found["decoder"] == (latent + 1, latent + 1, 256)
    layer1 = shapes(classifier_net("resnet50", 1000), image(side))["layer1.2"]
    assert found["decoder"] == layer1
    assert found["fc"] == (1000,)


def test_head_network_distillation_bottleneck():
    """BottleFit's, layer by layer: 29 x 29 x 12 and back to layer2, bare at its end."""
    pair = PAIRS["hnd"](12, 512, (2, 2), False)
    known = backbone("resnet50").deeper(8)
    net = inject(classifier_net("resnet50", 1000), known.replaced, pair, Raw())
    found = shapes(net, image(224))
    assert found["encoder"] == (29, 29, 12)
    assert found["decoder"] == (28, 28, 512)
    assert net.names[3] == "layer3.0"
    params = variable_shapes(net, image(224)).params
    assert parameters(params["encoder"]) == 12_736
    # Norms of 12, 512, 512, 512, each before a convolution: none behind the last.
    kernels = [(2, 2, width, 512) for width in (12, 512, 512, 512)]
    decoder = params["decoder"]
    assert [decoder[f"Conv_{i}"]["kernel"].shape for i in range(4)] == kernels
    norms = {k: v["scale"].shape for k, v in decoder.items() if "Norm" in k}
    assert norms == {
        f"BatchNorm_{i}": (width,) for i, width in enumerate((12, 512, 512, 512))
    }


def test_the_decoder_of_hnd_pads_its_first_two_convolutions_and_ends_bare():
    decoder = PAIRS["hnd"](1, 1, (2, 2), False)[1]
    z = jnp.zeros((1, 3, 3, 1)).at[0, 0, 0].set(1.0)
    variables = decoder.init(jax.random.key(0), z, train=False)
    ones = jax.tree.map(jnp.ones_like, variables["params"])
    ones = {k: v if "Conv" in k else variables["params"][k] for k, v in ones.items()}
    stats = {"batch_stats": variables["batch_stats"]}
    out = decoder.apply({"params": ones, **stats}, z, train=False)
    # A corner, 3 to 5 by padding and back to 3 by none, then means of two.
    one = np.array([1.0, 0, 0])
    for mode in ("full", "full", "valid", "valid"):
        one = np.convolve(one, [1, 1], mode)
    one = (one[1:] + one[:-1]) / 2
    np.testing.assert_allclose(out[0, :, :, 0], np.outer(one, one), rtol=1e-3)
    flipped = {**ones, "Conv_3": {"kernel": -ones["Conv_3"]["kernel"]}}
    assert decoder.apply({"params": flipped, **stats}, z, train=False).min() < 0


@pytest.mark.parametrize("channels", [3, 12])
def test_channel_reduction_bottleneck(channels):
    found = shapes(head(student("cr", channels, Raw()), "decoder"), image(224))
    assert found["encoder"] == (60, 60, channels)
    assert found["decoder"] == (56, 56, 256)


@pytest.mark.parametrize(
    ("name", "classes", "millions", "digits"),
    [
        ("resnet50", 1000, 25.557, 3),
        ("resnet18", 1000, 11.69, 2),
        ("resnet34", 1000, 21.80, 2),
        ("resnet101", 1000, 44.549, 3),
        ("resnet20", 10, 0.27, 2),
        ("resnet110", 10, 1.73, 2),
    ],
)
def test_backbones_have_the_usual_parameters(name, classes, millions, digits):
    params = variable_shapes(classifier_net(name, classes), image(32)).params
    assert round(parameters(params) / 1e6, digits) == millions


def test_resnet50_parameters_to_the_last_one():
    """torchvision's 25,557,032; the dropped stem and layer1 hold 225,344."""
    params = variable_shapes(classifier_net("resnet50", 1000), image(32)).params
    assert parameters(params) == 25_557_032
    gone = match(classifier_net("resnet50", 1000), backbone("resnet50").replaced)
    assert parameters({k: params[k] for k in gone if k != "normalise"}) == 225_344


def test_resnet50_macs_at_224():
    whole = through(classifier_net("resnet50", 1000), image(224))
    assert round(whole / 1e9, 2) == 4.09


@pytest.mark.parametrize("name", ["cnn", "resnet20"])
@pytest.mark.parametrize("pair", ["fp", "cr", "patch", "depthwise", "space_to_depth"])
@pytest.mark.parametrize("side", [28, 32])
def test_small_bottlenecks_restore_the_replaced_stage(name, pair, side):
    family = backbone(name)
    whole = classifier_net(name, 10)
    made = PAIRS[pair](6, family.target, family.strides, family.small)
    net = head(inject(whole, family.replaced, made, Raw()), "decoder")
    expected = shapes(whole, image(side, 1))[resolve(whole, family.cut)]
    assert shapes(net, image(side, 1))["decoder"] == expected


def test_an_unknown_depth_names_the_known():
    with pytest.raises(UsageError, match="18, 34, 50, 101, 152"):
        resnet(depth=21, classes=10)


def test_names_groups_and_edits():
    net = classifier_net("resnet20", 10)
    assert net.names[:4] == ("normalise", "stem", "layer1.0", "layer1.1")
    assert resolve(net, "layer2") == "layer2.2"
    assert match(net, ("layer2",)) == {"layer2.0", "layer2.1", "layer2.2"}
    assert match(net, ("*",)) == set(net.names)
    pair = PAIRS["fp"](4, 32, (2, 1), True)
    new = inject(net, ("stem", "layer1", "layer2"), pair, Raw())
    assert new.names[:4] == ("normalise", "encoder", "decoder", "layer3.0")
    assert [s.name for s in new.splits] == ["split@encoder"]
    assert head(new, "encoder").names == ("normalise", "encoder")
    assert tail(new, "encoder").names == new.names[2:]
    grown = insert(net, "layer1", pair, Raw())
    at = grown.names.index("encoder")
    assert grown.names[at - 1 : at + 3] == (
        "layer1.2",
        "encoder",
        "decoder",
        "layer2.0",
    )
    for wrong in (("stem", "layer2"), ("layr",)):
        with pytest.raises(UsageError):
            inject(net, wrong, pair, Raw())
    with pytest.raises(UsageError, match="stand on replaced"):
        inject(new, ("encoder", "decoder"), pair, Raw())


@pytest.mark.parametrize(
    "stats", [((0.5,), (0.25,)), ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))]
)
def test_normalise(stats):
    mean, std = stats
    pixels = jnp.arange(2 * 4 * 4 * 3, dtype=jnp.uint8).reshape(2, 4, 4, 3)
    net = Net((Stage("normalise", Normalise(mean, std)),))
    out, _ = run(net, init(net, jax.random.key(0), pixels), pixels)
    shape = (1, 1, 1, -1)
    expected = pixels / 255 - jnp.array(mean).reshape(shape)
    expected = expected / jnp.array(std).reshape(shape)
    assert out.features["normalise"].dtype == jnp.float32
    assert jnp.allclose(out.features["normalise"], expected, atol=1e-5)


class Listed(nn.Module):
    """A module of one's own that cannot be hashed."""

    widths: list

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(sum(self.widths))(x)


@pytest.mark.parametrize("own", [False, True])
def test_shapes_of_variables_are_those_of_a_start(own):
    net, example = classifier_net("cnn", 10), np.zeros((1, 28, 28, 1), np.uint8)
    if own:
        net = Net((Stage("dense", Listed([2, 3])),))
        example = np.zeros((1, 4), np.float32)
    found, drawn = variable_shapes(net, example), init(net, jax.random.key(3), example)
    kinds = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (found, drawn))
    assert kinds[0] == kinds[1] and jax.tree.leaves(drawn)
    # Kept for equal nets and examples, and asked again for others.
    other = variable_shapes(net, jax.ShapeDtypeStruct(example.shape, example.dtype))
    assert (other is found) == (not own)
