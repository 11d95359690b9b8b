"""A backbone beside its stages: what follows from shapes, and one from a file."""

import jax
import numpy as np
import pytest

from sc_jax.compressors import Raw
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone, complete, group_shapes
from sc_jax.nets.backbones.registry import BACKBONES, backbone, classifier_net, exit_net
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import head, inject, resolve
from sc_jax.nets.run import init, run

# Bottlenecks of the published systems: cut, channels that a decoder restores, strides.
BOTTLENECKS = {
    "cnn": ("layer1", 64, (2, 2)),
    "resnet20": ("layer2", 32, (2, 1)),
    "resnet18": ("layer1", 64, (2, 2)),
    "resnet50": ("layer1", 256, (2, 2)),
    "mobilenetv2": ("layer2", 24, (2, 2)),
    "efficientnet_lite0": ("layer2", 24, (2, 2)),
    "alexnet": ("conv2", 64, (2, 2)),
    "nin": ("block1", 96, (2, 1)),
    "vgg11": ("conv2", 128, (2, 2)),
    "wrn16_2": ("layer2", 64, (2, 1)),
}
OWN = """
import flax.linen as nn
from sc_jax.nets.net import Stage

class Halved(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(nn.Conv(self.width, (3, 3), (2, 2))(x))

class Pooled(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.classes)(x.mean((1, 2)))

def mine(*, classes, width=4):
    widths = (width, 2 * width, 3 * width)
    body = [Stage(f"part{i}.0", Halved(w)) for i, w in enumerate(widths)]
    return (*body, Stage("fc", Pooled(classes)))

def flat(*, classes):
    return (Stage("fc", Pooled(classes)),)

three = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_bottleneck_is_the_published_one(name):
    known = backbone(name)
    assert (known.cut, known.target, known.strides) == BOTTLENECKS[name]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("resnet20", ("cut", "deep_cuts", "hints", "exits")),
        ("resnet18", ("cut", "deep_cuts", "hints", "exits")),
        ("wrn16_2", ("cut", "deep_cuts", "hints", "exits")),
        ("vgg11", ("cut", "deep_cuts", "exits")),
        ("nin", ("cut", "deep_cuts", "exits")),
        ("cnn", ("cut", "deep_cuts")),
        ("mobilenetv2", ("cut", "deep_cuts")),
        ("efficientnet_lite2", ("cut", "deep_cuts")),
    ],
)
def test_what_a_preset_states_also_follows_from_the_shapes(name, fields):
    stated = backbone(name)
    derived = complete(Backbone(stated.build))
    for field in fields:
        assert getattr(derived, field) == getattr(stated, field), field
    assert derived.strides == stated.strides and derived.target == stated.target


@pytest.mark.parametrize("name", [n for n in BOTTLENECKS if n != "resnet50"])
def test_a_feature_is_called_linear_where_it_has_negative_values(name):
    """Read off the feature itself, for a decoder ends by this word."""
    known = backbone(name)
    net = head(classifier_net(name, 5), known.cut)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    out, _ = run(net, init(net, jax.random.key(0), x), x)
    feature = out.features[net.names[-1]]
    assert known.linear == bool((feature < 0).any())


def test_a_pair_that_reduces_more_is_cut_deeper_and_hints_start_behind_it():
    known = backbone("resnet50")
    deep = known.deeper(8)
    assert (deep.cut, deep.target, deep.hints) == ("layer2", 512, ("layer3", "layer4"))
    assert deep.replaced == ("stem", "layer1", "layer2")
    assert known.cut == "layer1" and backbone("alexnet").deeper(8).hints == ()


@pytest.mark.parametrize("name", ["icnn", "ddnn", "skipnet", "msdnet", "ranet_nano"])
def test_a_backbone_without_a_bottleneck_says_so_in_one_line(name):
    assert backbone(name).hints == ()
    with pytest.raises(UsageError, match="takes no bottleneck") as caught:
        _ = backbone(name).replaced
    assert "\n" not in str(caught.value)


def test_every_family_says_where_its_exits_stand_and_what_it_cuts():
    for known in BACKBONES.values():
        named = (*(known.exits or ()), *(known.hints or ()), known.cut or "")
        assert {name.split(".")[0] for name in named} - {""} <= set(known.groups)


def test_a_backbone_of_ones_own_needs_nothing_but_its_stages(file):
    known = backbone(f"{file}:mine")
    assert (known.cut, known.target, known.strides) == ("part1", 8, (2, 2))
    assert known.hints == ("part2",) and known.exits == ("part0", "part1")
    net = exit_net(str(file), 5)  # the function is named as the file is
    assert [e.after for e in net.exits] == ["part0.0", "part1.0"]
    assert {type(e.module) for e in net.exits} == {PooledLinear}
    pair = PAIRS["fp"](3, known.target, known.strides, known.small)
    split = inject(classifier_net(str(file), 5), known.replaced, pair, Raw())
    x = np.zeros((2, 32, 32, 3), np.uint8)
    shapes = jax.eval_shape(
        lambda: run(split, init(split, jax.random.key(0), x), x)[0].features
    )
    assert shapes["decoder"].shape[1:] == group_shapes(known.build)["part1"]
    assert shapes[resolve(split, "part2")].shape == (2, 4, 4, 12)


def test_mistakes_of_a_backbone_file_are_one_line(file):
    with pytest.raises(UsageError, match="takes no bottleneck"):
        _ = backbone(f"{file}:flat").replaced
    for name, message in [
        (f"{file}:nothing", "has no backbone nothing"),
        (f"{file}:three", "has no backbone three"),
        ("mime.py:mine", "no backbone file mime.py"),
        ("resnet19", "did you mean 'resnet1"),
    ]:
        with pytest.raises(UsageError, match=message) as caught:
            backbone(name)
        assert "\n" not in str(caught.value)
