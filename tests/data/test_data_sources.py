"""Sources by name: Fashion-MNIST, splits, and errors of one line."""

import gzip
import hashlib
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from sc_jax.data import dataset as dataset_module
from sc_jax.data import fashion_mnist, make_embedded, pipeline, sources
from sc_jax.errors import UsageError


def row_hashes(dataset):
    return [hashlib.sha256(image.tobytes()).digest() for image in dataset.images]


@pytest.mark.parametrize(
    ("split", "per_class"),
    [("train", 900), ("validation", 100), ("train+validation", 1000), ("test", 200)],
)
def test_embedded_splits(split, per_class):
    dataset = sources.load("fashion_mnist_12k", split)
    assert (dataset.name, dataset.split) == ("fashion_mnist_12k", split)
    assert len(dataset) == 10 * per_class
    assert dataset.in_memory
    assert dataset.shape == (28, 28, 1)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int32
    assert np.bincount(dataset.labels).tolist() == [per_class] * 10
    assert len(dataset.classes) == 10


def test_validation_is_the_same_tenth_and_disjoint():
    every = sources.load("fashion_mnist_12k", "train+validation")
    held = sources.held_out(every.labels)
    assert np.array_equal(held, sources.held_out(every.labels))
    kept = [sources.load("fashion_mnist_12k", s) for s in ("train", "validation")]
    joined = sorted(row_hashes(kept[0]) + row_hashes(kept[1]))
    assert joined == sorted(row_hashes(every))
    assert not {*row_hashes(kept[0])} & {*row_hashes(kept[1])}
    # Frozen: thresholds solved on validation must never have been trained on.
    digest = hashlib.sha256(np.packbits(held).tobytes()).hexdigest()
    assert digest[:16] == "529ed3b6816380b2"


def test_all_but_the_classes_of_interest_are_one():
    for split in ("train", "validation", "test"):
        whole = sources.load("fashion_mnist_12k", split, image_size=14)
        name = "only:9+sandal:fashion_mnist_12k"
        some = sources.load(name, split, image_size=14)
        assert (some.name, some.split) == (name, split)
        assert some.classes == (sources.NOTHING, "ankle boot", "sandal")
        np.testing.assert_array_equal(some.images, whole.images)
        wanted = np.select([whole.labels == 9, whole.labels == 5], [1, 2], 0)
        np.testing.assert_array_equal(some.labels, wanted)
        assert some.labels.dtype == np.int32


def test_small_classes_stay_in_train():
    held = sources.held_out(np.array([0] * 5 + [1] * 10 + [2] * 26))
    assert [held[:5].sum(), held[5:15].sum(), held[15:].sum()] == [0, 1, 3]


def test_embedded_size_and_notice():
    folder = resources.files("sc_jax.data").joinpath("embedded")
    assert len(folder.joinpath("fashion_mnist_12k.npz").read_bytes()) <= 5_500_000
    assert "Zalando SE" in folder.joinpath("LICENSE.fashion-mnist").read_text("utf-8")


@pytest.fixture
def idx_folder(tmp_path):
    """A Fashion-MNIST of 1,000 + 200 noise images a class."""
    rng = np.random.default_rng(1)
    for stem, count in (("train", 10_050), ("t10k", 2_010)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        for what, array in (("images", images), ("labels", labels)):
            sizes = np.array(array.shape, ">i4").tobytes()
            data = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            name = f"{stem}-{what}-idx{array.ndim}-ubyte.gz"
            (tmp_path / name).write_bytes(gzip.compress(data, 0))
    return tmp_path


def test_full_set_and_the_cut_from_it(idx_folder):
    dataset = sources.load(f"fashion_mnist:{idx_folder}", "train+validation")
    assert len(dataset) == 10_050
    outs = [str(idx_folder / name) for name in ("a.npz", "b.npz")]
    for out in outs:
        make_embedded.make(str(idx_folder), out)
    first, second = (Path(out).read_bytes() for out in outs)
    assert first == second
    with np.load(outs[0]) as arrays:
        assert np.bincount(arrays["train_labels"]).tolist() == [1000] * 10
        assert np.bincount(arrays["test_labels"]).tolist() == [200] * 10
        whole = {image.tobytes() for image in dataset.images}
        assert all(image.tobytes() in whole for image in arrays["train_images"])


def test_damaged_idx_names_the_file(idx_folder, fails):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UsageError) as info:
        sources.load(f"fashion_mnist:{idx_folder}", "train")
    assert str(path) in fails(info)


