"""RANet: resolutions, what is carried and read, channels by hand, a cut inside."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from jax.interpreters import partial_eval
from shapes import filled, walked

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.ranet import IMAGENET, Block, ranet, resized
from sc_jax.nets.backbones.registry import exit_net
from sc_jax.nets.exit_classifiers.classifiers import MSDNetClassifier
from sc_jax.nets.net import FINAL, Exit, Net, head, tail
from sc_jax.nets.run import init, run

K = 5
TINY = {"blocks": 1, "more": 1, "channels": 8}
FOUR = {"scales": (1, 2, 3, 3), "factors": (4, 2, 1, 1), "step": 4, "step_mode": "even"}


def features(stages, *image) -> dict[str, tuple]:
    return {name: x for name, _, x in walked(stages, *image)}


@pytest.mark.parametrize(
    "knobs, image, blocks, sides",
    [
        (TINY, (29, 28, 1), (1, 2, 3), (8, 15, 29)),
        (FOUR, (32, 32, 3), (2, 4, 6, 8), (8, 16, 32, 32)),
        (IMAGENET | {"step": 1}, (224, 224, 3), (2, 4, 6, 8), (7, 14, 28, 56)),
    ],
)
def test_subnets_start_coarse_to_fine_and_exits_read_the_coarsest(
    knobs, image, blocks, sides
):
    stages = ranet(classes=K, **knobs)
    names = [s.name for s in stages[1:]]
    assert names == [
        f"subnet{i + 1}.{j}" for i, n in enumerate(blocks) for j in range(n)
    ]
    found = features(stages, *image)
    assert [x.shape[1] for x in reversed(found["stem"])] == list(sides)
    starts = [s for s in stages if s.name.endswith(".0")]
    before = dict(zip(names, ["stem", *names]))
    for stage, side in zip(starts, sides):
        assert found[before[stage.name]][stage.module.at].shape[1] == side
    for i, count in enumerate(blocks):
        for j in range(blocks[i - 1] if i else 0, count):
            assert found[f"subnet{i + 1}.{j}"][-1].shape[1] == sides[0]


def test_the_channels_of_the_cifar_form_by_hand():
    """Blocks of 2, 4, ... layers, each of 24, 12, 6 channels; a quarter from below."""
    found = features(ranet(classes=K), 32, 32, 3)
    widths = {name: [a.shape[-1] for a in x] for name, x in found.items()}
    assert widths["stem"] == [16, 32, 64]
    assert widths["subnet1.0"] == [16, 32, 64 + 2 * 24]
    assert widths["subnet1.1"] == [16, 32, 112 + 4 * 24]
    # 32 + 2 x 12 = 56, and 56 // 4 from below.
    assert widths["subnet2.0"] == [16, 208, 70]
    # 70 + 3 x 12, at half the side 118, and 118 // 4 from below, halved.
    assert widths["subnet2.1"] == [16, 106, 118, 147 // 2]
    assert widths["subnet2.3"] == [16, 106, 118, 73 + (6 + 8) * 12]
    # 16 + 2 x 6 = 28 and 7; 35 + 4 x 6 = 59 and 14, halved.
    assert widths["subnet3.0"] == [106, 118, 241, 35]
    assert widths["subnet3.1"] == [241, 36]
    assert widths["subnet3.5"] == [86 + (10 + 12) * 6]


def test_exits_usually_stand_on_the_blocks_that_the_subnet_below_lacks():
    places = [e.after.removeprefix("subnet") for e in exit_net("ranet", K).exits]
    assert places == ["1.0", "1.1", "2.2", "2.3", "3.4", "3.5"]
    places = [e.after.removeprefix("subnet") for e in exit_net("ranet_tiny", K).exits]
    assert places == ["1.0", "2.1", "3.2"]


@pytest.mark.parametrize("knobs", [TINY, FOUR | {"step": 1}])
def test_a_stage_reads_or_hands_on_all_it_is_given(knobs):
    """So that nothing is carried in vain: the last stage hands on one image."""
    stages = ranet(classes=K, **knobs)
    found = features(stages, 28, 28, 1)
    assert len(found[stages[-1].name]) == 1
    for before, stage in pairwise(stages):
        x, module = found[before.name], stage.module
        key = jax.random.key(0)
        variables = jax.eval_shape(lambda x: module.init(key, x, train=False), x)  # noqa: B023
        closed = jax.make_jaxpr(lambda x, v: module.apply(v, x, train=False))(  # noqa: B023
            x, variables
        )
        outputs = [True] * len(closed.jaxpr.outvars)
        _, used = partial_eval.dce_jaxpr(closed.jaxpr, outputs)
        assert all(used), stage.name
        dropped = {at for at, _ in module.below} - set(module.keep)
        for at in dropped:  # and all its channels
            assert max(w for i, w in module.below if i == at) == x[at].shape[-1]


def test_resizing_is_linear_between_the_corners():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    got = np.asarray(resized(x, 7, 9))
    for y, row in enumerate(np.linspace(0, 3, 7)):
        low, part = min(int(row), 2), row - min(int(row), 2)
        lines = x[:, low] * (1 - part) + x[:, low + 1] * part
        for c in range(3):
            expected = [
                np.interp(np.linspace(0, 4, 9), range(5), z) for z in lines[..., c]
            ]
            np.testing.assert_allclose(got[:, y, :, c], expected, atol=1e-5)
    assert resized(x, 4, 5) is x
    np.testing.assert_allclose(resized(x, 1, 1), x[:, :1, :1], rtol=1e-6)
    np.testing.assert_allclose(resized(x[:, :1, :1], 3, 2)[:, 2, 1], x[:, 0, 0])


def test_a_fusion_block_takes_its_share_from_below_layer_by_layer():
    """New channels: a quarter of each layer's, then a quarter of the width so far."""
    module = Block(2, 8, 1, 1, (), True, ((0, 4), (0, 5), (0, 6)), 1, 0.25)
    rng = np.random.default_rng(0)
    low, x = (rng.normal(size=(1, n, n, 6)).astype(np.float32) for n in (3, 5))
    variables = filled(lambda: module.init(jax.random.key(0), (low, x), train=False))
    apply = jax.jit(lambda low: module.apply(variables, (low, x), train=False)[-1])
    base = np.asarray(apply(low))
    assert base.shape == (1, 5, 5, 6 + 8 + 8 + 22 // 4)
    np.testing.assert_array_equal(base[..., :6], x)
    moved = {}
    for channel in (3, 4, 5):
        other = low.copy()
        other[..., channel] += 1
        moved[channel] = (np.asarray(apply(other)) != base).any((0, 1, 2))
    assert moved[3][6:8].any() and not moved[3][8:14].any()  # only x makes the rest
    assert not moved[4][:14].any() and moved[4][14:16].any()
    assert not moved[5][:22].any() and moved[5][22:].any()


def test_exits_on_both_sides_of_a_cut_answer_as_the_whole():
    stages = ranet(
        classes=K, blocks=1, more=1, step=1, channels=4, growth=4, scales=(1, 2),
        factors=(2, 1),
    )  # fmt: skip
    exits = (
        Exit("subnet1.0", MSDNetClassifier(K, 8)),
        Exit("subnet2.1", MSDNetClassifier(K, 8)),
    )
    net = Net(stages, exits)
    images = np.random.default_rng(0).normal(size=(2, 13, 13, 1)).astype(np.float32)
    variables = filled(lambda: init(net, jax.random.key(0), images))
    whole = jax.jit(lambda v, x: run(net, v, x)[0].predictions)(variables, images)
    assert whole.keys() == {"exit@subnet1.0", "exit@subnet2.1", FINAL}
    for cut in ("stem", "subnet2.0"):
        before, after = head(net, cut), tail(net, cut)
        device = jax.jit(lambda v, x, n=before: run(n, v, x)[0])(variables, images)
        server = jax.jit(lambda v, z, n=after: run(n, v, z)[0].predictions)
        got = device.predictions | server(variables, device.features[cut])
        assert got.keys() == whole.keys()
        for name, logits in whole.items():
            assert np.isfinite(logits).all() and not np.array_equal(*logits)
            np.testing.assert_array_equal(got[name], logits, f"{cut} {name}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"step_mode": "lg"},
        {"more": 0},
        {"scales": (2, 3), "factors": (2, 1)},
        {"scales": (1, 3), "factors": (2, 1)},
        {"scales": (1, 2, 1)},
        {"factors": (2, 1)},
        {"growth": 2},
        {"share": 1.0},
    ],
)
def test_mistakes_name_what_is_possible(wrong):
    with pytest.raises(UsageError, match=r"lin_grow|or more|like \(1, 2, 3\)"):
        ranet(classes=K, **wrong)
