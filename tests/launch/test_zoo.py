"""Published students: written from a run, opened again, started from."""

import os
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import sc_jax
from sc_jax.errors import UsageError
from sc_jax.nets.backbones import mobilenetv2
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.backbones.mobilenetv2 import ConvNorm6
from sc_jax.nets.backbones.registry import BACKBONES
from sc_jax.nets.checkpoints import torch_file
from sc_jax.nets.layers.blocks import Classifier, Pooled
from sc_jax.nets.net import Stage
from sc_jax.nets.run import Variables
from sc_jax.runs import (
    catalogue,
    loading,
    publish,
    run_folder,
    sweep,
    training,
    unpack,
    zoo,
)
from sc_jax.runs.source import Source

SIDE, CLASSES = 16, 3
REAL_READ = torch_file.read


def small(*, classes):
    """Two convolutions under names that mobilenetv2's checkpoint has."""
    first, last = Stage("stem", ConvNorm6(8, 3, 2)), Stage("last", ConvNorm6(12, 1))
    fc = Classifier(classes, dropout=0.0)
    return first, last, Stage("avgpool", Pooled()), Stage("fc", fc)


def weights() -> dict[str, np.ndarray]:
    """torchvision's names for `small`."""
    rng, made = np.random.default_rng(0), {}
    for block, shape in (("0", (8, 3, 3, 3)), ("18", (12, 8, 1, 1))):
        made[f"features.{block}.0.weight"] = rng.normal(size=shape)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            made[f"features.{block}.1.{leaf}"] = rng.uniform(0.5, 1.5, shape[0])
    made["classifier.1.weight"] = rng.normal(size=(CLASSES, 12))
    made["classifier.1.bias"] = rng.normal(size=CLASSES)
    return {name: array.astype(np.float32) for name, array in made.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder to stand in: album.zip's like, labelled images, a checkpoint's file."""
    root, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SC_JAX_CACHE", str(root / "cache"))
        patch.setattr(torch_file, "read", lambda file: weights())
        known = Backbone(small, cut="", linear=True, checkpoint=mobilenetv2.checkpoint)
        patch.setitem(BACKBONES, "small", known)
        patch.chdir(root)
        for folder, count in (("album", 12), ("labelled", 6)):
            Path(folder).mkdir()
            for i in range(count):
                pixels = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
                Image.fromarray(pixels).save(f"{folder}/{i % CLASSES}_{i}.png")
        Path("net.pth").write_bytes(b"a checkpoint")
        Path("other.pth").write_bytes(b"another")
        yield root


@pytest.fixture(scope="module")
def made(world):
    """(the run's folder, its student's spec): one step of training, and published."""
    knobs = {"backbone": "small", "pretrained": "net.pth", "teacher_epochs": 0}
    knobs |= {"pair": "projection", "after": "stem", "channels": 4, "batch_size": 4}
    knobs |= {"data": f"photos:{world}/album", "augment": "none", "stage2_epochs": 0}
    knobs |= {"test": f"indexed:{CLASSES}:{world}/labelled", "image_size": SIDE}
    source = Source("entropic_student", knobs | {"stage1_epochs": 0.1, "alpha": 0})
    training.train(source.build(), world / "run", source, log_every=1)
    file = world / "mine.npz"
    title = {"title": "a small net", "url": "https://example.org/net.pth"}
    found = publish.publish(world / "run", file, **title)
    assert found.size == file.stat().st_size < 100_000
    assert [row.method for row in found.rows] == ["teacher", "Entropic Student"]
    return world / "run", f"zoo:{file}"


@pytest.fixture(scope="module")
def opened(made):
    return sc_jax.load(made[1], pretrained="net.pth")


def test_a_student_is_its_run_with_kernels_of_24_bits(made, opened, world):
    run, spec = made
    recipe = run_folder.recipe_of(run)
    variables, codecs = run_folder.restore(recipe, run)
    record = zoo.read(spec).record
    assert record.parts == ["decoder", "encoder", "split@encoder"]

    def rounded(part, tree):
        if part not in ("encoder", "decoder"):
            return tree
        return jax.tree.map(
            lambda a: zoo.shortened(np.asarray(a)) if a.ndim > 1 else a, tree
        )

    wanted = Variables(*({p: rounded(p, t) for p, t in v.items()} for v in variables))
    same = jax.tree.map(np.array_equal, jax.device_get(opened.variables), wanted)
    assert all(jax.tree.leaves(same))
    pair = (v.params["encoder"]["Conv_0"]["kernel"] for v in (variables, wanted))
    kernel, short = map(np.asarray, pair)
    np.testing.assert_allclose(short, kernel, rtol=2**-16)
    assert not np.array_equal(short, kernel) and not (short.view(np.uint32) & 255).any()
    # Not made again from the weights: those that the run saved.
    assert opened.codecs == codecs
    image = run_folder.dataset_of(recipe, "test").image(0)
    loaded = replace(loading.load(run), variables=wanted)
    for name, array in loading.answer(loaded, image).items():
        np.testing.assert_array_equal(opened(image)[name], array)
    assert opened.encode(image) == loading.encode(loaded, image)


def test_parts_that_this_version_does_not_build_are_refused(made, world):
    student = zoo.read(made[1])
    params = {**student.variables.params}
    params["encoder"] = {"Conv_0": params["encoder"]["Conv_0"]}
    other = replace(student, variables=Variables(params, student.variables.state))
    with pytest.raises(UsageError, match="another version of sc_jax: its encoder has"):
        unpack.unpack(other, world / "other", "net.pth")
    assert not (world / "other").exists()


def test_it_opens_without_its_data_and_again_without_the_checkpoint(made, opened):
    assert opened.facts["classes"] == tuple(map(str, range(CLASSES)))
    assert opened.path.parent == Path(os.environ["SC_JAX_CACHE"]) / "zoo"
    assert sc_jax.load(made[1]).path == opened.path
    saved = (opened.path / "recipe.json").read_text()
    assert '"photos:album"' in saved and "world" not in saved
    assert opened.recipe.steps == 0 and opened.recipe.data.test is None
    assert [*opened.path.parent.iterdir()] == [opened.path]  # no half-made folder


def test_a_folder_of_it_is_reported_as_any_run(made, world):
    _, spec = made
    text = f"{spec},pretrained=net.pth,test=indexed:{CLASSES}:{world}/labelled"
    sc_jax.train(text, world / "again", baselines=False)
    report = run_folder.read_json(world / "again" / "report.json")
    (row,), facts = report["rows"], report["facts"]
    whole, student = zoo.read(spec).record.measured
    assert (whole["method"], whole["payload_bytes"]) == ("teacher", None)
    assert row["quality"] == student["quality"]
    assert row["payload_bytes"][0] == student["payload_bytes"]
    assert facts["trained on"] == "photos:album (4 images seen)"
    assert facts["phases"] == {"stage1": 1}


def test_another_run_starts_from_it(made, world):
    knobs = zoo.read(made[1]).record.knobs | {"stage1_epochs": 0}
    data = {"data": f"photos:{world}/album", "pretrained": "net.pth"}
    test = f"indexed:{CLASSES}:{world}/labelled"
    source = Source("entropic_student", knobs | data | {"test": test})
    workdir, start = world / "further", Path(made[1])
    sweep.run(source, workdir, init=start, report=False)
    found = training.weights(workdir)
    for own, theirs in zip(found, zoo.read(made[1]).variables):
        for part, tree in theirs.items():
            assert all(jax.tree.leaves(jax.tree.map(np.array_equal, own[part], tree)))
    assert run_folder.read_json(workdir / "recipe.json")["init"]["folder"] == made[1]
    assert publish.seen(workdir) == publish.seen(made[1]) == 4


def test_mistakes_are_one_line(made, world, tmp_path):
    run, spec = made
    net = "pretrained=net.pth"
    name = {"title": "", "url": ""}
    for wrong, message in [
        (lambda: sc_jax.train(spec, tmp_path / "a"), "needs pretrained=FILE: a small"),
        (
            lambda: sc_jax.train(f"{spec},pretrained=other.pth", tmp_path / "a"),
            r"other.pth is another checkpoint .*example.org/net.pth",
        ),
        (lambda: sc_jax.load("zoo:none"), "unknown published student 'none'"),
        (lambda: sc_jax.load("zoo:none.npz"), "no published student none.npz"),
        (lambda: sc_jax.load(f"zoo:{world}/net.pth.npz"), "is no whole published"),
        (lambda: sc_jax.load(run, pretrained="net.pth"), "has its weights"),
        (
            lambda: sc_jax.train(f"{spec},{net},beta=1", tmp_path / "a"),
            "unknown knob .*'beta'. Known: pretrained, data, test",
        ),
        (
            lambda: sc_jax.train(f"{spec},{net}", tmp_path / "a", sweep="seed:0,1"),
            "trained already: leave out --sweep, or start .* --init=zoo:",
        ),
        (
            lambda: publish.publish(run / "teacher", tmp_path / "a.npz", **name),
            "no public checkpoint for a teacher",
        ),
    ]:
        Path(f"{world}/net.pth.npz").write_bytes(b"none")
        with pytest.raises(UsageError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_a_file_of_more_than_a_megabyte_is_refused(made, tmp_path, monkeypatch):
    student = zoo.read(made[1])
    monkeypatch.setattr(zoo, "LARGEST_BYTES", 1000)
    with pytest.raises(UsageError, match="more than 1,000: trained were decoder"):
        zoo.write(tmp_path / "a.npz", student.record, student.variables, student.tables)
    assert not [*tmp_path.iterdir()]


def test_the_package_has_students_whose_records_are_whole():
    assert catalogue.show("zoo").count("; teacher top-1") == len(zoo.ZOO)
    for name, file in zoo.ZOO.items():
        student = zoo.read(f"zoo:{name}")
        record = student.record
        assert len(record.teacher.sha256) == 64 and record.teacher.url.endswith(".pth")
        # No folder of the machine that trained it.
        assert not any("/" in str(value) for value in record.knobs.values())
        assert "/" not in record.data.name + record.probe["data"]
        assert len(record.probe["payload_bytes"]) == publish.PROBED
        assert student.tables.keys() <= student.variables.params.keys()
        assert file.stat().st_size <= 1_000_000
    assert sum(file.stat().st_size for file in zoo.ZOO.values()) <= 4_000_000


ASKED = "SC_JAX_MOBILENETV2", "SC_JAX_PHOTOS"


@pytest.mark.skipif(
    not all(name in os.environ for name in ASKED), reason=f"{' and '.join(ASKED)} unset"
)
@pytest.mark.parametrize("name", sorted(zoo.ZOO)[:1])
def test_ten_photographs_take_the_published_bytes(name, tmp_path, monkeypatch):
    """SC_JAX_MOBILENETV2=FILE, SC_JAX_PHOTOS=indexed:1000:PATH, the record's set."""
    monkeypatch.setattr(torch_file, "read", REAL_READ)  # `world` has weights of its own
    student = zoo.read(f"zoo:{name}")
    unpack.unpack(student, tmp_path, os.environ[ASKED[0]], test=os.environ[ASKED[1]])
    examples = run_folder.dataset_of(run_folder.recipe_of(tmp_path), "test")
    found, wanted = publish.probe(tmp_path, examples), student.record.probe
    if found["labels"] != wanted["labels"]:
        pytest.skip(f"{ASKED[1]} is not {wanted['data']}")
    # Other processors sum in another order: a symbol here and there is another.
    sizes = np.array(found["payload_bytes"]) / wanted["payload_bytes"]
    np.testing.assert_allclose(sizes, 1, atol=0.01)
    assert np.equal(found["predictions"], wanted["predictions"]).sum() >= 9
