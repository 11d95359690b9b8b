"""Class folders of images, in a folder or a zip: `folder:TRAIN[,TEST]`.

TRAIN/cat/1.jpg is an example of class "cat". One path with train/ and test/ (or val/,
validation/) inside gives both parts. Sets of equal-sized images up to 2 GiB are decoded
once into memory, and kept on disk (`sc_jax.data.cache`); others are read one by one.
`indexed:K:PATH` takes images whose file names begin with their class's number,
`plain:PATH` images of no known class to answer for, `photos:PATH` photographs without
labels to train on.

What becomes of damaged images is in `damage`: of photographs up to one in a hundred are
left out unasked, for nobody looks through thousands.
"""

from dataclasses import dataclass, replace

import numpy as np

from sc_jax import notices
from sc_jax.data import damage
from sc_jax.data.cache import cached
from sc_jax.data.dataset import MEMORY_LIMIT_BYTES, Dataset, LazyImages
from sc_jax.data.parts import (
    Part,
    class_part,
    indexed_part,
    key,
    labelled_part,
    plain_part,
    progress,
    refuse_shared,
    unlabelled_part,
)
from sc_jax.data.trees import open_parts, open_tree
from sc_jax.errors import Missing, UsageError
from sc_jax.notices import all_shown
from sc_jax.places import expanded

_TEST_NAMES = ("test", "val", "validation")
_PROBED = 64
DAMAGED_SHARE = 0.01  # of photographs: up to here they are left out


