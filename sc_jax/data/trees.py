"""Class folders of images, in a folder or in a zip alike."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from sc_jax.errors import UsageError

T = TypeVar("T")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
# What Pillow and zipfile raise at damaged, encrypted or truncated files.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, RuntimeError)
_DAMAGED += (zipfile.BadZipFile, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True, eq=False)
class Tree:
    """Image files and all folders of a folder or zip, as relative paths, sorted."""

    path: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes]
    on_disk: tuple[Path, ...]  # whose change means that the images may have changed

    def tops(self) -> list[str]:
        """The folders at its root, sorted."""
        return sorted({folder.split("/", 1)[0] for folder in self.folders})

    def below(self, name: str) -> "Tree":
        """The tree seen from its folder `name`."""
        start = f"{name}/"

        def inside(paths: Iterable[str]) -> tuple[str, ...]:
            return tuple(p.removeprefix(start) for p in paths if p.startswith(start))

        return Tree(
            f"{self.path}/{name}",
            inside(self.files),
            inside(self.folders),
            lambda file: self.read(start + file),
            self.on_disk,
        )


@dataclass(frozen=True, eq=False)
class Part:
    """Images of a tree by class: files[i] is of class classes[labels[i]]."""

    tree: Tree
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray

    def header(self, i: int) -> tuple[tuple[int, int], bool]:
        """((width, height), whether it is grey) without decoding."""
        return self._read(i, lambda image: (image.size, image.mode in ("L", "1")))

    def pixels(self, i: int, mode: str = "RGB") -> np.ndarray:
        """uint8 [h, w, 3], or [h, w, 1] with mode "L"."""

        def decode(image: Image.Image) -> np.ndarray:
            # Pillow warns where a palette with transparency becomes RGB at once.
            if "transparency" in image.info:
                image = image.convert("RGBA")
            pixels = np.asarray(image.convert(mode))
            return pixels.reshape(*pixels.shape[:2], -1)

        return self._read(i, decode)

    def _read(self, i: int, use: Callable[[Image.Image], T]) -> T:
        """use(image i); UsageError naming the file where it is damaged."""
        name = f"{self.tree.path}/{self.files[i]}"
        try:
            with Image.open(BytesIO(self.tree.read(self.files[i]))) as image:
                if image.mode[0] in "IF":
                    raise UsageError(f"{name} has more than 8 bits a channel")
                return use(image)
        except UsageError:
            raise
        except UnidentifiedImageError as error:
            raise UsageError(f"{name} is not an image that Pillow can read") from error
        except _DAMAGED as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"cannot read the image {name}: {reason}") from error


def open_tree(path: str) -> Tree:
    """The folder or zip at `path`; one folder around everything is looked through."""
    where = Path(path).expanduser()
    if where.is_dir():
        tree = _open_folder(where)
    elif where.is_file():
        tree = _open_zip(where)
    else:
        raise UsageError(f"no folder or zip at {where}")
    # Archives often hold one folder of the archive's own name around everything.
    tops = tree.tops()
    wrapped = len(tops) == 1 and all(file.count("/") > 1 for file in tree.files)
    return tree.below(tops[0]) if wrapped and tree.files else tree


def class_part(tree: Tree) -> Part:
    """The tree's first folders as classes, sorted by name; each must hold an image."""
    members: dict[str, list[str]] = {name: [] for name in tree.tops()}
    for file in tree.files:
        if "/" in file:
            members[file.split("/", 1)[0]].append(file)
    if not members:
        raise UsageError(f"{tree.path} holds no class folders (CLASS/IMAGE.jpg)")
    for name, files in members.items():
        if not files:
            raise UsageError(f"the class folder {tree.path}/{name} holds no images")
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
                f"{tree.path}/{file} does not begin with a class of 0 to {count - 1}: "
                "INDEX_NAME.jpg"
            )
        labels.append(int(index))
    if not labels:
        raise UsageError(f"{tree.path} holds no images")
    classes = tuple(map(str, range(count)))
    return Part(tree, classes, tree.files, np.array(labels, np.int32))


def _open_folder(where: Path) -> Tree:
    files, folders = [], []
    for parent, below, names in os.walk(where, followlinks=True):
        below[:] = [name for name in below if not _hidden(name)]
        root = Path(parent).relative_to(where)
        folders += [(root / name).as_posix() for name in below]
        files += [(root / name).as_posix() for name in names if _is_image(name)]
    files.sort()
    on_disk = tuple(where / file for file in files)
    return Tree(
        str(where),
        tuple(files),
        tuple(sorted(folders)),
        lambda file: (where / file).read_bytes(),
        on_disk,
    )


def _open_zip(where: Path) -> Tree:
    """The archive stays open as long as the tree lives; reading is thread-safe."""
    try:
        archive = zipfile.ZipFile(where)
    except _DAMAGED as error:
        raise UsageError(f"cannot read the zip {where}: {error}") from error
    files, folders = [], set()
    for name in archive.namelist():
        path = PurePosixPath(name)
        if any(_hidden(piece) for piece in path.parts):
            continue
        parents = [p.as_posix() for p in path.parents if p.name]
        folders.update([path.as_posix(), *parents] if name[-1] == "/" else parents)
        if _is_image(name):
            files.append(name)
    return Tree(
        str(where),
        tuple(sorted(files)),
        tuple(sorted(folders)),
        archive.read,
        (where,),
    )


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not _hidden(path.name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
