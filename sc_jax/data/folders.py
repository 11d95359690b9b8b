"""Class folders of images, in a folder or a zip: `folder:TRAIN[,TEST]`.

TRAIN/cat/1.jpg is an example of class "cat". One path with train/ and test/ (or val/,
validation/) inside gives both parts. Sets of equal-sized images up to 2 GiB are decoded
once into memory, and kept on disk (`sc_jax.data.cache`); others are read one by one.
`indexed:K:PATH` takes images whose file names begin with their class's number,
`plain:PATH` images of no known class.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from sc_jax.data.cache import cached, key_of
from sc_jax.data.dataset import MEMORY_LIMIT_BYTES, Dataset, LazyImages
from sc_jax.data.trees import Part, class_part, indexed_part, open_tree
from sc_jax.errors import UsageError

_TEST_NAMES = ("test", "val", "validation")
_PROBED = 64


def load_folder(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`part` (train or test) of the set; both parts agree in form and classes."""
    del data_dir
    parts = _parts(argument)
    if part not in parts:
        raise UsageError(
            f"folder:{argument} has no test part: give folder:TRAIN,TEST, or one "
            f"folder with train and {', '.join(_TEST_NAMES[:-1])} or {_TEST_NAMES[-1]}"
        )
    return _dataset(f"folder:{argument}", part, [*parts.values()], parts[part])


def load_plain(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`plain:PATH`: images to answer for: a test part of class "unknown"."""
    del data_dir
    if part != "test":
        raise UsageError(f"plain:{argument} has no classes to train on: use folder:")
    tree = open_tree(argument)
    if not tree.files:
        raise UsageError(f"{tree.path} holds no images")
    labels = np.zeros(len(tree.files), np.int32)
    whole = Part(tree, ("unknown",), tree.files, labels)
    return _dataset(f"plain:{argument}", part, [whole], whole)


def _dataset(name: str, part: str, parts: list[Part], chosen: Part) -> Dataset:
    images: np.ndarray | LazyImages | None = _in_memory(parts, chosen)
    if images is None:
        images = LazyImages(chosen.pixels, np.arange(len(chosen.files)), channels=3)
    return Dataset(name, part, chosen.classes, images, chosen.labels, chosen.files)


def load_indexed(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`indexed:K:PATH`: files named INDEX_*.jpg, INDEX their class of K, from 0.

    Every fourth file in the order of names, from the fourth on, is of the test part.
    """
    del data_dir
    count, _, path = argument.partition(":")
    if not path or not count.isdecimal() or not 0 < int(count) < 1 << 31:
        raise UsageError(f"indexed:K:PATH has K classes at PATH, got {argument!r}")
    whole = indexed_part(open_tree(path), int(count))
    # By name, so that adding a file moves only those behind it.
    last = np.arange(len(whole.files)) % 4 == 3
    kept = np.flatnonzero(last if part == "test" else ~last)
    if not len(kept):
        raise UsageError(f"{path} has no file for the {part} part of four")
    images = LazyImages(whole.pixels, kept, channels=3)
    name, files = f"indexed:{argument}", tuple(whole.files[i] for i in kept)
    return Dataset(name, part, whole.classes, images, whole.labels[kept], files)


def _parts(argument: str) -> dict[str, Part]:
    """train, and test where there is one."""
    if not argument:
        raise UsageError("folder needs a path: folder:TRAIN[,TEST], folders or zips")
    train, comma, test = argument.partition(",")
    if comma and not Path(argument).expanduser().exists():
        trees = {"train": open_tree(train), "test": open_tree(test)}
    else:
        tree = open_tree(argument)
        tops = tree.tops()
        trees = {"train": tree.below("train") if "train" in tops else tree}
        test = next((name for name in _TEST_NAMES if name in tops), None)
        if "train" in tops and test is not None:
            trees["test"] = tree.below(test)
    parts = {name: class_part(tree) for name, tree in trees.items()}
    if "test" in parts:
        _check_same_classes(parts["train"], parts["test"])
    return parts


def _check_same_classes(train: Part, test: Part) -> None:
    """By name, for labels are positions in the sorted names."""
    odd = sorted({*train.classes} ^ {*test.classes})
    if odd:
        raise UsageError(
            f"{train.tree.path} and {test.tree.path} differ in classes: only one has "
            + ", ".join(odd[:10])
        )


def _in_memory(parts: list[Part], chosen: Part) -> np.ndarray | None:
    """uint8 [N, H, W, C] of `chosen`; None where the parts' sizes vary or are large."""
    (width, height), _ = chosen.header(0)
    count = max(len(part.files) for part in parts)
    if count * width * height * 3 > MEMORY_LIMIT_BYTES:
        return None
    for part in parts:  # a glance, before the key below reads every file's time
        few = np.linspace(0, len(part.files) - 1, _PROBED).astype(int)
        if any(part.header(i)[0] != (width, height) for i in np.unique(few).tolist()):
            return None
    # Of both parts: whether all are grey, and so the channels, depends on all files.
    files = [path for part in parts for path in part.tree.on_disk]
    key = key_of(f"folder 1 {chosen.tree.path}", files)
    return cached(key, lambda: _decode(parts, chosen))


def _decode(parts: list[Part], chosen: Part) -> np.ndarray | None:
    """As `_in_memory`, after looking at every image. Grey only if all images are."""
    size, all_grey = chosen.header(0)
    for part in parts:
        for i in _progress(part, "looking at"):
            this_size, grey = part.header(i)
            if this_size != size:
                return None
            all_grey = all_grey and grey
    mode, channels = ("L", 1) if all_grey else ("RGB", 3)
    images = np.empty((len(chosen.files), size[1], size[0], channels), np.uint8)
    for i in _progress(chosen, "decoding"):
        images[i] = chosen.pixels(i, mode)
    return images


def _progress(part: Part, verb: str) -> tqdm:
    """Positions of the images, with a bar on a terminal if it lasts over 2 s."""
    description = f"{verb} {part.tree.path}"
    return tqdm(range(len(part.files)), description, delay=2, disable=None)
