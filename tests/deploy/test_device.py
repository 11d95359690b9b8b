"""The device: the evaluator's answers, no jax, never an exception of the network."""

import subprocess
import sys
import time

import jax
import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

import sc_jax
from sc_jax.deploy import bundle
from sc_jax.deploy.device import answers
from sc_jax.deploy.device.device import NOWHERE, Device, ServerLost
from sc_jax.deploy.export import segments
from sc_jax.deploy.wire import frame
from sc_jax.deploy.wire import reply as replies
from sc_jax.deploy.wire.reply import Reply
from sc_jax.errors import UsageError
from sc_jax.nets.net import FINAL, tail
from sc_jax.nets.run import run
from sc_jax.tasks import classification, multilabel

COUNT = 24


@pytest.fixture(scope="module")
def installed(student, images, tmp_path_factory):
    """A bundle of the student's float32 head."""
    recipe, variables, cut, codec = student
    head = segments.head_segment(recipe.net, variables, cut, codec, images)
    out = tmp_path_factory.mktemp("device") / "bundle"
    bundle.write(
        out, {"head": head.model}, codec, model="tiny-0", split=3,
        labels=("a",) * 10, facts={"input": [28, 28, 1], "cut": cut},
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def edge(student):
    """The tail as a server would run it: frame in, class out."""
    recipe, variables, cut, codec = student
    after = tail(recipe.net, cut)
    answer = jax.jit(lambda z: run(after, variables, z)[0].predictions[FINAL])

    def send(model, data, left):
        received = frame.unpack(data)
        assert model == "tiny-0" and received.split == 3 and left > 0
        assert received.shape == codec.shape
        logits = np.asarray(answer(codec.decode(received.payload)[None]))[0]
        return Reply(classification.reply(logits))

    return send


def test_answers_are_those_of_the_whole_net(student, installed, edge, images):
    recipe, variables, _, _ = student
    whole = jax.jit(lambda x: run(recipe.net, variables, x)[0].predictions[FINAL])
    expected = np.asarray(whole(images[:COUNT])).argmax(-1)
    device = Device(bundle.read(installed), edge, deadline_s=60)
    answers = [device.infer(image) for image in images[:COUNT]]
    assert [a.prediction for a in answers] == expected.tolist()
    for answer in answers:
        assert answer.exit == "edge" and answer.sent_bytes > frame.HEAD.size
        assert set(answer.seconds) == {"head", "code", "edge"}


def test_a_reply_of_the_class_alone_is_the_same_answer(installed, edge, images):
    made = bundle.read(installed)

    def brief(model, data, left):
        found = replies.brief(edge(model, data, left).outputs)
        return Reply(found, message_bytes=64)

    for image in images[:5]:
        whole = Device(made, edge, deadline_s=60).infer(image)
        found = Device(made, brief, deadline_s=60).infer(image)
        assert set(found.outputs) == {"prediction", "probability"}
        assert found.prediction == whole.prediction
        assert whole.probability == whole.probabilities.max()
        assert found.probability == np.float32(whole.probability)
        assert (found.reply_bytes, whole.reply_bytes) == (64, 0)
        assert found.probabilities.size == 0
        rows = [answers.row(a, "x", made.labels) for a in (found, whole)]
        assert rows[0]["class"] == rows[1]["class"] == "a"
        assert rows[0]["probability"] == np.float32(rows[1]["probability"])


def test_labels_of_a_server_are_an_answer_without_a_class(installed, images):
    logits = np.array([2.0, -1.0, 0.5, *7 * [-3.0]], np.float32)
    reply = Reply(multilabel.reply(logits))
    device = Device(bundle.read(installed), lambda *_: reply, deadline_s=60)
    found = device.infer(images[0])
    assert (found.prediction, found.exit, found.refused) == (None, "edge", False)
    assert found.outputs["labels"].tolist()[:4] == [True, False, True, False]
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-logits)))


def test_a_lost_server_or_a_late_one_is_said_and_not_raised(installed, images):
    def lost(model, data, left):
        raise ServerLost("connection refused")

    found = Device(bundle.read(installed), lost).infer(images[0])
    assert (found.prediction, found.exit) == (None, NOWHERE)
    assert found.note == "connection refused" and found.sent_bytes > 0
    offline = Device(bundle.read(installed)).infer(images[0])
    assert offline.prediction is None and offline.sent_bytes == 0 and offline.note


def test_a_rate_that_the_bundle_has_not_is_one_line(installed, images):
    device = Device(bundle.read(installed), level=0)  # the only one
    assert (
        device.encode(images[0])[0]
        == Device(bundle.read(installed)).encode(images[0])[0]
    )
    with pytest.raises(UsageError, match="level 2 is not one of the 1 rates") as error:
        device.encode_at(2)
    assert "\n" not in str(error.value)


