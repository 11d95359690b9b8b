"""What the PyTorch peer reads: two recipes on one scale, weights by their paths."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.methods import peer_case
from sc_jax.data import sources
from sc_jax.errors import UsageError
from sc_jax.nets.run import variable_shapes
from sc_jax.recipes.entropic_student import TINY, entropic_student


@pytest.fixture(scope="module")
def found():
    knobs: Any = {**TINY, "stage1_epochs": 0.07}
    recipe = entropic_student(backbone="resnet20", beta=0.001, **knobs)
    train = sources.load("fashion_mnist_12k", "train").take(np.arange(64))
    images = np.random.default_rng(0).integers(
        256, size=(64, 32, 32, 3), dtype=np.uint8
    )
    train = replace(train, images=images)
    assert recipe.teacher is not None
    shapes = variable_shapes(recipe.teacher.net, images[:1])
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    return peer_case.Run(recipe, variables, train, train, (0.001,))


def test_published_sums_and_our_means_weigh_bits_alike(found):
    recipe, shape = found.recipe, found.test.shape
    ours = peer_case.settings_of(recipe, "ours", found.betas, shape)
    published = peer_case.settings_of(recipe, "published", found.betas, shape)
    assert (ours["over"], published["over"]) == ("mean", "sum")
    # The decoder restores 16 x 16 x 32 values, of which ours takes the mean.
    assert published["betas"] == [pytest.approx(8192 * ours["betas"][0], rel=1e-3)]
    assert (ours["cut"], ours["later"]) == ("layer2", ["layer3"])
    assert ours["strides"] == [2, 1] and ours["target"] == 32


def test_a_case_has_every_weight_and_a_rate_for_every_step(found):
    case = peer_case.case(found, "published", limit_steps=20)
    stages = {name.split("/")[1] for name in case if name.startswith("params/")}
    assert {"stem", "layer1.0", "layer2.0", "layer3.2", "fc"} <= stages
    assert "state/layer2.0/batch_stats/ConvNorm_2/BatchNorm_0/var" in case
    assert [len(case["rates1"]), len(case["rates2"])] == [20, 3]
    # Half and four fifths of stage 1 each divide the rate by ten.
    assert case["rates1"][[0, 10, 16]] == pytest.approx([1e-3, 1e-4, 1e-5])
    assert case["logits"].shape == (peer_case.CHECKED, len(found.train.classes))


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        peer_case.points([str(tmp_path)])
