"""A net without a split on a device: all of it, which answers and never sends."""

import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

import jax

import sc_jax
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.device import answers
from sc_jax.deploy.device.device import Device
from sc_jax.deploy.export.chain import chain
from sc_jax.errors import UsageError
from sc_jax.exits.policies import Threshold
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import FINAL, Exit, Net
from sc_jax.nets.run import init, run

LABELS = tuple("abcdefghij")


@pytest.fixture(scope="module")
def whole(student, images):
    """(net, variables, segments) of a small net with one exit on its stem."""
    normalise = student[0].net.stages[0]
    stages = (normalise, *cnn(classes=10, width=4))
    net = Net(stages, (Exit("stem", PooledLinear(10)),))
    variables = init(net, jax.random.key(0), images[:1])
    made = chain(net, variables, None, images[:16])
    return net, variables, {name: each.model for name, each in made.items()}


@pytest.fixture
def install(whole, tmp_path):
    """threshold of the exit -> the bundle, read back from its zip."""

    def make(threshold):
        out = tmp_path / f"at{threshold}"
        bundle.write(
            out, whole[2], None, model="m", split=0, labels=LABELS,
            policy=Threshold((threshold,)), exits=("exit@stem", "final"),
            cost=(1.0, 2.0), facts={"input": [28, 28, 1]},
        )  # fmt: skip
        return bundle.read(out.with_name(out.name + ".zip"))

    return make


def test_it_answers_as_jax_does_and_sends_nothing(whole, install, images):
    installed = install(2.0)
    assert installed.codec is None and installed.manifest["codec"] is None
    device = Device(installed)
    net, variables, _ = whole
    expected = run(net, variables, images[:8])[0].predictions
    for image, logits in zip(images[:8], np.asarray(expected[FINAL])):
        answer = device.infer(image)
        assert (answer.exit, answer.sent_bytes, answer.note) == (FINAL, 0, "")
        np.testing.assert_allclose(answer.outputs["logits"], logits, atol=1e-4)
        assert answer.prediction == answer.outputs["prediction"] == logits.argmax()
        assert answer.probabilities.sum() == pytest.approx(1)
        assert set(answer.seconds) == {"head"}
    with pytest.raises(UsageError, match="sends nothing"):
        device.encode(images[0])


def test_its_policy_leaves_at_an_exit(install, images):
    answer = Device(install(0.0)).infer(images[0])
    assert answer.exit == "exit@stem" and answer.outputs["logits"].shape == (10,)


def test_a_notebook_asks_it_for_logits_and_no_bytes(install, images, tmp_path):
    device = Device(install(2.0))
    model = sc_jax.load(tmp_path / "at2.0")
    assert model.codecs == {}
    single, several = model(images[0]), model(images[:3])
    assert set(several) == {"exit@stem", FINAL, "payload_bytes", "framed_bytes"}
    logits = device.infer(images[0]).outputs["logits"]
    np.testing.assert_allclose(several[FINAL][0], logits, atol=1e-4)
    np.testing.assert_array_equal(single[FINAL], logits)
    assert several["framed_bytes"].tolist() == [0, 0, 0] and not single["payload_bytes"]
    for wrong in (lambda: model.encode(images[0]), lambda: model.decode(b"bytes")):
        with pytest.raises(UsageError, match="sends nothing") as caught:
            wrong()
        assert "\n" not in str(caught.value)


def test_lines_name_file_class_and_probability(install, images):
    device = Device(install(2.0))
    found = [device.infer(image) for image in images[:3]]
    labels = np.array([a.prediction for a in found], np.int32)
    files = ("x/1.png", "x/2.png", "y/3.png")
    examples = Dataset("few", "test", LABELS, images[:3], labels, files)
    rows = list(answers.rows(found, examples, LABELS, top=3))
    assert [row["image"] for row in rows] == list(files)
    for row, answer in zip(rows, found):
        assert row["class"] == LABELS[answer.prediction]
        assert row["probability"] == answer.probabilities.max()
        shown = [each["probability"] for each in row["top"]]
        assert shown == sorted(shown, reverse=True) and len(shown) == 3
    lines = answers.summary(found, examples, LABELS)
    assert lines[0] == "answered 3 of 3 (final 3)"
    assert lines[1] == "top-1 100.00 % of 3 images"


def test_no_answers_are_no_accuracy(images):
    from sc_jax.deploy.device.device import Answer

    examples = Dataset("few", "test", LABELS, images[:1], np.zeros(1, np.int32), ("a",))
    nothing = [Answer(None, "none", 0, {}, "no server was given")]
    assert not any("top-1" in s for s in answers.summary(nothing, examples, LABELS))
    (row,) = answers.rows(nothing, examples, LABELS, top=5)
    assert row["class"] is None and row["probability"] is None
