"""Folders and zips of a broken world: links, other files, names, damage."""

import errno
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from sc_jax.data import pictures, pipeline, sources, trees
from sc_jax.data.damage import skipping
from sc_jax.errors import UsageError


def load(pics, split="train+validation", **options):
    return sources.load(f"folder:{pics}", split, **options)


def refusal(*arguments, **options):
    with pytest.raises(UsageError) as info:
        load(*arguments, **options)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("links", [("../a",), ("../..",), ("../a", "../.."), ("/",)])
def test_links_back_bring_in_nothing(links, pics, said):
    root = pics()
    for name, target in zip("xy", links):
        (root / "train" / "a" / name).symlink_to(target)
    found = load(root)
    assert np.bincount(found.labels).tolist() == [10, 10]
    assert not any(file.count("/") > 1 for file in found.files)
    (line,) = said()
    assert f"{root}/train: {len(links)} links to a folder that is read already" in line
    assert "a/x" in line


def test_a_folder_keeps_its_own_name_whatever_links_to_it(pics):
    root = pics()
    (root / "train" / "a" / "b").symlink_to("../b")  # a is read before b
    assert np.bincount(load(root).labels).tolist() == [10, 10]


def test_linked_folders_of_images_elsewhere_are_read(pics, tmp_path):
    root = pics()
    (root / "train" / "b").rename(tmp_path / "elsewhere")
    (root / "train" / "b").symlink_to(tmp_path / "elsewhere")
    found = load(root)
    assert np.bincount(found.labels).tolist() == [10, 10]
    assert found.classes == ("a", "b")


@pytest.mark.parametrize("name", ["folder", "file", "nested"])
def test_test_images_in_training_are_refused(name, pics):
    root = pics()
    argument = str(root)
    if name == "folder":
        (root / "train" / "a" / "more").symlink_to("../../test/a")
    elif name == "file":
        (root / "train" / "a" / "more.png").symlink_to("../../test/b/3.png")
    else:
        (root / "train" / "a" / "b").mkdir()
        argument = f"{root}/train,{root}/train/a"
        (root / "train" / "a" / "a").mkdir()
        for inner in "ab":
            os.replace(root / "train/a/0.png", root / f"train/a/{inner}/0.png")
            Image.new("RGB", (12, 10)).save(root / "train/a/0.png")
    assert "would be trained on what it is tested on" in refusal(argument)


@pytest.mark.parametrize("kind", ["files", "one zip", "linked zips"])
def test_hard_links_and_a_zip_given_twice_are_refused(kind, pics, tmp_path):
    root = pics()
    argument = str(root)
    if kind == "files":
        (root / "train/a/0.png").unlink()
        os.link(root / "test/b/3.png", root / "train/a/0.png")
    else:
        one = archive(tmp_path, root / "train", lambda name: name)
        two = tmp_path / "two.zip"
        os.link(one, two)
        argument = f"{one},{one if kind == 'one zip' else two}"
    for split in ("train", "test"):
        assert "would be trained on what it is tested on" in refusal(argument, split)


def test_parts_inside_one_archive_are_read(pics, tmp_path):
    root = pics()
    file = archive(tmp_path, root, lambda name: name)
    for split in ("train", "test"):
        assert load(file, split).files == load(root, split).files


def test_images_outside_classes_are_kept_apart(pics):
    root = pics((4, 4))
    Image.new("RGB", (4, 4)).save(root / "train" / "loose.png")
    assert len(load(root / "train").images) == 20
    found = sources.load(f"plain:{root}/train", "test")
    assert len(found.images) == len(found.files) == 21


def test_a_scan_ends(pics, said):
    root = pics()
    for name in "ab":
        (root / "train" / name / "up").symlink_to("../..")
        (root / "train" / name / "side").symlink_to("../" + "ba"["ab".index(name)])
        (root / "train" / name / "itself").symlink_to("itself")
        (root / "train" / name / "nowhere.png").symlink_to("missing.png")
    assert len(load(root)) == 20
    nowhere, again = said()
    assert "4 links that lead nowhere are left out" in nowhere
    assert "4 links to a folder that is read already" in again