LOGITS = np.arange(10, dtype=np.float32)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"prediction": np.int64(10), "logits": LOGITS}, "class 10, the model has 10"),
        ({"prediction": np.int64(-1), "logits": LOGITS}, "class -1"),
        ({"prediction": np.float32(1), "logits": LOGITS}, "float32"),
        ({"prediction": np.zeros(2, np.int64), "logits": LOGITS}, "prediction"),
        ({"prediction": np.int64(1), "logits": LOGITS[:9]}, "logits"),
        ({"prediction": np.int64(1), "logits": LOGITS.sum()}, "logits"),
        ({"prediction": np.int64(1)}, "logits"),
        ({"prediction": np.int64(10), "probability": np.float32(1)}, "class 10"),
        ({"prediction": np.int64(1), "probability": LOGITS}, "probability"),
        ({"prediction": np.int64(1), "probability": np.float32(np.nan)}, "not a"),
        ({"prediction": np.int64(1), "probability": np.float32(7)}, "7.0, not in 0..1"),
        (
            {"prediction": np.int64(1), "logits": LOGITS, "probability": LOGITS},
            "probability",
        ),
        ({"prediction": np.int64(1), "logits": LOGITS * np.nan}, "not a number"),
        ({"labels": LOGITS[:9] > 0, "logits": LOGITS[:9]}, "logits"),
        ({}, "no outputs"),
    ],
)
def test_a_reply_of_another_model_is_a_note(installed, images, outputs, words):
    outputs = {name: np.asarray(array) for name, array in outputs.items()}
    device = Device(bundle.read(installed), lambda *_: Reply(outputs))
    answer = device.infer(images[0])
    assert (answer.prediction, answer.exit) == (None, NOWHERE)
    assert words in answer.note and "\n" not in answer.note
    assert answer.status == "DATA_LOSS" and answer.refused and answer.sent_bytes > 0
    notes = [device.infer(images[0]).note for _ in range(3)]
    assert notes[:2] == [answer.note] * 2 and "3 times in a row" in notes[2]


@pytest.mark.parametrize(
    ("status", "sent", "kept", "refused"),
    [
        ("INVALID_ARGUMENT", True, 0, True),
        ("UNAVAILABLE", False, 2, True),
        ("DEADLINE_EXCEEDED", True, 2, False),
    ],
)
def test_what_a_failed_call_was(installed, images, status, sent, kept, refused):
    def fail(model, data, left):
        raise ServerLost(f"{status}: no", status, sent)

    device = Device(bundle.read(installed), fail)
    found = [device.infer(images[0]) for _ in range(5)]
    assert {a.note for a in found[:3]} == {f"{status}: no"}
    assert {a.refused for a in found[:3]} == {refused}
    assert {a.sent_bytes > 0 for a in found[:3]} == {sent}
    assert device.breaker.kept == kept == sum(a.status == "" for a in found)
    assert not any(a.refused for a in found[5 - kept :] if kept)


def test_a_deadline_that_the_head_used_up_sends_nothing(installed, images):
    def never(model, data, left):
        raise AssertionError("sent after the deadline")

    device = Device(bundle.read(installed), never, deadline_s=0.0)
    found = device.infer(images[0])
    assert found.prediction is None and "deadline" in found.note


def test_a_notebook_asks_for_one_image_or_several(installed, images):
    model = sc_jax.load(installed)
    single, several = model(images[0]), model(images[:3])
    assert several["framed_bytes"].shape == (3,) and single["framed_bytes"].shape == ()
    data = model.encode(images[0])
    assert len(data) == single["framed_bytes"] == several["framed_bytes"][0]
    assert model.encode(images[:1]) == data
    with pytest.raises(UsageError, match="one image, not 3"):
        model.encode(images[:3])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((28, 28), np.uint8),
        np.zeros((28, 28, 3), np.uint8),
        np.zeros((28, 28, 1), np.float32),
    ],
)
def test_a_wrong_image_names_the_right_one(installed, image):
    with pytest.raises(UsageError, match=r"uint8\(28, 28, 1\)"):
        Device(bundle.read(installed)).infer(image)


def test_the_device_runs_without_jax_flax_and_tensorflow(installed):
    program = f"""
import sys
for name in ("jax", "flax", "optax", "orbax", "tensorflow", "litert_converter"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from sc_jax.deploy import bundle
from sc_jax.deploy.device.device import Device
device = Device(bundle.read(Path({str(installed)!r})))
print(device.infer(np.zeros((28, 28, 1), "u1")).note)
"""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "no server is set"
    assert time.monotonic() - begun < 60
