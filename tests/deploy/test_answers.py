"""Pictures that a device answers for: of any folder, in the shape its head takes."""

import errno
import json
import resource
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sc_jax.deploy.device import answers
from sc_jax.deploy.device.device import Answer
from sc_jax.deploy.wire.breaker import Breaker
from sc_jax.errors import UsageError


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A colour and a grey picture in class folders, a loose one beside them."""
    monkeypatch.setenv("SC_JAX_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name, mode in (("a/colour", "RGB"), ("b/grey", "L"), ("loose", "RGB")):
        file = tmp_path / "pictures" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (24, 40, 3), np.uint8)
        Image.fromarray(noise).convert(mode).save(file)
    return tmp_path / "pictures"


def by_file(found):
    return {file: found.image(i) for i, file in enumerate(found.files)}


def test_every_picture_is_answered_for(pictures):
    found = answers.images_of(str(pictures), (24, 40, 3), 100)
    assert found.classes == ("a", "b", "unknown")
    named = dict(zip(found.files, found.labels.tolist()))
    assert named == {"a/colour.png": 0, "b/grey.png": 1, "loose.png": 2}
    for file, image in by_file(found).items():
        original = np.asarray(Image.open(pictures / file).convert("RGB"))
        assert np.array_equal(image, original)  # of the head's shape: as they are
    assert len(answers.images_of(str(pictures), (24, 40, 3), 2)) == 2


def test_colour_for_a_grey_net_is_its_luma(pictures):
    found = by_file(answers.images_of(str(pictures), (24, 40, 1), 100))
    rgb = np.asarray(Image.open(pictures / "a/colour.png")).astype(int)
    luma = rgb @ [299, 587, 114] / 1000
    assert found["a/colour.png"].shape == (24, 40, 1)
    assert np.abs(found["a/colour.png"][..., 0] - luma).max() <= 1
    grey = np.asarray(Image.open(pictures / "b/grey.png"))
    assert np.array_equal(found["b/grey.png"][..., 0], grey)


def test_grey_for_a_colour_net_is_three_times_itself(pictures):
    found = answers.images_of("fashion_mnist_12k", (28, 28, 3), 5)
    assert found.image(0).shape == (28, 28, 3)
    same = answers.images_of("fashion_mnist_12k", (28, 28, 1), 5)
    for i in range(5):
        assert np.array_equal(found.image(i), same.image(i).repeat(3, 2))


@pytest.mark.parametrize("vary", [False, True])
def test_other_shapes_are_cut_in_the_middle_and_resized(vary, pictures):
    ramp = np.linspace(0, 255, 400).astype(np.uint8)[None].repeat(100, 0)
    Image.fromarray(ramp).save(pictures / "loose.png")  # 100 high, 400 wide
    if not vary:
        for name in ("a", "b"):
            (pictures / name).rename(pictures.parent / name)
    found = answers.images_of(str(pictures), (24, 40, 1), 100)
    assert found.in_memory is not vary
    image = by_file(found)["loose.png"]
    assert image.shape == (24, 40, 1)
    # Of the aspect 40 : 24 the middle is columns 116.7 to 283.3, 4.17 a pixel.
    columns = 400 / 2 + (np.arange(40) - 19.5) * 100 / 24
    assert np.abs(image[12, :, 0] - columns * 255 / 400).max() < 2
    for file, image in by_file(found).items():
        if file != "loose.png":
            original = Image.open(pictures / file).convert("RGB").convert("L")
            assert np.array_equal(image[..., 0], np.asarray(original))


def test_where_there_is_a_test_part_it_is_answered_for(pictures, tmp_path):
    for part in ("train", "test"):
        for name in "ab":
            target = tmp_path / "set" / part / name / f"{part}.png"
            target.parent.mkdir(parents=True)
            target.write_bytes((pictures / "loose.png").read_bytes())
    found = answers.images_of(str(tmp_path / "set"), (24, 40, 3), 100)
    assert found.classes == ("a", "b")
    assert sorted(found.files) == ["a/test.png", "b/test.png"]


def test_a_net_of_other_inputs_takes_no_pictures(pictures):
    with pytest.raises(UsageError, match="takes no pictures"):
        answers.images_of(str(pictures), (16,), 5)


def test_accuracy_is_of_images_whose_class_is_known(pictures):
    found = answers.images_of(str(pictures), (24, 40, 3), 100)
    given = [Answer(0, "edge", 8, {"edge": 0.1}) for _ in found.files]
    lines = answers.summary(given, found, ("a", "b"))
    assert "top-1 50.00 % of 2 images" in lines
    assert not any("top-1" in t for t in answers.summary(given, found, ("a", "c")))


ROW = {"image": "a.png", "class": "a"}


def refusals(file):
    with pytest.raises(UsageError) as caught, answers.lines(file):
        raise AssertionError("worked")
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    return str(caught.value)


def test_lines_that_cannot_be_written_are_refused_before_the_work(
    tmp_path, monkeypatch
):
    (tmp_path / "there.jsonl").write_text("kept")
    assert "exists; give another" in refusals(tmp_path / "there.jsonl")
    assert (tmp_path / "there.jsonl").read_text() == "kept"
    assert "is a folder" in refusals(tmp_path)
    assert "make its folder first" in refusals(tmp_path / "none" / "out.jsonl")
    assert "Not a directory" in refusals(tmp_path / "there.jsonl" / "out.jsonl")
    assert "too long" in refusals(tmp_path / ("x" * 300))

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    assert "cannot be written: Read-only" in refusals(tmp_path / "out.jsonl")


def test_lines_are_there_whole_as_they_come(tmp_path):
    file = tmp_path / "out.jsonl"
    with answers.lines(file) as add:
        for i in range(3):
            add(ROW | {"i": i})
            assert [json.loads(t)["i"] for t in file.read_text().splitlines()] == [
                *range(i + 1)
            ]
    with answers.lines(tmp_path / "unused.jsonl"):
        assert (tmp_path / "unused.jsonl").exists()
    assert not (tmp_path / "unused.jsonl").exists()


def test_a_full_disk_is_one_line_and_leaves_whole_lines(tmp_path):
    file, limits = tmp_path / "out.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    with answers.lines(file) as add:
        add(ROW)
        size = file.stat().st_size
        try:  # a file that may not grow by a line is as a disk without room
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, limits[1]))
            with pytest.raises(UsageError, match="cannot be written: ") as e:
                add(ROW)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(e.value)
        assert file.read_text() == json.dumps(ROW) + "\n"


class Runtime:
    """A device that answers class 0, and that something befalls at image `at`."""

    def __init__(self, at, what):
        self.at, self.what, self.asked, self.breaker = at, what, 0, Breaker()
        self.bundle = SimpleNamespace(labels=("a", "b"))

    def infer(self, image):
        if self.asked == self.at:
            raise self.what
        self.asked += 1
        outputs = {"prediction": np.array(0), "logits": np.array([1.0, 0.0])}
        return Answer(0, "edge", 8, {"edge": 0.1}, outputs=outputs)


@pytest.mark.parametrize("what", [KeyboardInterrupt(), UsageError("damaged")])
@pytest.mark.parametrize("at", [0, 2])
def test_what_ends_a_run_leaves_rows_and_a_summary(pictures, capsys, what, at):
    found, rows = answers.images_of(str(pictures), (24, 40, 3), 100), []
    with pytest.raises(type(what)):
        answers.answer_all(Runtime(at, what), found, rows.append)
    assert [row["image"] for row in rows] == list(found.files[:at])
    assert all(row["class"] == "a" and row["sent_bytes"] == 8 for row in rows)
    printed = capsys.readouterr().out
    assert f"answered {at} of " in printed and f"ended after {at} of 3" in printed


def test_a_run_ends_with_how_long_the_server_was_lost(pictures, capsys):
    def lost():
        raise OSError

    runtime = Runtime(99, None)
    for _ in range(3):
        with pytest.raises(OSError):
            runtime.breaker.call(lost, lambda error: True)
    found = answers.images_of(str(pictures), (24, 40, 3), 100)
    answers.answer_all(runtime, found, None)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("the server was lost for ") and last.endswith("it still is")


def test_a_class_without_a_label_is_its_number_and_no_probability_is_not_a_number():
    outputs = {"prediction": np.array(2), "logits": np.array([-np.inf, 0.0, np.inf])}
    answer = Answer(2, "edge", 8, outputs=outputs)
    row = answers.row(answer, "1", ("a", "b"), top=3)
    shown = [(each["class"], each["probability"]) for each in row["top"]]
    assert shown == [("2", 1.0), ("a", 0.0), ("b", 0.0)]
    labels = replace(answer, outputs={"labels": outputs["logits"] > 0, **outputs})
    np.testing.assert_array_equal(labels.probabilities, [0, 0.5, 1])