@pytest.mark.parametrize("seed", range(24))
def test_any_links_bring_in_each_folder_once_and_no_test_image(seed, pics):
    """Links at random places of the set to random places of it, and to links."""
    rng, root = np.random.default_rng(seed), pics((4, 4), count=3)
    places = [root, *sorted(path for path in root.rglob("*"))]
    for i in range(rng.integers(1, 5)):
        inside = [p for p in places if p.suffix != ".png" and p.name in ("a", "b")]
        where, target = (each[rng.integers(len(each))] for each in (inside, places))
        link = where / f"link{i}{target.suffix}"
        link.symlink_to(os.path.relpath(target, where))
        places.append(link)
    top = os.path.realpath(root / "train")
    reached = [os.path.realpath(p) for p in places if p.is_relative_to(root / "train")]
    leads_out = any(os.path.realpath(root / "test") in path for path in reached)
    if leads_out:
        assert "tested on" in refusal(root)
        return
    try:
        found = load(root)
    except UsageError as error:  # of a link in test to train
        assert "tested on" in str(error)
        return
    seen = [root / "train" / os.path.dirname(file) for file in found.files]
    assert all(os.path.realpath(folder).startswith(f"{top}/") for folder in seen)
    assert len({os.path.realpath(folder) for folder in seen}) == len({*seen}) == 2


def test_no_fifo_is_opened(pics, said):
    root = pics()
    os.mkfifo(root / "train" / "a" / "pipe.png")
    (root / "train" / "b" / "null.png").symlink_to("/dev/zero")
    assert len(load(root)) == 20
    assert "2 entries that are no regular files" in said()[0]


def test_what_is_left_out_is_counted_and_named(pics, said):
    root = pics((8, 8))
    for i in range(8):
        os.replace(root / f"train/a/{i}.png", root / f"train/a/{i}.HEIC")
    (root / "train" / "notes.txt").write_text("x")
    (root / "train" / "loose.png").write_bytes((root / "test/a/0.png").read_bytes())
    assert np.bincount(load(root).labels).tolist() == [2, 10]
    kinds, loose = said()
    assert "9 files that are not read as images: 8 .heic, 1 .txt" in kinds
    assert "(a/0.HEIC, a/1.HEIC, a/2.HEIC, ...)" in kinds
    assert "1 images in no class folder are left out (loose.png)" in loose
    for i in (8, 9):
        os.replace(root / f"train/a/{i}.png", root / f"train/a/{i}.heic")
    assert "train/a holds no images, but 10 files" in refusal(root)


def test_what_pillow_reads_is_read(pics):
    root = pics((8, 8), "L")
    for i, suffix in enumerate((".pgm", ".JFIF", ".avif", ".tga", ".jp2")):
        image = Image.open(root / f"train/a/{i}.png")
        image.load()
        try:
            image.save(root / f"train/a/{i}{suffix}")
        except OSError:  # a Pillow without this codec
            continue
        (root / f"train/a/{i}.png").unlink()
    found = load(root)
    assert np.bincount(found.labels).tolist() == [10, 10]
    assert {".pgm", ".JFIF"} <= {f[f.rindex(".") :] for f in found.files}


def test_one_class_is_refused(pics, tmp_path):
    root = pics()
    words = "comes out as one class, 'a': give each of two"
    for part in ("train", "test"):
        os.replace(root / part / "b", tmp_path / part)
    assert words in refusal(root)


@pytest.mark.parametrize("two", [False, True])
def test_a_test_part_is_read_where_training_images_are_gone(two, pics, said):
    root = pics()
    before = load(root, "test")
    shutil.rmtree(root / "train")
    argument = f"{root}/train,{root}/test" if two else root
    found = load(argument, "test")
    assert np.array_equal(found.images, before.images)
    assert found.classes == before.classes and found.files == before.files
    assert "has no training images" in said()[-1]
    assert "no folder or zip at" in refusal(f"{root}/train,{root}/test", "train")


