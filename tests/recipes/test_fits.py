"""Which recipe fits which backbone and which size of images: built, or one line."""

import dataclasses
import os
import re
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from sc_jax.compressors import Affine
from sc_jax.errors import Misfit, UsageError
from sc_jax.nets import run as running
from sc_jax.nets.backbones.registry import BACKBONES
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.nets.net import inject
from sc_jax.recipes import RECIPES, build, common, knobs_of
from sc_jax.runs import sizes
from sc_jax.train import validation

# Of each kind of feature the smallest: the others have more of the same stages. These
# are traced, with their losses; the others built, where most refusals stand. All are
# traced by `EVERY_PAIR=1 pytest -n0 tests/recipes/test_fits.py`, in minutes.
SMALLEST = (
    "cnn", "resnet20", "mobilenetv2", "nin", "icnn", "ddnn", "skipnet14",
    "msdnet_nano", "ranet_nano",
)  # fmt: skip
TRACED = tuple(BACKBONES) if os.environ.get("EVERY_PAIR") else SMALLEST
SIDE = 32
FACTS = common.Facts(10, 10_000, (0.5,) * 3, (0.25,) * 3, (SIDE, SIDE, 3))


@pytest.fixture(scope="module")
def traced():
    """Modules are traced once for all of the nets that they stand in; no codecs."""
    real = nn.Module.init, nn.Module.apply

    @partial(jax.jit, static_argnums=(0, 2))
    def kept_init(module, rngs, train, *inputs):
        return real[0](module, rngs, *inputs, train=train)

    @partial(jax.jit, static_argnums=(0, 3, 4))
    def kept_apply(module, variables, rngs, train, mutable, *inputs):
        more = {"train": train, "rngs": rngs, "mutable": mutable and [*mutable]}
        return real[1](module, variables, *inputs, **more)

    def init(self, rngs, *inputs, train):
        return kept_init(self, rngs, train, *inputs)

    def apply(self, variables, *inputs, train, rngs, mutable):
        mutable = tuple(mutable) if mutable is not False else False
        return kept_apply(self, variables, rngs, train, mutable, *inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "init", init)
        patch.setattr(nn.Module, "apply", apply)
        # Where a net may be cut changes no shape.
        patch.setattr(running, "_apart", lambda x, wall: x)
        patch.setattr(validation.splits, "check", lambda *_: None)
        yield


def refused(recipe, backbone):
    """The line that refuses a pair, or None; any other error is the test's."""
    with common.known(FACTS):
        try:
            recipe = build(recipe, {"backbone": backbone})
            if backbone in TRACED:
                validation.validate(recipe, np.zeros((1, *FACTS.shape), np.uint8))
        except UsageError as error:
            return str(error)
    return None


@pytest.fixture(scope="module")
def lines(traced):
    """{(recipe, backbone): line or None} of every pair."""
    return {
        (recipe, backbone): refused(recipe, backbone)
        for backbone in BACKBONES
        for recipe in RECIPES
        # They count a net's operations while they are built: seconds on a large one.
        if backbone in TRACED or recipe not in ("dynexit", "jei_dnn", "spinn")
    }


def test_every_pair_is_built_or_refused_in_a_line_that_says_what_fits(lines):
    by_knob = ("place=", "server=", "exits is 1 to")
    for (recipe, backbone), line in lines.items():
        if line is None or line.startswith(by_knob):
            # The stages that the net has, or how many places.
            assert line is None or "Known: " in line or "the places of" in line
            continue
        assert "\n" not in line and backbone in line, line
        named = line.replace(" take ", " ").rpartition(": ")[2].split(", ")
        assert set(named) < set(BACKBONES) and backbone not in named, line
        for other in named:
            there = lines.get((recipe, other))
            assert there is None or there.startswith(by_knob), (recipe, other)
    # And none is refused for nothing: nets of one answer, with a cut and exits.
    plain = [name for name, known in BACKBONES.items() if known.cut and known.exits]
    for (recipe, backbone), line in lines.items():
        if backbone in plain and recipe not in ("ddi", "imta", "phuong"):
            assert line is None or line.startswith(by_knob), (recipe, backbone)
    for recipe in RECIPES:
        default = knobs_of(recipe)["backbone"].default
        assert lines.get((recipe, default)) is None, recipe


@pytest.mark.parametrize(
    ("recipe", "knobs", "line"),
    [
        (
            "phuong",
            {"backbone": "mobilenetv2"},
            "ends in logits of its own; .*: msdnet, ",
        ),
        ("phuong", {"backbone": "cnn"}, "ends in logits of its own; .*: msdnet, "),
        ("l2w_den", {"backbone": "mobilenetv2"}, "no usual places for exits"),
        ("jei_dnn", {"backbone": "ddnn"}, "views of several devices"),
        ("ddi", {"backbone": "nin"}, "nin has none; these: skipnet, skipnet14"),
        ("lo", {"backbone": "nin"}, "^place=layer1: unknown stage .*block1, block2"),
        (
            "spinn",
            {"backbone": "nin", "exits": 9},
            "exits is 1 to 3, the places of nin",
        ),
    ],
)
def test_what_ended_in_an_error_of_an_index_is_refused(recipe, knobs, line):
    with common.known(FACTS), pytest.raises(UsageError, match=line):
        build(recipe, knobs)


