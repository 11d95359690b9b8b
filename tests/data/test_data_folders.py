"""Class folders in a folder or a zip."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sc_jax.data import folders, pipeline, sources
from sc_jax.errors import UsageError


def test_zip_equals_folder(photos, tmp_path):
    folder = photos("set")
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", folder)
    wrapped = shutil.make_archive(str(tmp_path / "wrapped"), "zip", tmp_path, "set")
    sets = [
        sources.load(f"folder:{path}", "train+validation")
        for path in (folder, archive, wrapped)
    ]
    for dataset in sets:
        assert dataset.in_memory
        assert dataset.shape == (10, 12, 3)
        assert dataset.classes == ("cat", "dog", "emu")
        assert dataset.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
        assert np.array_equal(dataset.images, sets[0].images)
    first = np.asarray(Image.open(folder / "cat" / "00.png"))
    assert np.array_equal(sets[0].images[0], first)


def test_parts_from_one_folder_or_two_paths(photos, tmp_path):
    photos("set/train", per_class=10)
    photos("set/val", per_class=2)
    for name in (f"{tmp_path}/set", f"{tmp_path}/set/train,{tmp_path}/set/val"):
        splits = {s: len(sources.load(f"folder:{name}", s)) for s in sources.SPLITS}
        wanted = {"train": 27, "validation": 3, "train+validation": 30, "test": 6}
        assert splits == wanted


def test_grey_stays_grey(photos):
    dataset = sources.load(f"folder:{photos('set', mode='L')}", "train")
    assert dataset.shape == (10, 12, 1)


def test_varying_sizes_are_read_one_by_one(photos):
    folder = photos("set", sizes=((12, 10), (20, 30)))
    dataset = sources.load(f"folder:{folder}", "train", image_size=8)
    assert not dataset.in_memory
    assert dataset.shape == (8, 8, 3)
    assert {dataset.images[i].shape for i in range(2)} == {(10, 12, 3), (30, 20, 3)}
    assert sources.load(f"folder:{folder}", "train").shape == (224, 224, 3)
    image, label, count = next(pipeline.evaluation_batches(dataset, 32))
    assert image.shape == (32, 8, 8, 3)
    assert count == len(dataset)
    assert (label[count:] == -1).all()


def test_decoded_images_are_kept_until_a_file_changes(photos, monkeypatch):
    folder = photos("set")
    name = f"folder:{folder}"
    first = sources.load(name, "train+validation").images
    decode = folders._decode
    calls = []
    monkeypatch.setattr(folders, "_decode", lambda *a: calls.append(1) or decode(*a))
    assert np.array_equal(sources.load(name, "train+validation").images, first)
    assert not calls
    Image.new("RGB", (12, 10), "red").save(folder / "cat" / "00.png")
    os.utime(folder / "cat" / "00.png", (1, 1))
    assert (sources.load(name, "train+validation").images[0] == [255, 0, 0]).all()
    assert calls


def broken(kind, folder: Path):
    """Breaks the set; returns (the name to load, a word of the error)."""
    file = folder / "dog" / "03.png"
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    elif kind == "no image":
        file.write_bytes(b"hello")
    elif kind == "32 bit":
        file = file.rename(file.with_suffix(".tiff"))
        Image.fromarray(np.zeros((10, 12), np.float32)).save(file)
        return f"folder:{folder}", "dog/03.tiff has 32 bits"
    elif kind == "empty class":
        shutil.rmtree(folder / "dog")
        (folder / "dog").mkdir()
        return f"folder:{folder}", "dog"
    elif kind == "no classes":
        return f"folder:{folder}/dog", "CLASS/IMAGE"
    elif kind == "damaged zip":
        archive = folder / "x.zip"
        archive.write_bytes(b"PK\x03\x04 rubbish")
        return f"folder:{archive}", "x.zip"
    elif kind == "missing":
        return "folder:/nowhere", "/nowhere"
    elif kind == "nameless":
        return "folder", "folder:TRAIN"
    return f"folder:{folder}", "dog/03.png"


@pytest.mark.parametrize(
    "kind",
    [
        *("truncated", "no image", "32 bit", "empty class", "no classes"),
        *("damaged zip", "missing", "nameless"),
    ],
)
def test_errors_name_the_file(kind, photos, fails):
    name, word = broken(kind, photos("set"))
    with pytest.raises(UsageError) as info:
        sources.load(name, "train")
    assert word in fails(info)


def test_damaged_member_of_a_zip(photos, tmp_path, fails):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(photos("set").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path / "set"))
    data = bytearray(archive.read_bytes())
    where = data.index(b"dog/03.png") + 60
    data[where : where + 8] = bytes(8)
    archive.write_bytes(data)
    with pytest.raises(UsageError) as info:
        sources.load(f"folder:{archive}", "train")
    assert "x.zip/dog/03.png" in fails(info)


def test_parts_must_agree(photos, fails):
    train, test = photos("train"), photos("test")
    (test / "emu").rename(test / "owl")
    with pytest.raises(UsageError) as info:
        sources.load(f"folder:{train},{test}", "train")
    assert "emu, owl" in fails(info)
    with pytest.raises(UsageError) as info:
        sources.load(f"folder:{train}", "test")
    assert "TRAIN,TEST" in fails(info)


@pytest.mark.skipif("SC_JAX_CIFAR10" not in os.environ, reason="SC_JAX_CIFAR10 unset")
def test_cifar10():
    root = os.environ["SC_JAX_CIFAR10"]
    name = f"folder:{root}/cifar10_train.zip,{root}/cifar10_test.zip"
    dataset = sources.load(name, "test")
    assert dataset.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(dataset.labels).tolist() == [1000] * 10


def test_plain_images_have_no_known_class(tmp_path):
    with pytest.raises(UsageError, match="holds no images"):
        sources.load(f"plain:{tmp_path}", "test")
    (tmp_path / "deep").mkdir()
    for name in ("b", "a", "deep/c"):
        Image.new("L", (8, 8), ord(name[-1])).save(tmp_path / f"{name}.png")
    found = sources.load(f"plain:{tmp_path}", "test")
    assert found.classes == ("unknown",) and found.labels.tolist() == [0, 0, 0]
    assert sorted(image[0, 0, 0] for image in found.images) == [97, 98, 99]
    for split in ("train", "validation"):
        with pytest.raises(UsageError, match="no classes to train on"):
            sources.load(f"plain:{tmp_path}", split)


def test_indexed_files_carry_their_class_in_their_name(tmp_path):
    for name in ("0003_a", "0000_b", "0007_c", "0007_d", "0001_e"):
        Image.new("RGB", (40, 30), (int(name[3]), 0, 0)).save(tmp_path / f"{name}.png")
    train = sources.load(f"indexed:10:{tmp_path}", "train+validation")
    test = sources.load(f"indexed:10:{tmp_path}", "test")
    assert train.classes == test.classes == tuple("0123456789")
    assert train.labels.tolist() == [0, 1, 3, 7] and test.labels.tolist() == [7]
    assert test.images[0][0, 0, 0] == 7 and not test.in_memory
    for wrong in ("7", "0", "x", ""):
        with pytest.raises(UsageError):
            sources.load(f"indexed:{wrong}:{tmp_path}", "test")
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    with pytest.raises(UsageError, match="INDEX_NAME"):
        sources.load(f"indexed:10:{tmp_path}", "test")