def archive(tmp_path, pics, rename):
    file = tmp_path / "pics.zip"
    with zipfile.ZipFile(file, "w") as out:
        for path in sorted(pics.rglob("*.png")):
            name = path.relative_to(pics).as_posix()
            out.writestr(rename(name), path.read_bytes())
    return file


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"./{name}",
        lambda name: f"/{name}",
        lambda name: f"set/./{name}",
        lambda name: name.replace("/", "\\"),
    ],
)
def test_names_in_a_zip_are_paths(rename, pics, tmp_path):
    root = pics()
    zipped = load(archive(tmp_path, root, rename))
    assert np.array_equal(zipped.images, load(root).images)
    assert zipped.files == load(root).files


def test_an_encrypted_zip_is_one_line(pics, tmp_path):
    file = archive(tmp_path, pics(), lambda name: name)
    data = bytearray(file.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # flags of an entry
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 4)
    file.write_bytes(data)
    assert "pics.zip is encrypted: unpack it" in refusal(file)


def test_broken_zips_are_one_line(pics, tmp_path):
    file = archive(tmp_path, pics((4, 4), count=2), lambda name: name)
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for i in range(60):
        data = bytearray(whole)
        for place in rng.integers(len(data), size=3):
            data[place] = rng.integers(256)
        broken = tmp_path / f"{i}.zip"
        broken.write_bytes(bytes(data[: len(data) - i % 3 * rng.integers(2000)]))
        try:
            assert load(broken).images.dtype == np.uint8
        except UsageError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


def test_an_image_file_is_bounded_before_it_is_read(pics, tmp_path, monkeypatch):
    root = pics()
    with (root / "train" / "a" / "0.png").open("ab") as file:
        file.truncate(1 << 40)  # sparse
    assert "a/0.png: 1048576 MiB, of at most 256" in refusal(root)
    monkeypatch.setattr(pictures, "FILE_LIMIT_BYTES", 1 << 20)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        for name in "ab":
            out.writestr(f"{name}/0.png", bytes(3 << 20))
    assert "a/0.png: 3 MiB, of at most 1" in refusal(bomb)


def bytes_name(folder, name):
    return os.path.join(os.fsencode(folder), name)


def test_names_that_are_not_utf_8_are_read_and_shown(pics, said):
    root = pics()
    for part in ("train", "test"):
        at = root / part
        os.rename(bytes_name(at, b"b"), bytes_name(at, b"caf\xe9"))
    os.rename(
        bytes_name(root, b"train/a/0.png"), bytes_name(root, b"train/a/\xff\n0.png")
    )
    found = load(root)
    assert found.classes == ("a", r"caf\xe9") and len(found) == 20
    assert r"a/\xff\n0.png" in found.files
    "\n".join((*found.classes, *found.files)).encode("utf-8")
    with open(bytes_name(root, b"test/caf\xe9/0.png"), "wb") as file:
        file.write(b"no image")
    assert r"test/caf\xe9/0.png is not an image" in refusal(root)


@pytest.mark.parametrize("locale", ["C", "C.utf8"])
def test_any_locale_reads_the_same(locale, pics, tmp_path):
    root = pics()
    for part in ("train", "test"):
        os.rename(root / part / "b", bytes_name(root / part, "猫".encode()))
    code = (
        "import sys; from sc_jax.data import sources; "
        f"d = sources.load('folder:{root}', 'train'); "
        "print(ascii(d.classes), int(d.images.sum()), ascii(d.files[-1]))"
    )
    own = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    cache = {"SC_JAX_CACHE": str(tmp_path / locale)}
    shown = subprocess.check_output(
        [sys.executable, "-c", code], env=os.environ | own | cache, text=True
    )
    here = load(root, "train")
    assert here.classes == ("a", "猫")
    wanted = ascii(here.classes), int(here.images.sum()), ascii(here.files[-1])
    assert shown.split() == " ".join(map(str, wanted)).split()


def damage(root, *names):
    for name in names:
        file = root / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_test_images_are_looked_at_before_training(pics):
    root = pics()
    Image.new("RGB", (30, 20)).save(root / "train/a/0.png")  # sizes vary: not in memory
    damage(root, "test/b/3.png", "test/b/4.png")
    assert not load(root, "test").in_memory  # which opens them one by one
    line = refusal(root, "train")
    assert "test/b/3.png" in line and "2 of 20 test images are damaged" in line
    assert "--skip_damaged" in line


