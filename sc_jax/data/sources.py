"""Labelled image sets by name.

`load("folder:photos", "train")`: the word before the colon picks the source, the rest
is the source's own argument. `validation` is held out of the official train part and
never meets the test part.

| source                | images uint8           | in memory    | test part            |
|-----------------------|------------------------|--------------|----------------------|
| fashion_mnist_12k     | [12,000, 28, 28, 1]    | always       | the official one     |
| fashion_mnist[:PATH]  | [70,000, 28, 28, 1]    | always       | the official one     |
| folder:TRAIN[,TEST]   | grey if all are, RGB   | equal sizes  | TEST, or a folder    |
| indexed:K:PATH        | RGB of any size        | never        | every fourth file    |
| plain:PATH            | grey if all are, RGB   | equal sizes  | all; class "unknown" |
| photos:PATH           | grey if all are, RGB   | equal sizes  | none: no labels      |
| tfds:NAME[:config]    | as the set says        | equal sizes  | test or validation   |
| only:A+B:NAME         | those of NAME          | as NAME      | that of NAME         |

"Equal sizes": decoded once into memory where all images are of one size and take 2 GiB
at most, else read one by one. Labels are int32 [N]. "Always": unless `image_size` makes
more than 2 GiB of it; then images are resized as they are read.

With `test=OTHER` what is tested is the set OTHER instead: its test part, or all of it
where it has no official one, for nothing of it is trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from sc_jax.data import fashion_mnist, folders, tested, tfds_source
from sc_jax.data.dataset import Dataset, LazyImages
from sc_jax.errors import UsageError, unknown
from sc_jax.notices import shown

__all__ = ["SOURCES", "SPLITS", "Dataset", "LazyImages", "load"]

# scheme -> loader(argument, part, data_dir) of the official part, "train" or "test".
SOURCES: dict[str, Callable[[str, str, str | None], Dataset]] = {
    "fashion_mnist_12k": fashion_mnist.load_embedded,
    "fashion_mnist": fashion_mnist.load_full,
    "folder": folders.load_folder,
    "indexed": folders.load_indexed,
    "plain": folders.load_plain,
    "photos": folders.load_photos,
    "tfds": tfds_source.load_tfds,
}
# Of no class: what trains on them needs no labels, what is tested is another set.
UNLABELLED = ("photos",)
ONLY, NOTHING = "only", "nothing of interest"
SPLITS = ("train", "validation", "train+validation", "test")
# The held-out tenth must stay the same for ever, or thresholds solved on it leak.
HELD_OUT_SHARE = 0.1
_HELD_OUT_SEED = 2029


def load(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    test: str | None = None,
) -> Dataset:
    """The images of `split` (see SPLITS) of the set `name`.

    `only:A+B:NAME` is the set NAME with all classes but A and B as one, the first; A
    and B, names of classes or their numbers, become 1, 2, ... in their order.
    data_dir: where TFDS keeps prepared sets; other sources take no notice.
    image_size: resize to this square; None keeps the set's own size, or 224 where
        the sizes within the set vary.
    test: the set that is tested instead of `name`'s own test part; photographs without
        labels have its classes.
    Raises UsageError with one line that says what to do: unknown name or split,
        missing or unreadable files, a set that was not prepared.
    """
    if test is None:
        return _load(name, split, data_dir, image_size)
    if not isinstance(test, str) or _innermost(test) in (*UNLABELLED, "plain"):
        raise UsageError(f"test names a labelled set, not {test!r}")
    other = _load(test, "test", data_dir, image_size, tested.LOADERS)
    if split == "test":
        return other
    tested.check_apart(name, test)
    return tested.under_test(_load(name, split, data_dir, image_size), other)


def _innermost(name: str) -> str:
    """The scheme of a set, of the one within `only:A+B:NAME`."""
    scheme, _, argument = name.partition(":")
    return _innermost(argument.partition(":")[2]) if scheme == ONLY else scheme


def _load(
    name: str,
    split: str,
    data_dir: str | None,
    image_size: int | None,
    instead: Mapping[str, Callable[[str, str, str | None], Dataset]] | None = None,
) -> Dataset:
    """`load` of one set; instead: loaders in place of those of SOURCES, by name."""
    scheme, _, argument = name.partition(":")
    if scheme == ONLY:
        wanted, colon, inner = argument.partition(":")
        if not wanted or not colon:
            raise UsageError(f"only:A+B:NAME keeps classes of a set, got {name!r}")
        whole = _load(inner, split, data_dir, image_size, instead)
        return replace(_only(whole, wanted), name=name)
    if scheme not in SOURCES:
        raise unknown("data source", scheme, (*SOURCES, ONLY))
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if image_size is not None and image_size < 1:
        raise UsageError(f"image_size must be at least 1, got {image_size}")
    # Sources know official parts only: validation is cut off here, alike for all.
    part = "test" if split == "test" else "train"
    dataset = (SOURCES | dict(instead or {}))[scheme](argument, part, data_dir)
    if split in ("train", "validation"):
        labels = dataset.labels
        held = held_out(labels if dataset.labelled else np.zeros_like(labels))
        dataset = dataset.take(np.flatnonzero(held == (split == "validation")), split)
    # Only now, so that a damaged image moves no other to another split.
    dataset = dataset.readable()
    if image_size is not None:
        dataset = dataset.resized(image_size)
    return replace(dataset, name=shown(name), split=split)


def _only(dataset: Dataset, wanted: str) -> Dataset:
    """Classes "A+B" and before them all others as one."""
    if not dataset.labelled:
        raise UsageError(f"only:A+B:NAME: {dataset.name} has no labels to merge")
    numbers = {str(i): i for i in range(len(dataset.classes))}
    numbers |= {name: i for i, name in enumerate(dataset.classes)}
    kept = wanted.split("+")
    for each in kept:
        if each not in numbers:
            raise unknown("class", each, dataset.classes)
    chosen = [numbers[each] for each in kept]
    # A name and a number may mean the same class.
    if not len({*chosen}) == len(chosen) < len(dataset.classes):
        raise UsageError(f"{wanted}: give different classes, and fewer than all")
    # Class 0 is "none of them": an exit that finds it can drop the image there.
    table = np.zeros(len(dataset.classes), np.int32)
    table[chosen] = np.arange(1, len(chosen) + 1)
    classes = (NOTHING, *(dataset.classes[i] for i in chosen))
    return replace(dataset, classes=classes, labels=table[dataset.labels])


def held_out(labels: np.ndarray) -> np.ndarray:
    """bool [N]: the validation tenth of each class, the same at every call.

    A class of five examples or fewer gives none, so that train keeps every class.
    Targets that are not one class each, [N, ...], give a tenth of all.
    """
    if labels.ndim > 1 or labels.dtype.kind not in "iu":
        labels = np.zeros(len(labels), np.int32)
    rng = np.random.default_rng(_HELD_OUT_SEED)
    held = np.zeros(len(labels), bool)
    # Class by class: a plain tenth could miss a rare class altogether.
    for label in range(int(labels.max(initial=-1)) + 1):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: round(HELD_OUT_SHARE * len(members))]] = True
    return held