DEEP = [n for n in SMALLEST if BACKBONES[n].deep_cut(8)] + ["alexnet", "vgg11"]


@pytest.mark.parametrize("recipe", ["hnd", "ghnd", "cross_entropy"])
def test_the_pair_of_hnd_restores_what_its_backbone_has_there(recipe, traced):
    for name in DEEP:
        with common.known(FACTS):
            made = build(recipe, {"backbone": name, "pair": "hnd"})
            validation.validate(made, np.zeros((1, *FACTS.shape), np.uint8))
        known = BACKBONES[name]
        behind = known.groups[known.groups.index(known.deep_cut(8)) + 1]
        assert made.net.names[3].split(".")[0] == behind
    with (
        common.known(FACTS),
        pytest.raises(UsageError, match=r"nin has no group at 1/8 .*: cnn, resn"),
    ):
        build(recipe, {"backbone": "nin", "pair": "hnd"})


def test_an_inserted_pair_leaves_the_stages_before_it_on_the_device(traced):
    wanted = {"backbone": "mobilenetv2", "pair": "projection", "logits": 1.0}
    for after, last, first, hints in [
        ("", "layer4.0", "layer4.1", ("layer4", "layer5", "layer7")),
        ("layer4.0", "layer4.0", "layer4.1", ("layer4", "layer5", "layer7")),
        ("layer5", "layer5.2", "layer6.0", ("layer7",)),
    ]:
        with common.known(FACTS):
            made = build("entropic_student", wanted | {"after": after})
            validation.validate(made, np.zeros((1, *FACTS.shape), np.uint8))
        names = made.net.names
        around = names[names.index("encoder") - 1 : names.index("encoder") + 3]
        assert around == (last, "encoder", "decoder", first)
        teacher = tuple(n for n in names if n not in ("encoder", "decoder"))
        assert teacher == made.teacher.net.names
        terms = [term.name for term in made.phases[0].terms]
        compared = [f"hint_{name}" for name in (last, *hints)]
        assert terms == [*compared, "logits", "bits"]


@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        ({"pair": "fp", "after": "layer4.0"}, "after=layer4.0 is for pairs that are"),
        ({"pair": "projection", "after": "layer9"}, "unknown stage 'layer9'"),
        (
            {"pair": "projection", "backbone": "resnet20"},
            "resnet20 has no stage at 1/16 .* after=STAGE of stem, layer1.0",
        ),
    ],
)
def test_a_place_that_no_pair_is_inserted_at_is_one_line(knobs, line):
    with common.known(FACTS), pytest.raises(UsageError, match=line):
        build("entropic_student", {"backbone": "mobilenetv2"} | knobs)


def test_a_decoder_of_another_side_is_refused_where_no_hint_compares_it(traced):
    """What runs behind it is convolutions and a pool, which take any side."""
    with common.known(FACTS):
        made = build("cross_entropy", {"backbone": "mobilenetv2"})
        pair = PAIRS["hnd"](3, 24, (2, 2), True)
        net = inject(
            made.teacher.net, BACKBONES["mobilenetv2"].replaced, pair, Affine()
        )
        wrong = dataclasses.replace(made, net=net)
        line = r"decoder gives \(4, 4, 24\) where 'layer2.1' gave \(8, 8, 24\)"
        with pytest.raises(Misfit, match=line):
            validation.validate(wrong, np.zeros((1, *FACTS.shape), np.uint8))


@pytest.mark.parametrize(
    ("recipe", "side", "line"),
    [
        ("ghnd", 30, r"30 x 30 do not fit \(donor parts .*\): take image_size=28"),
        ("ghnd", 14, "take image_size=12 or image_size=16"),
        # No hint compares a feature, but what is behind the decoder is the teacher's.
        ("knowledge_distillation", 30, r"own: layer3.*: take image_size=28 or"),
        ("branchynet", 5, "images of 5 x 5 do not fit: take image_size=8$"),
        ("jei_dnn", 5, "images of 5 x 5 do not fit: take image_size=8$"),  # built so
    ],
)
def test_a_size_that_does_not_fit_names_those_that_do(recipe, side, line, traced):
    facts = FACTS._replace(shape=(side, side, 1), mean=(0.5,), std=(0.5,))
    make = partial(build, recipe, {})
    with (
        common.known(facts),
        pytest.raises(UsageError, match=line) as caught,
        sizes.explained(make),
    ):
        validation.validate(make(), np.zeros((1, side, side, 1), np.uint8))
    for fitting in re.findall(r"image_size=(\d+)", str(caught.value)):
        side = int(fitting)
        with common.known(facts), common.resized(side):
            validation.validate(make(), np.zeros((1, side, side, 1), np.uint8))


def test_an_error_that_is_not_of_the_size_stays_what_it_is(traced):
    def broken():
        raise TypeError("of one's own")

    with common.known(FACTS):
        for error, make in (
            (TypeError("own"), partial(build, "classifier", {})),  # fits as it is
            (TypeError("own"), broken),  # fits nowhere
            (UsageError("own"), broken),
        ):
            with pytest.raises(type(error), match=r"^own$"), sizes.explained(make):
                raise error