@pytest.mark.parametrize("vary", [False, True])
def test_damaged_images_are_left_out_where_that_is_wanted(vary, pics, said):
    root = pics()
    if vary:
        Image.new("RGB", (30, 20)).save(root / "train/a/0.png")
    whole = {split: load(root, split, image_size=8) for split in sources.SPLITS}
    said()
    names = [whole[split].files[1] for split in ("train", "validation", "test")]
    damage(root, "train/" + names[0], "train/" + names[1], "test/" + names[2])
    assert "mend or delete it" in refusal(root, "train")
    with skipping():
        found = {split: load(root, split, image_size=8) for split in sources.SPLITS}
    lines = said()
    assert len(lines) == 2  # a part, however often it is opened
    assert f"{root}/train: 2 of 20 images cannot be read and are left out" in lines[0]
    assert all(name in lines[0] for name in names[:2]) and names[2] in lines[1]
    for split, before in whole.items():  # no other image has changed sides
        lost = names[2:] if split == "test" else names[:2]
        kept = tuple(file for file in before.files if file not in lost)
        assert found[split].files == kept
        rows = [before.files.index(file) for file in kept]
        assert found[split].in_memory is not vary
        for row, i in enumerate(rows):
            assert np.array_equal(found[split].image(row), before.image(i))
            assert found[split].labels[row] == before.labels[i]
    assert pipeline.mean_std(found["train"])


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "?"), OSError(errno.EMFILE, "?"), MemoryError()]
)
@pytest.mark.parametrize("while_decoding", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_what_passes_is_no_damage(error, while_decoding, skip, pics, monkeypatch):
    root = pics()
    with skipping(skip), monkeypatch.context() as patch:

        def fail(*_):
            raise error

        if while_decoding:
            patch.setattr(Image.Image, "convert", fail)
        else:
            patch.setattr(trees, "_read_file", fail)
        line = refusal(root, "train")
    assert "that may pass: try again" in line and "damaged" not in line
    with skipping(skip):
        assert len(load(root)) == len(load(root, "test")) == 20


@pytest.mark.parametrize("vary", [False, True])
def test_mended_images_are_read_again(vary, pics, tmp_path):
    root = pics((12, 10), count=6)
    if vary:
        Image.new("RGB", (30, 20)).save(root / "train/a/0.png")
    whole = load(root, image_size=8)
    shutil.rmtree(tmp_path / "cache")
    test, bad = root / "test/b/3.png", [root / "train/b/3.png", root / "train/b/4.png"]
    before = {file: file.read_bytes() for file in (test, *bad)}
    times = {file: file.stat().st_mtime_ns for file in before}

    def write(file, data):  # neither its size nor its time show it
        file.write_bytes(data)
        os.utime(file, ns=(times[file],) * 2)

    for file, data in before.items():
        write(file, bytes(len(data)))
    with skipping():
        assert len(load(root, "test")) == 11 and len(load(root)) == 10
        write(bad[0], before[bad[0]])
        found = load(root, image_size=8)
        assert len(found) == 11
        row, before_row = (each.files.index("b/3.png") for each in (found, whole))
        assert np.array_equal(found.image(row), whole.image(before_row))
    write(bad[1], before[bad[1]])
    assert "1 of 12 test images" in refusal(root, "train")
    write(test, before[test])
    assert len(load(root)) == len(load(root, "test")) == 12


def test_nothing_readable_is_one_line(pics):
    root = pics(count=1)
    damage(root, "train/a/0.png", "train/b/0.png")
    with skipping():
        assert "no image that can be read" in refusal(root)


def test_a_folder_that_may_not_be_listed_is_one_line(pics, monkeypatch):
    root, scan = pics(), os.scandir

    def refuse(path):
        if str(path).endswith("train/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(trees.os, "scandir", refuse)  # root may list everything
    assert "train/b cannot be read: Permission denied" in refusal(root)