def load_folder(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`part` (train or test) of the set; both parts agree in form and classes."""
    del data_dir
    parts = parts_of(argument, part)
    if part not in parts:
        raise UsageError(
            f"folder:{argument} has no test part: give folder:TRAIN,TEST, or one "
            f"folder with train and {', '.join(_TEST_NAMES[:-1])} or {_TEST_NAMES[-1]}"
        )
    return dataset_of(f"folder:{argument}", part, parts)


def load_plain(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`plain:PATH`: images to answer for: a test part of class "unknown"."""
    del data_dir
    if part != "test":
        raise UsageError(f"plain:{argument} has no classes to train on: use folder:")
    parts = {"test": plain_part(open_tree(argument))}
    return dataset_of(f"plain:{argument}", part, parts)


def load_photos(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`photos:PATH`: photographs without labels to train on, however deep they lie.

    Those that are damaged are left out, with a line about them; UsageError where more
    than DAMAGED_SHARE are.
    """
    del data_dir
    name = f"photos:{argument}"
    if part != "train":
        raise UsageError(
            f"{name} has no labels to be tested on: name a labelled set, test=NAME "
            "(plain:PATH are images to answer for)"
        )
    if not argument:
        raise UsageError("photos needs a path: photos:PATH, a folder or a zip")
    whole = unlabelled_part(open_tree(argument))
    bad = damage.damaged(whole, "photos")
    if bad.mean() > DAMAGED_SHARE and not damage.is_skipped():
        names = [whole.files[i] for i in np.flatnonzero(bad)]
        raise UsageError(
            f"{whole.tree.path}: {len(names)} of {len(bad)} photographs cannot be "
            f"read, more than {DAMAGED_SHARE:.0%} ({notices.first(names)}): mend or "
            "delete them, or leave them out with --skip_damaged"
        )
    damage.report(whole, bad)
    found = dataset_of(name, part, {part: whole}, bad={part: bad})
    return replace(found, labelled=False)


def load_pictures(path: str) -> Dataset:
    """All images of a folder or zip, to answer for, as a test part.

    The first folders are their classes; an image in none is of class "unknown". Where
    there are train/ and test/ it is those of test/.
    """
    parts = open_parts(path, _TEST_NAMES)
    tree = parts.get("test") or parts.get("train") or open_tree(path)
    return dataset_of(path, "test", {"test": labelled_part(tree)})


def load_indexed(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`indexed:K:PATH`: files named INDEX_*.jpg, INDEX their class of K, from 0.

    Every fourth file in the order of names, from the fourth on, is of the test part.
    """
    del data_dir
    whole = whole_indexed(argument)
    # By name, so that adding a file moves only those behind it.
    last = np.arange(len(whole.files)) % 4 == 3
    rows = {"train": np.flatnonzero(~last), "test": np.flatnonzero(last)}
    if not len(rows[part]):
        raise UsageError(f"{whole.tree.path} has no file for the {part} part of four")
    parts = {name: whole.take(kept) for name, kept in rows.items() if len(kept)}
    return dataset_of(f"indexed:{argument}", part, parts, lazy=True)


def whole_indexed(argument: str) -> Part:
    """All files of `indexed:K:PATH`."""
    count, _, path = argument.partition(":")
    if not path or not count.isdecimal() or not 0 < int(count) < 1 << 31:
        raise UsageError(f"indexed:K:PATH has K classes at PATH, got {argument!r}")
    return indexed_part(open_tree(path), int(count))


def parts_of(argument: str, part: str) -> dict[str, Part]:
    """train, and test where there is one; test alone where it is asked for and left."""
    if not argument:
        raise UsageError("folder needs a path: folder:TRAIN[,TEST], folders or zips")
    train, comma, test = argument.partition(",")
    if comma and not expanded(argument).exists():
        trees = {"test": open_tree(test)}
        if part == "train" or expanded(train).exists():
            trees = {"train": open_tree(train)} | trees
    else:
        trees = open_parts(argument, _TEST_NAMES)
        if trees and part not in trees and part == "train":
            raise Missing(f"folder:{argument} has a test part, and no training images")
        trees = trees or {"train": open_tree(argument)}
    if len(trees) == 2:
        refuse_shared(trees["train"], trees["test"])
    parts = {name: class_part(tree) for name, tree in trees.items()}
    if len(parts) == 2:
        _check_same_classes(parts["train"], parts["test"])
    elif "test" in parts:
        notices.once(f"folder:{argument} has no training images: tested without them")
    first = parts.get("train") or parts["test"]
    if len(first.classes) < 2:
        only = all_shown(first.classes)[0]
        raise UsageError(
            f"{first.tree.path} comes out as one class, {only!r}: give each of two "
            "classes or more a folder (PATH/CLASS/IMAGE.jpg)"
        )
    return parts


def _check_same_classes(train: Part, test: Part) -> None:
    """By name, for labels are positions in the sorted names."""
    # Both ways: a class in one part alone shifts every number behind it.
    odd = sorted({*train.classes} ^ {*test.classes})
    if odd:
        raise UsageError(
            f"{train.tree.path} and {test.tree.path} differ in classes: only one has "
            + ", ".join(all_shown(odd[:10]))
        )


def dataset_of(
    name: str,
    part: str,
    parts: dict[str, Part],
    *,
    lazy: bool = False,
    bad: dict[str, np.ndarray] | None = None,
) -> Dataset:
    """`part` as a set; `damaged` images are black where they are in memory.

    bad: bool [N] of each part, images known to be damaged; looked for without it.
    """
    chosen = parts[part]
    if bad is None:
        bad = _left_out(part, parts)
    readable = [Readable(p, np.flatnonzero(~bad[which])) for which, p in parts.items()]
    own = readable[[*parts].index(part)]
    if not len(own.rows):
        raise UsageError(f"{chosen.tree.path} holds no image that can be read")
    images: np.ndarray | LazyImages | None = None
    if not lazy:
        images = _in_memory(readable, own)
    if images is None:
        images = LazyImages(chosen.pixels, np.arange(len(chosen.files)), channels=3)
    classes, files = all_shown(chosen.classes), all_shown(chosen.files)
    damaged = bad[part] if bad[part].any() else None
    return Dataset(name, part, classes, images, chosen.labels, files, damaged)


def _left_out(part: str, parts: dict[str, Part]) -> dict[str, np.ndarray]:
    """bool [N] of each part, images to leave out: none, unless inside `skipping`."""
    if damage.is_skipped():
        bad = {which: damage.damaged(each, which) for which, each in parts.items()}
        damage.report(parts[part], bad[part])
        return bad
    # Before training: a broken test image would end the run after hours.
    if part == "train" and "test" in parts:
        damage.looked_at(parts["test"])
    return {which: np.zeros(len(each.files), bool) for which, each in parts.items()}


@dataclass(frozen=True, eq=False)
class Readable:
    """A part, and the positions of its images that are not known to be damaged."""

    part: Part
    rows: np.ndarray


def _in_memory(parts: list[Readable], chosen: Readable) -> np.ndarray | None:
    """uint8 [N, H, W, C] of `chosen`; None where the parts' sizes vary or are large."""
    (width, height), _ = chosen.part.header(int(chosen.rows[0]))
    count = max(len(each.part.files) for each in parts)
    # As if in colour: whether all are grey is known only after reading all.
    if count * width * height * 3 > MEMORY_LIMIT_BYTES:
        return None
    for part, rows in ((each.part, each.rows) for each in parts):
        # A glance, before the key below reads every file's time.
        few = np.linspace(0, len(rows) - 1, min(_PROBED, len(rows))).astype(int)
        if any(part.header(i)[0] != (width, height) for i in rows[few].tolist()):
            return None
    # Of both parts: whether all are grey, and so the channels, depends on all files.
    ordered = [chosen, *(each for each in parts if each is not chosen)]
    lost = [
        np.setdiff1d(np.arange(len(each.part.files)), each.rows).tolist()
        for each in ordered
    ]
    name = key(f"folder without {lost}", [each.part for each in ordered])
    return cached(name, lambda: _decode(parts, chosen))


def _decode(parts: list[Readable], chosen: Readable) -> np.ndarray | None:
    """As `_in_memory`, after looking at every image. Grey only if all images are."""
    size, all_grey = chosen.part.header(int(chosen.rows[0]))
    for part, rows in ((each.part, each.rows) for each in parts):
        for i in progress(part, "looking at", rows):
            this_size, grey = part.header(i)
            if this_size != size:
                return None
            # One picture in colour makes the set colour: a net has one number of
            # channels.
            all_grey = all_grey and grey
    mode, channels = ("L", 1) if all_grey else ("RGB", 3)
    count = len(chosen.part.files)
    images = np.zeros((count, size[1], size[0], channels), np.uint8)
    for i in progress(chosen.part, "decoding", chosen.rows):
        pixels = chosen.part.pixels(i, mode)
        if pixels.shape != images.shape[1:]:  # turned by what stands behind its pixels
            return None
        images[i] = pixels
    return images
