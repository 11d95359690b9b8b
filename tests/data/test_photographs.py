"""Photographs without labels, and the labelled set that is tested instead."""

import shutil

import numpy as np
import pytest
from PIL import Image

from sc_jax.data import pipeline, sources
from sc_jax.data.damage import skipping
from sc_jax.data.pipeline import Data
from sc_jax.errors import UsageError

SUFFIXES = (".jpg", ".png", ".webp", ".bmp")


@pytest.fixture
def album(tmp_path):
    """make(count) -> nested, photographs of two sizes whose red is their number."""

    def make(count=200, name="album"):
        for i in range(count):
            folder = tmp_path / name / f"year{i % 3}" / f"month{i % 5}"
            folder.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", (12 + i % 2, 10), (i, 100, 200))
            image.save(folder / f"{i:03d}{SUFFIXES[i % 4]}")
        return tmp_path / name

    return make


@pytest.fixture
def indexed(tmp_path):
    """make(classes) -> a folder of eight images of ten classes, 0000_0.png, ..."""

    def make(name="tested"):
        (tmp_path / name).mkdir()
        for i in range(8):
            image = Image.new("RGB", (20 + i % 2, 20), (0, i, 0))
            image.save(tmp_path / name / f"{i:04d}_{i}.png")
        return tmp_path / name

    return make


def damage(root, count):
    """Truncates the first photographs; their names in the album."""
    files = sorted(p for p in root.rglob("*") if p.is_file())[:count]
    for file in files:
        file.write_bytes(file.read_bytes()[:40])
    return [file.relative_to(root).as_posix() for file in files]


def test_a_nested_folder_and_its_zip_are_photographs_of_no_class(album, tmp_path):
    root = album()
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", root)
    names = f"photos:{root}", f"photos:{archive}"
    for split, count in (("train", 180), ("validation", 20)):
        one, other = (sources.load(name, split) for name in names)
        assert len(one) == len(other) == count and one.files == other.files
        assert not one.labelled and (one.labels == -1).all() and one.classes == ()
        assert not one.in_memory and one.shape == (224, 224, 3)
        assert all(np.array_equal(one.images[i], other.images[i]) for i in range(8))
    parts = [sources.load(names[0], split).files for split in ("train", "validation")]
    assert len({*parts[0], *parts[1]}) == 200
    assert {file[-4:] for file in parts[0]} == {".jpg", ".png", "webp", ".bmp"}


def test_equal_sizes_are_held_in_memory_and_a_batch_has_no_labels(photos):
    dataset = sources.load(f"photos:{photos('set')}", "train")
    assert dataset.in_memory and len(dataset) == 16 and not dataset.labelled
    options = {"batch_size": 4, "seed": 0, "augment": "none"}
    batch = next(pipeline.batches(dataset, **options))
    assert batch.keys() == {"image"} and batch["image"].shape == (4, 10, 12, 3)


def test_one_broken_photograph_of_200_is_named_and_left_out(album, said):
    root = album()
    before = {s: sources.load(f"photos:{root}", s).files for s in sources.SPLITS[:2]}
    (name,) = damage(root, 1)
    after = {s: sources.load(f"photos:{root}", s).files for s in sources.SPLITS[:2]}
    lines = said()
    assert len(lines) == 1 and "1 of 200 images cannot be read" in lines[0]
    assert name in lines[0]
    # All others are where they were.
    for split, files in before.items():
        assert after[split] == tuple(file for file in files if file != name)
    damage(root, 2)  # 1 % exactly
    whole = sources.load(f"photos:{root}", "train+validation")
    assert len(whole) == 198 and len([whole.images[i] for i in range(198)]) == 198


def test_more_than_one_in_a_hundred_broken_are_refused_in_a_line(album, fails):
    root = album()
    names = damage(root, 3)
    with pytest.raises(UsageError) as info:
        sources.load(f"photos:{root}", "train")
    line = fails(info)
    assert "3 of 200 photographs cannot be read, more than 1%" in line
    assert all(name in line for name in names) and "--skip_damaged" in line
    with skipping():
        assert len(sources.load(f"photos:{root}", "train+validation")) == 197


def test_photographs_are_not_tested_on(album, fails):
    name = f"photos:{album(12)}"
    for wrong in (
        lambda: sources.load(name, "test"),
        lambda: pipeline.opened(Data(name), "train"),
        lambda: sources.load("photos:", "train"),
        lambda: sources.load(f"only:a:{name}", "train"),
        lambda: sources.load("fashion_mnist_12k", "train", test=name),
        lambda: sources.load(name, "train", test="nothing:here"),
        lambda: sources.load(name, "train", test=f"plain:{name[7:]}"),
        lambda: sources.load(name, "train", test=f"only:a:plain:{name[7:]}"),
    ):
        with pytest.raises(UsageError) as info:
            wrong()
        assert fails(info)


def test_all_of_another_set_is_tested_and_gives_its_classes(album, indexed):
    data = Data(f"photos:{album(20)}", test=f"indexed:10:{indexed()}", image_size=16)
    train, held, test = (
        pipeline.opened(data, s) for s in ("train", "validation", "test")
    )
    assert (len(train), len(held), len(test)) == (18, 2, 8)
    assert train.classes == held.classes == test.classes == tuple("0123456789")
    assert test.labels.tolist() == [*range(8)] and test.labelled
    assert train.shape == test.shape == (16, 16, 3)
    assert (train.name, test.name) == (data.name, data.test)
    # Alone, the same set keeps its fourths.
    assert len(sources.load(data.test, "test")) == 2


def test_a_labelled_set_can_be_tested_on_another(photos, tmp_path, fails):
    photos("one/train"), photos("one/test", per_class=2)
    photos("other", per_class=3)
    one, other = f"folder:{tmp_path}/one", f"folder:{tmp_path}/other"
    assert len(sources.load(one, "test", test=other)) == 9
    assert len(sources.load(other, "test", test=one)) == 6
    assert len(sources.load(one, "train", test=other)) == 15
    with pytest.raises(UsageError, match="share files"):
        sources.load(other, "train", test=other)
    part = f"only:emu:{other}"
    with pytest.raises(UsageError, match="share files"):
        sources.load(part, "train", test=part)
    (tmp_path / "other" / "emu").rename(tmp_path / "other" / "owl")
    with pytest.raises(UsageError) as info:
        sources.load(one, "train", test=other)
    assert "emu, owl" in fails(info)


def test_sets_of_other_shapes_or_shared_files_are_refused(album, indexed, fails):
    root, tested = album(20), indexed()
    with pytest.raises(UsageError) as info:
        sources.load(f"photos:{root}", "train", test="fashion_mnist_12k")
    assert "[224, 224, 3]" in fails(info) and "image_size" in fails(info)
    with pytest.raises(UsageError) as info:
        sources.load(f"photos:{tested}", "train", test=f"indexed:10:{tested}")
    assert "share files" in fails(info)
    (root / "again").symlink_to(tested)
    with pytest.raises(UsageError) as info:
        sources.load(f"photos:{root}", "train", test=f"indexed:10:{tested}")
    assert "share files" in fails(info)


def test_a_damaged_test_image_shows_before_training(album, indexed, fails):
    root, tested = album(20), indexed()
    (name,) = damage(tested, 1)
    with pytest.raises(UsageError) as info:
        sources.load(f"photos:{root}", "train", test=f"indexed:10:{tested}")
    assert name in fails(info) and "1 of 8 test images" in fails(info)
    with skipping():
        test = sources.load(f"photos:{root}", "test", test=f"indexed:10:{tested}")
    assert len(test) == 7
