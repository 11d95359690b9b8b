"""Images of a tree: by class folder, by file name, of no known class, or unlabelled."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from sc_jax import notices
from sc_jax.data import pictures
from sc_jax.data.cache import key_of
from sc_jax.data.trees import Identity, Tree, by_suffix, identity, in_order, instead
from sc_jax.errors import Unread, UsageError
from sc_jax.notices import shown

T = TypeVar("T")
AGAIN = "that may pass: try again, or delete it"
MEND = "mend or delete it, or leave out what is damaged with --skip_damaged"


@dataclass(frozen=True, eq=False)
class Part:
    """Images of a tree by class: files[i] is of class classes[labels[i]]."""

    tree: Tree
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Part":
        """The images at `rows`, in that order."""
        files = tuple(self.files[i] for i in rows)
        return replace(self, files=files, labels=self.labels[rows])

    def header(self, i: int) -> tuple[tuple[int, int], bool]:
        """((width, height), whether it is grey) without decoding."""
        return self._read(i, pictures.header)

    def pixels(self, i: int, mode: str = "RGB") -> np.ndarray:
        """uint8 [h, w, 3], or [h, w, 1] with mode "L"."""
        return self._read(i, lambda name, data: pictures.pixels(name, data, mode))

    def _read(self, i: int, use: Callable[[str, bytes], T]) -> T:
        """use(name, bytes) of image i; UsageError naming the file if it is damaged."""
        name = f"{self.tree.path}/{shown(self.files[i])}"
        try:
            try:
                data = self.tree.read(self.files[i])
            except pictures.DAMAGED as error:
                if isinstance(error, UsageError):
                    raise
                raise pictures.damaged(name, error) from error
            return use(name, data)
        except Unread as error:
            raise Unread(f"{error}; {AGAIN}") from error
        except UsageError as error:
            raise UsageError(f"{error}; {MEND}") from error


def class_part(tree: Tree) -> Part:
    """The tree's first folders as classes, sorted by name; each must hold an image."""
    members: dict[str, list[str]] = {name: [] for name in tree.tops()}
    loose = [file for file in tree.files if "/" not in file]
    for file in tree.files:
        if "/" in file:
            members[file.split("/", 1)[0]].append(file)
    if not members:
        raise UsageError(f"{tree.path} holds no class folders (CLASS/IMAGE.jpg)")
    for name, files in members.items():
        if not files:
            lost = [file for file in tree.skipped if file.startswith(f"{name}/")]
            lost_ones = f", but {by_suffix(lost)}" if lost else ""
            raise UsageError(
                f"the class folder {tree.path}/{shown(name)} holds no images{lost_ones}"
            )
    if loose:
        notices.once(
            f"{tree.path}: {len(loose)} images in no class folder are left out "
            f"({notices.first(loose)})"
        )
    files = tuple(file for group in members.values() for file in group)
    counts = [len(group) for group in members.values()]
    labels = np.repeat(np.arange(len(members), dtype=np.int32), counts)
    return Part(tree, tuple(members), files, labels)


def indexed_part(tree: Tree, count: int) -> Part:
    """Classes "0" to "count - 1" by the number that each file's name begins with."""
    labels = []
    for file in tree.files:
        index = PurePosixPath(file).stem.partition("_")[0]
        if not index.isdecimal() or int(index) >= count:
            raise UsageError(
                f"{tree.path}/{shown(file)} does not begin with a class of 0 to "
                f"{count - 1}: INDEX_NAME.jpg"
            )
        labels.append(int(index))
    if not labels:
        raise UsageError(f"{tree.path} holds no images{instead(tree)}")
    classes = tuple(map(str, range(count)))
    return Part(tree, classes, tree.files, np.array(labels, np.int32))


def plain_part(tree: Tree) -> Part:
    """Every image, of class "unknown"."""
    if not tree.files:
        raise UsageError(f"{tree.path} holds no images{instead(tree)}")
    return Part(tree, ("unknown",), tree.files, np.zeros(len(tree.files), np.int32))


def unlabelled_part(tree: Tree) -> Part:
    """Every image, however deep, of no class: labels are -1."""
    labels = np.full(len(tree.files), -1, np.int32)
    return replace(plain_part(tree), classes=(), labels=labels)


def labelled_part(tree: Tree) -> Part:
    """Every image, of the class of its first folder, "unknown" where it is in none."""
    if not tree.files:
        return plain_part(tree)  # says so
    names = [f.split("/", 1)[0] if "/" in f else "unknown" for f in tree.files]
    classes = in_order({*names})
    labels = np.array([classes.index(name) for name in names], np.int32)
    return Part(tree, classes, tree.files, labels)


def refuse_shared(one: Tree, other: Tree) -> None:
    """UsageError where two parts hold the same folder or file: links, or one in two."""
    if one.archive is not None and one.archive is other.archive:
        return  # two folders of an archive that was opened once
    shared = bool(one.real & other.real)
    # Numbers alone may meet by chance, on two disks: a hint that costs no look.
    if not shared and (one.linked or other.linked or one.inodes & other.inodes):
        shared = bool(_identities(one) & _identities(other))
    if shared:
        raise UsageError(
            f"{one.path} and {other.path} share files (a link, or one inside the "
            "other): a network would be trained on what it is tested on"
        )


def _identities(tree: Tree) -> set[Identity]:
    found = set()
    for path in tree.on_disk:
        with suppress(FileNotFoundError):  # since it was listed: reading it says so
            found.add(identity(path))
    return found


def key(label: str, parts: list[Part]) -> str:
    """Of what is kept of these parts: in other orders their files are other arrays."""
    names = "\n".join(file for part in parts for file in part.files)
    on_disk = [path for part in parts for path in part.tree.on_disk]
    return key_of(f"{label} 2 {parts[0].tree.path}\n{names}", on_disk)


def progress(part: Part, verb: str, rows: np.ndarray | None = None) -> tqdm:
    """Positions of the images, with a bar on a terminal if it lasts over 2 s."""
    name = f"{verb} {part.tree.path}"
    total = len(part.files) if rows is None else len(rows)
    places = None if rows is None else rows.tolist()
    return tqdm(places, name, total=total, delay=2, disable=None)
