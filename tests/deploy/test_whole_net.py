"""A net without a split on a device: all of it, which answers and never sends."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

import jax

import sc_jax
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.device import answers
from sc_jax.deploy.device.device import Device
from sc_jax.deploy.export.chain import chain, runner
from sc_jax.deploy.export.proof import Exported, prove
from sc_jax.errors import UsageError
from sc_jax.evaluate import rate
from sc_jax.exits.policies import Threshold
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import FINAL, Exit, Net
from sc_jax.nets.run import init, run
from sc_jax.tasks import multilabel

LABELS = tuple("abcdefghij")


@pytest.fixture(scope="module")
def whole(student, images):
    """(net, variables, segments, all of them) of a small net, one exit on its stem."""
    normalise = student[0].net.stages[0]
    stages = (normalise, *cnn(classes=10, width=4))
    net = Net(stages, (Exit("stem", PooledLinear(10)),))
    variables = init(net, jax.random.key(0), images[:1])
    made = chain(net, variables, None, images[:16])
    segments = {name: each.model for name, each in made.items()}
    return net, variables, segments, runner(made)


@pytest.fixture
def install(whole, tmp_path):
    """threshold of the exit -> the bundle, read back from its zip."""

    def make(threshold, task="classification"):
        out = tmp_path / f"at{threshold}"
        bundle.write(
            out, whole[2], None, model="m", split=0, labels=LABELS,
            policy=Threshold((threshold,)), exits=("exit@stem", "final"),
            cost=(1.0, 2.0), task=task, facts={"input": [28, 28, 1]},
        )  # fmt: skip
        return bundle.read(out.with_name(out.name + ".zip"))

    return make


def test_it_answers_as_jax_does_and_sends_nothing(whole, install, images):
    installed = install(2.0)
    assert installed.codec is None and installed.manifest["codec"] is None
    device = Device(installed)
    net, variables, *_ = whole
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


def test_labels_are_proved_and_answered_as_their_task_says(whole, install, images):
    net, variables, _, run_all = whole
    truth = np.random.default_rng(0).random((96, 10)) < 0.3
    test = Dataset("few", "test", LABELS, images, truth)
    recipe: Any = SimpleNamespace(net=net, task=multilabel)
    found = Exported(recipe, variables, None, None, run_all)
    proof = prove(found, test)
    assert proof.metric == "mAP" and proof.examples == 96 and proof.leaving is None
    assert proof.quality == pytest.approx(proof.quality_jax, abs=1e-2)
    exact = rate.measure(net, variables, {}, test, task=multilabel).figure
    assert proof.quality_jax == exact
    answer = Device(install(2.0, "multilabel")).infer(images[0])
    assert answer.prediction is None and answer.answered and not answer.refused
    logits = answer.outputs["logits"]
    np.testing.assert_array_equal(answer.outputs["labels"], logits > 0)
    np.testing.assert_array_equal(answer.probabilities > 0.5, logits > 0)
    lines = answers.summary([answer], test.take(np.arange(1)), LABELS)
    assert lines[0].startswith("answered 1 of 1") and "top-1" not in str(lines)


def test_a_score_of_labels_reads_the_least_sure(install, images):
    unsure = Device(install(0.0, "multilabel")).infer(images[0])
    least = np.abs(unsure.outputs["logits"]).min()
    score = 1 / (1 + np.exp(-least.astype(np.float64)))
    for threshold, exit in ((score - 1e-6, "exit@stem"), (score + 1e-6, FINAL)):
        device = Device(install(threshold, "multilabel"))
        assert device.infer(images[0]).exit == exit


def test_a_policy_of_an_unknown_task_is_one_line(install, images):
    with pytest.raises(UsageError, match="task 'ranking', known are") as caught:
        Device(install(0.5, "ranking"))
    assert "\n" not in str(caught.value)


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
    nothing = [Answer(None, "none", 0, {}, "no server is set")]
    assert not any("top-1" in s for s in answers.summary(nothing, examples, LABELS))
    (row,) = answers.rows(nothing, examples, LABELS, top=5)
    assert row["class"] is None and row["probability"] is None
