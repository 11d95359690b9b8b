"""A set that is tested while another is trained on: `test=NAME` beside `data=NAME`.

Of a source without an official test part all of it is tested, for nothing of it is
trained on. Photographs without labels have the classes of what is tested.
"""

from collections.abc import Callable
from dataclasses import replace

from sc_jax.data import damage, folders
from sc_jax.data.dataset import Dataset
from sc_jax.data.parts import Part, refuse_shared
from sc_jax.data.trees import Tree, open_tree
from sc_jax.errors import UsageError


def load_indexed(argument: str, part: str, data_dir: str | None) -> Dataset:
    """All files of `indexed:K:PATH`."""
    del data_dir
    whole = damage.looked_at(folders.whole_indexed(argument))
    return folders.dataset_of(f"indexed:{argument}", part, {part: whole}, lazy=True)


def load_folder(argument: str, part: str, data_dir: str | None) -> Dataset:
    """The test part of `folder:...` and, where it has none, all of it."""
    del data_dir
    whole = damage.looked_at(_folder(argument, part))
    return folders.dataset_of(f"folder:{argument}", part, {part: whole})


# scheme -> loader, in place of that of `sources.SOURCES`.
LOADERS: dict[str, Callable[[str, str, str | None], Dataset]] = {
    "indexed": load_indexed,
    "folder": load_folder,
}


def _folder(argument: str, part: str) -> Part:
    parts = folders.parts_of(argument, part)
    return parts.get(part) or parts["train"]


def check_apart(name: str, test: str) -> None:
    """UsageError where training images of `name` are also in the set `test`."""
    one, other = _tree(name, "train"), _tree(test, "test")
    if one is not None and other is not None:
        refuse_shared(one, other)


def _tree(name: str, part: str) -> Tree | None:
    """What a set reads for a part; None of sources that read no folder or zip."""
    scheme, _, argument = name.partition(":")
    if scheme == "only":
        return _tree(argument.partition(":")[2], part)
    if scheme == "photos":
        return open_tree(argument)
    if scheme == "indexed":
        return folders.whole_indexed(argument).tree
    return _folder(argument, part).tree if scheme == "folder" else None


def under_test(dataset: Dataset, tested: Dataset) -> Dataset:
    """Training images in the classes of what is tested; UsageError if they differ."""
    if not dataset.labelled:
        dataset = replace(dataset, classes=tested.classes)
    if dataset.classes != tested.classes:
        odd = sorted({*dataset.classes} ^ {*tested.classes}) or ["another order"]
        raise UsageError(
            f"{dataset.name} and {tested.name} differ in classes: only one has "
            + ", ".join(odd[:10])
        )
    if dataset.shape != tested.shape:
        raise UsageError(
            f"{dataset.name} gives images of {list(dataset.shape)}, {tested.name} of "
            f"{list(tested.shape)}: give image_size, and sets that are both in colour"
        )
    return dataset
