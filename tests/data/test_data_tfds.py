"""TFDS sets: read where prepared, without TensorFlow and without a network."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sc_jax.data import pipeline, sources
from sc_jax.errors import UsageError

HERE = Path(__file__).parent
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


@pytest.fixture
def prepared(tmp_path):
    """What `launch.prepare_data` once made of tests/data/tiny_shapes."""
    with zipfile.ZipFile(HERE / "tiny_shapes_prepared.zip") as archive:
        archive.extractall(tmp_path / "tfds")
    return str(tmp_path / "tfds")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def check_tiny_shapes(data_dir):
    whole = sources.load("tfds:tiny_shapes", "train+validation", data_dir=data_dir)
    assert whole.in_memory
    assert whole.images.shape == (32, 8, 8, 3)
    assert whole.classes == ("upright", "flat")
    for image, label in zip(whole.images, whole.labels):
        rows = np.flatnonzero(image.any((1, 2)))
        assert len(rows) == (1 if label == 1 else 8)
    test = sources.load("tfds:tiny_shapes", "test", data_dir=data_dir)
    assert test.labels.tolist().count(0) == 4
    assert len(test) == 8


def test_reads_a_prepared_set(prepared, no_network):
    check_tiny_shapes(prepared)
    check_tiny_shapes(prepared)  # now from the cache


def test_lazy_equals_decoded(prepared, monkeypatch):
    decoded = sources.load("tfds:tiny_shapes", "train", data_dir=prepared)
    monkeypatch.setattr("sc_jax.data.tfds_source.MEMORY_LIMIT_BYTES", 100)
    lazy = sources.load("tfds:tiny_shapes", "train", data_dir=prepared, image_size=8)
    assert not lazy.in_memory
    batches = [
        [*pipeline.evaluation_batches(dataset, 10)] for dataset in (decoded, lazy)
    ]
    for one, other in zip(*batches):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
        assert one[2] == other[2]


def test_no_tensorflow_is_imported(prepared):
    code = (
        "import sys; from sc_jax.data import sources; "
        f"sources.load('tfds:tiny_shapes', 'train', data_dir={prepared!r}); "
        "print('tensorflow' in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.strip() == "False"


@pytest.mark.parametrize("name", ["cifar10", "mnist", "no_such_set:config"])
def test_unprepared_is_an_immediate_error(name, tmp_path, no_network, fails):
    start = time.perf_counter()
    with pytest.raises(UsageError) as info:
        sources.load(f"tfds:{name}", "train", data_dir=str(tmp_path))
    assert time.perf_counter() - start < 5
    assert f"python -m launch.prepare_data --data=tfds:{name}" in fails(info)
    assert f"--data_dir={tmp_path}" in fails(info)


def test_config_must_be_named(prepared, fails):
    (Path(prepared) / "tiny_shapes").rename(Path(prepared) / "small")
    (Path(prepared) / "tiny_shapes").mkdir()
    (Path(prepared) / "small").rename(Path(prepared) / "tiny_shapes" / "small")
    with pytest.raises(UsageError) as info:
        sources.load("tfds:tiny_shapes", "train", data_dir=prepared)
    assert "tfds:tiny_shapes:small" in fails(info)


TRAIN = "tiny_shapes-train.array_record-00000-of-00001"


def newer(without):
    """Makes version 9.0.0, a copy without the files of which `without` holds."""

    def make(folder):
        copy = folder.parent / "9.0.0"
        shutil.copytree(folder, copy)
        for path in copy.iterdir():
            if without(path.name):
                path.unlink()

    return make


def rewrite(name, change):
    def write(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return write


DAMAGES = {
    "cut": (rewrite(TRAIN, lambda data: data[: len(data) // 2]), TRAIN),
    "cut by one": (rewrite(TRAIN, lambda data: data[:-1]), TRAIN),
    "empty": (rewrite(TRAIN, lambda data: b""), TRAIN),
    "flipped": (
        rewrite(TRAIN, lambda data: data[:1310] + b"????" + data[1314:]),
        TRAIN,
    ),
    "no shard": (lambda folder: (folder / TRAIN).unlink(), TRAIN),
    "empty info": (rewrite("dataset_info.json", lambda data: b""), "dataset_info.json"),
    "info of nothing": (rewrite("dataset_info.json", lambda data: b"{}"), "version"),
    "cut features": (rewrite("features.json", lambda data: data[:40]), "features.json"),
    "other features": (rewrite("features.json", lambda data: b"{}"), "class name"),
    "deep features": (
        rewrite("features.json", lambda data: b"[" * 9000 + b"]" * 9000),
        "features.json",
    ),
    "newer, info only": (newer(lambda name: "info" not in name), "version 1.0.0 is"),
    "newer, no train": (newer(lambda name: "train" in name), "version 1.0.0 is used"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_one_line_that_names_the_file(kind, prepared, fails):
    (folder,) = (Path(prepared) / "tiny_shapes").iterdir()
    damage, word = DAMAGES[kind]
    damage(folder)
    with pytest.raises(UsageError) as info:
        sources.load("tfds:tiny_shapes", "train", data_dir=prepared)
    line = fails(info)
    assert word in line and "is damaged" in line and "delete it" in line
    assert str(folder.parent / ("9.0.0" if "newer" in kind else "1.0.0")) in line
    assert "newer" in kind or "launch.prepare_data" in line


def test_what_is_still_being_prepared_is_not_read(prepared):
    (folder,) = (Path(prepared) / "tiny_shapes").iterdir()
    newer(lambda name: "train" in name)(folder)
    (folder.parent / "9.0.0").rename(folder.parent / "9.0.0.incompleteX7R")
    check_tiny_shapes(prepared)


def test_a_damaged_record_of_a_lazy_set_names_its_shard(prepared, monkeypatch, fails):
    monkeypatch.setattr("sc_jax.data.tfds_source.MEMORY_LIMIT_BYTES", 100)
    lazy = sources.load("tfds:tiny_shapes", "train", data_dir=prepared)
    shard = next(Path(prepared).rglob(TRAIN))
    data = shard.read_bytes()
    with shard.open("r+b") as file:  # the same file, that a reader has open
        file.write(bytes(len(data)))
    with pytest.raises(UsageError) as info:
        for i in range(len(lazy)):
            lazy.image(i)
    assert TRAIN in fails(info)


def test_other_formats_are_refused(prepared, fails):
    info_file = next(Path(prepared).rglob("dataset_info.json"))
    text = info_file.read_text().replace('"array_record"', '"tfrecord"')
    info_file.write_text(text)
    with pytest.raises(UsageError) as info:
        sources.load("tfds:tiny_shapes", "train", data_dir=prepared)
    assert "tfrecord, not array_record" in fails(info)


def prepare(*flags):
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    command = [sys.executable, "-m", "launch.prepare_data", *flags]
    environment = {**os.environ, "PYTHONPATH": path}
    root = HERE.parent.parent
    return subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True
    )


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="preparing needs tensorflow")
def test_prepare_then_read(tmp_path):
    builder = "--builder=tiny_shapes.tiny_shapes_dataset_builder"
    done = prepare("--data=tfds:tiny_shapes", f"--data_dir={tmp_path}", builder)
    assert done.returncode == 0, done.stderr
    check_tiny_shapes(str(tmp_path))


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="preparing needs tensorflow")
def test_prepare_of_an_unknown_set_is_an_error(tmp_path):
    done = prepare("--data=tfds:no_such_set", f"--data_dir={tmp_path}")
    assert done.returncode == 2
    assert "--builder=MODULE" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(HAS_TENSORFLOW, reason="is about tensorflow missing")
def test_prepare_without_tensorflow_is_one_line():
    done = prepare("--data=tfds:tiny_shapes")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "sc_jax[prepare]" in done.stderr


def test_prepare_is_for_tfds_only():
    done = prepare("--data=folder:x")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_prepare_answers_as_the_other_binaries():
    page = prepare("--help")
    assert page.returncode == 0 and "Flags (and defaults)" in page.stdout
    for flags, words in (((), "give --data"), (("--dta=x",), "--help lists")):
        done = prepare(*flags)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ") and words in done.stderr
