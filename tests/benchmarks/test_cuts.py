"""The table of cuts: what loses nothing loses nothing, and a row says what was sent."""

import jax
import numpy as np
import pytest

from benchmarks.methods import cuts
from benchmarks.results_page import page
from sc_jax.compressors import Affine, Clipped, Erasure
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import classifier_net
from sc_jax.nets.run import init


@pytest.fixture(scope="module")
def cut():
    net = classifier_net("cnn", 10)
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28, 1)).astype(np.uint8)
    variables = init(net, jax.random.key(0), images[:1])
    labels = np.arange(7) % 10
    batches = [
        (images[:4], labels[:4], 4),
        (np.concatenate([images[4:], images[:1]]), np.append(labels[4:], 0), 3),
    ]
    return net, variables, batches, images


def test_raw_loses_nothing_and_fewer_points_send_less(cut):
    net, variables, batches, _ = cut
    place = net.names[len(net.names) // 2]
    texts = ["raw", "affine:bits=4", "tiled:bits=4"]
    texts += ["clipped:points=8", "clipped:points=2", "clipped:points=8+context=2"]
    rows = cuts.measured(net, variables, place, texts, iter(batches), iter(batches))
    raw, affine, tiled, many, few, context = rows
    assert [row["compressor"] for row in rows] == texts
    assert all(row["images"] == 7 and row["cut"] == place for row in rows)
    assert raw["bits_an_element"] == 32 and raw["agreement"] == 1
    assert raw["points_lost"] == raw["standard_error"] == 0
    elements = np.prod(raw["shape"])
    assert affine["bytes"] == 8 + np.ceil(elements / 2)
    assert few["bits_an_element"] < many["bits_an_element"] < 3.1
    assert context["bits_an_element"] < many["bits_an_element"]
    assert context["top_1"] == many["top_1"]
    # One quantiser, two ways to write it.
    assert affine["top_1"] == tiled["top_1"]
    assert all("nan" not in cuts.line(row) for row in rows)


def test_behind_a_compressor_stand_its_context_and_its_loss():
    compressor, classes, channel = cuts.part_of("affine:bits=4")
    assert (compressor, classes, channel) == (Affine(4), 0, None)
    text = "clipped:points=8+bit_weight=0.1+context=4+loss=0.5+packet=16"
    found = cuts.part_of(text)
    assert found == (Clipped(8, 0.1), 4, Erasure(0.5, 16))
    z = np.ones((2, 3, 4), np.float32)
    assert cuts.arrived("raw", z, 0) is z
    lossy = [cuts.arrived("raw+loss=0.5", z, n) for n in (0, 0, 1)]
    assert np.array_equal(lossy[0], lossy[1]) and not np.array_equal(*lossy[1:])
    assert set(np.unique(lossy[0])) == {0, 2}


def test_cuts_are_the_input_and_every_stage_before_the_last(cut):
    net, variables, _, images = cut
    names = [n for n in net.names[:-1] if n != "normalise"]
    assert cuts.cuts(net, variables, images[:1]) == ["input", *names]


def test_points_lost_are_of_pairs():
    whole, right = np.array([1, 1, 0, 1], bool), np.array([1, 0, 1, 0], bool)
    found = cuts.lost(whole, right)
    assert found["top_1"] == 50 and found["points_lost"] == 25
    np.testing.assert_allclose(found["standard_error"], np.std([0, 100, -100, 100]) / 2)


def test_rows_of_other_images_are_not_mixed():
    document = {"network": "cnn", "data": "a", "images": 4, "fitted": 2}
    saved = {**document, "rows": [1]}
    assert cuts.kept(saved, document) == [1]
    with pytest.raises(UsageError, match="rows of images 4, not 5"):
        cuts.kept(saved, {**document, "images": 5})


def test_a_report_keeps_every_command_that_its_rows_are_of():
    both = cuts.commands("python -m one", "python -m two --a=/x/b")
    assert both == "python -m one\n    python -m two --a=/x/b"
    assert cuts.commands(both, "python -m one") == both
    # The page: each on a line of its own, without folders.
    lines = page.section("title", "facts", both, [])
    assert "    python -m one\n    python -m two --a=b" in map(page.anonymous, lines)