@pytest.mark.parametrize(
    ("name", "split", "words"),
    [
        ("fashion_mnist:/nowhere", "train", ["apt-get install dataset-fashion-mnist"]),
        ("fashoin_mnist", "train", ["did you mean", "fashion_mnist", "tfds", "folder"]),
        ("fashion_mnist_12k", "val", ["unknown split", "validation", "test"]),
        ("fashion_mnist_12k:x", "train", ["no argument"]),
        ("only:5", "train", ["only:A+B:NAME"]),
        ("only:5:fashion", "train", ["data source", "fashion_mnist_12k"]),
        ("only:sandals:fashion_mnist_12k", "train", ["did you mean", "sandal"]),
        ("only:5+sandal:fashion_mnist_12k", "train", ["different classes"]),
    ],
)
def test_errors_name_the_way_out(name, split, words, fails):
    with pytest.raises(UsageError) as info:
        sources.load(name, split)
    assert all(word in fails(info) for word in words)


def test_image_size_resizes():
    dataset = sources.load("fashion_mnist_12k", "test", image_size=14)
    assert dataset.images.shape == (2000, 14, 14, 1)
    whole = sources.load("fashion_mnist_12k", "test")
    assert abs(dataset.images.mean() - whole.images.mean()) < 2
    with pytest.raises(UsageError):
        sources.load("fashion_mnist_12k", "test", image_size=0)


def test_resized_sets_are_made_once_and_kept(monkeypatch):
    real, calls = dataset_module._resized, []
    monkeypatch.setattr(dataset_module, "_KEPT_BYTES", 1000)
    monkeypatch.setattr(
        dataset_module, "_resized", lambda *a: calls.append(1) or real(*a)
    )
    first, again = (
        sources.load("fashion_mnist_12k", "test", image_size=14) for _ in range(2)
    )
    assert np.array_equal(first.images, again.images) and len(calls) == 1
    other = sources.load("fashion_mnist_12k", "test", image_size=15)
    assert other.shape == (15, 15, 1) and len(calls) == 2


def test_above_the_limit_images_are_resized_as_they_are_read(monkeypatch):
    whole = sources.load("fashion_mnist_12k", "test", image_size=30)
    monkeypatch.setattr(dataset_module, "MEMORY_LIMIT_BYTES", 30 * 30 * 2000 - 1)
    lazy = sources.load("fashion_mnist_12k", "test", image_size=30)
    assert whole.in_memory and not lazy.in_memory
    assert lazy.shape == whole.shape == (30, 30, 1)
    assert all(np.array_equal(lazy.image(i), whole.image(i)) for i in range(50))
    one, other = (
        next(pipeline.batches(d, batch_size=8, seed=1, augment="none"))
        for d in (whole, lazy)
    )
    assert np.array_equal(one["image"], other["image"])
    some = lazy.take(np.arange(7, 3, -1))
    assert np.array_equal(some.image(0), whole.image(7))


def test_600_pixels_of_the_embedded_set_stay_below_the_limit():
    """They would be 3.0 GiB."""
    # Not getrusage: its peak is also that of the process which started this one.
    code = (
        "from sc_jax.data import sources, pipeline; "
        "d = sources.load('fashion_mnist_12k', 'train', image_size=600); "
        "assert d.shape == (600, 600, 1) and not d.in_memory; "
        "d.image(8999); "
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert int(shown) * 1024 < 1 << 30


def test_sources_import_neither_tensorflow_nor_jax():
    code = (
        "import sys; from sc_jax.data import sources; "
        "sources.load('fashion_mnist_12k', 'test'); "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'jax', 'grain')"
        " if m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.check_output(run, text=True).strip() == "[]"


def test_classes_are_the_official_ones():
    assert fashion_mnist.CLASSES[0] == "t-shirt"
    assert fashion_mnist.CLASSES[9] == "ankle boot"
