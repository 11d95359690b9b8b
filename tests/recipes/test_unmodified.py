"""A net cut as it is: its own parts bit for bit, one line for what does not fit."""

import numpy as np
import pytest

from sc_jax.codec import codecs
from sc_jax.codec.clipped import ClippedCodec
from sc_jax.compressors import COMPRESSORS, Clipped, Tiled, knobs_of, named
from sc_jax.errors import UsageError
from sc_jax.recipes import build, tiny
from sc_jax.train import loop
from sc_jax.train.checkpoint import Checkpoints

EXAMPLE = np.zeros((1, 28, 28, 1), np.uint8)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_is_made_by_its_name(name):
    assert named(name) == COMPRESSORS[name].compressor()
    assert not {"parent", "name"} & set(knobs_of(name))


def test_knobs_of_a_compressor_stand_behind_its_name():
    assert named("tiled:bits=8+format=WEBP+quality=60") == Tiled(8, "WEBP", 60)
    assert named("clipped:points=3+bit_weight=0.1") == Clipped(3, 0.1)
    for text, says in [
        ("tild", "did you mean 'tiled'"),
        ("tiled:bit=3", "'bits'"),
        ("tiled:bits=two", "a whole number"),
        ("tiled:bits=2+bits=3", "NAME:knob=value"),
    ]:
        with pytest.raises(UsageError, match=says) as caught:
            named(text)
        assert "\n" not in str(caught.value)


def test_a_cut_that_is_no_stage_is_one_line():
    with pytest.raises(UsageError, match="unknown stage 'layer9'"):
        build("unmodified", tiny("unmodified") | {"after": "layer9"})


def test_its_points_are_solved_from_training_images_and_kept(tmp_path):
    recipe = build("unmodified", tiny("unmodified") | {"after": "layer2"})
    teacher = loop.first_variables(recipe.teacher, None, EXAMPLE)
    variables = loop.fit(recipe, tmp_path, teacher)
    (split,) = recipe.net.splits
    fresh = loop.first_variables(recipe, teacher, EXAMPLE).params[split.name]
    solved = variables.params[split.name]
    assert not np.array_equal(solved["points"], fresh["points"])
    # Each channel's shares are of its own values, and add up.
    np.testing.assert_allclose(solved["masses"].sum(1), 1, rtol=1e-5)
    assert np.ptp(solved["masses"][:, 0]) > 0
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    tables = checkpoints.tables(0)
    checkpoints.close()
    assert tables is not None
    kept = codecs.from_arrays(tables[split.name])
    assert isinstance(kept, ClippedCodec) and kept.points[0] == solved["points"][0]
    again = loop.fit(recipe, tmp_path, teacher)  # restored, not solved again
    for name, leaf in again.params[split.name].items():
        np.testing.assert_array_equal(leaf, solved[name])
