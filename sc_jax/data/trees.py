"""Image files below a folder or in a zip alike.

Each real folder is read once, however many links lead to it. What is left out is said
in a line: suffixes that Pillow does not read, links that lead nowhere or back, what is
no regular file.
"""

import os
import stat
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sc_jax import notices
from sc_jax.data import pictures
from sc_jax.errors import Missing, UsageError
from sc_jax.notices import shown
from sc_jax.places import expanded

T = TypeVar("T")
Identity = tuple[int, int]  # device and inode: of one folder or file, by any name


@dataclass(frozen=True, eq=False)
class Tree:
    """Image files and all folders of a folder or zip, as relative paths, sorted."""

    path: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    read: Callable[[str], bytes]
    on_disk: tuple[Path, ...]  # whose change means that the images may have changed
    skipped: tuple[str, ...] = ()  # files that are no images, by their suffix
    real: frozenset[Identity] = frozenset()  # of the folders; none in a zip
    linked: bool = False  # whether a file is a link
    inodes: frozenset[int] = frozenset()  # of the files as their folder lists them
    archive: Path | None = None  # the same object in all trees of one opened zip

    def tops(self) -> list[str]:
        """The folders at its root, sorted."""
        return [*in_order({folder.split("/", 1)[0] for folder in self.folders})]

    def below(self, name: str) -> "Tree":
        """The tree seen from its folder `name`."""
        start = f"{name}/"

        def inside(paths: Iterable[str]) -> tuple[str, ...]:
            return tuple(p.removeprefix(start) for p in paths if p.startswith(start))

        return Tree(
            f"{self.path}/{shown(name)}",
            inside(self.files),
            inside(self.folders),
            lambda file: self.read(start + file),
            self.on_disk,
            inside(self.skipped),
            self.real,
            self.linked,
            self.inodes,
            self.archive,
        )


def open_tree(path: str) -> Tree:
    """The folder or zip at `path`; one folder around everything is looked through."""
    where = expanded(path)
    if where.is_dir():
        return _reported(_open_folder(_guarded(where, _unwrapped)))
    if not where.is_file():
        raise Missing(f"no folder or zip at {where}")
    tree = _open_zip(where)
    # Archives often hold one folder of the archive's own name around everything.
    tops = tree.tops()
    wrapped = len(tops) == 1 and all(file.count("/") > 1 for file in tree.files)
    return _reported(tree.below(tops[0]) if wrapped and tree.files else tree)


def open_parts(path: str, tests: Iterable[str]) -> dict[str, Tree]:
    """The trees of PATH/train as "train" and of the first of `tests` there as "test".

    "test" alone where nothing else is there, for a set whose training images are gone;
    otherwise none without a train folder. Of a folder each is scanned alone: what a
    link from one brings in of the other shows (`refuse_shared`).
    """
    where, tests = expanded(path), (*tests,)
    if where.is_dir():
        inside = _guarded(where, _unwrapped)
        inside = where if inside.name in tests else inside
        tops, _ = _guarded(inside, _look)

        def opened(name: str) -> Tree:
            return _reported(_open_folder(inside / name))
    else:
        tree = open_tree(path)
        tops, opened = tree.tops(), tree.below
    if "train" not in tops and not {*tops} <= {*tests}:
        return {}
    trees = {"train": opened("train")} if "train" in tops else {}
    test = next((name for name in tests if name in tops), None)
    return trees if test is None else trees | {"test": opened(test)}


@dataclass
class _Found:
    """What a folder's tree holds, by relative name."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)  # links to nothing
    again: list[str] = field(default_factory=list)  # links to what is read already
    special: list[str] = field(default_factory=list)  # FIFOs, devices, sockets
    linked: bool = False
    inodes: set[int] = field(default_factory=set)


def _open_folder(where: Path) -> Tree:
    found = _Found()
    real = _guarded(where, lambda root: _scan(root, found))
    _report_links(where, found)
    files = in_order(found.files)
    return Tree(
        shown(str(where)),
        files,
        in_order(found.folders),
        lambda file: _read_file(where / file),
        tuple(where / file for file in files),
        in_order(found.skipped),
        frozenset(real),
        found.linked,
        frozenset(found.inodes),
    )


def _guarded(where: Path, use: Callable[[Path], T]) -> T:
    """use(where); UsageError for a folder that may not be listed, or is gone."""
    try:
        return use(where)
    except OSError as error:
        name = shown(str(error.filename or where))
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None


def _scan(root: Path, found: _Found) -> set[Identity]:
    """Fills `found`; the identities of all folders. Each real folder once.

    Links wait until all real folders are read, so that a folder keeps its own name. A
    link that leads around the root is not followed: it would bring in what is beside.
    """
    around = {identity(folder) for folder in root.resolve().parents}
    seen, links = {identity(root)}, deque[str]()
    waiting = deque([""])
    while waiting or links:
        if not waiting:
            name = links.popleft()
            target = identity(root / name)
            if target in seen or target in around:
                found.again.append(name)
                continue
            seen.add(target)
            found.folders.append(name)
            waiting.append(name)
        folder = waiting.popleft()
        with os.scandir(root / folder) as entries:
            inside = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        for entry in inside:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                # Mounted a second time below itself, a folder has its old identity.
                if (itself := identity(root / name)) not in seen:
                    seen.add(itself)
                    found.folders.append(name)
                    waiting.append(name)
            elif entry.is_symlink() and _leads_to_folder(entry):
                links.append(name)
            else:
                _sort_file(entry, name, found)
    return seen


def _sort_file(entry: os.DirEntry, name: str, found: _Found) -> None:
    """Enters what is no folder where it belongs."""
    try:
        regular = entry.is_file()
        nowhere = not regular and entry.is_symlink() and not os.path.exists(entry)
    except OSError:  # a link to itself
        regular, nowhere = False, True
    if nowhere:
        found.nowhere.append(name)
    elif not regular:
        found.special.append(name)
    elif not _is_image(name):
        found.skipped.append(name)
    else:
        found.files.append(name)
        found.linked |= entry.is_symlink()
        found.inodes.add(entry.inode())  # known from listing: no call of the system


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def identity(path: Path) -> Identity:
    found = path.stat()
    return found.st_dev, found.st_ino


def _report_links(where: Path, found: _Found) -> None:
    path = shown(str(where))
    for names, what in (
        (found.nowhere, "links that lead nowhere are left out"),
        (
            found.again,
            "links to a folder that is read already, or around it, are not followed",
        ),
        (found.special, "entries that are no regular files are left out"),
    ):
        if names:
            notices.once(f"{path}: {len(names)} {what} ({notices.first(names)})")


def _reported(tree: Tree) -> Tree:
    """The tree, having reported which files in it are no images."""
    if tree.skipped:
        notices.once(f"{tree.path}: left out {by_suffix(tree.skipped)}")
    return tree


def by_suffix(names: Iterable[str]) -> str:
    """ "8 files that are not read: 8 .heic (a/1.heic, a/2.heic, ...)"."""
    names = list(names)
    counts = Counter(PurePosixPath(n).suffix.lower() or "no suffix" for n in names)
    kinds = ", ".join(f"{n} {shown(suffix)}" for suffix, n in counts.most_common(4))
    more = ", ..." if len(counts) > 4 else ""
    return (
        f"{len(names)} files that are not read as images: {kinds}{more} "
        f"({notices.first(names)})"
    )


def instead(tree: Tree) -> str:
    return f", but {by_suffix(tree.skipped)}" if tree.skipped else ""


def _unwrapped(where: Path) -> Path:
    """The folder inside that is around everything, else `where` itself."""
    tops, loose = _look(where)
    if len(tops) == 1 and not loose:
        inside, loose = _look(where / tops[0])
        if inside and not loose:
            return where / tops[0]
    return where


def _look(where: Path) -> tuple[list[str], bool]:
    """Names of the folders in a folder, and whether images stand beside them."""
    folders, loose = [], False
    with os.scandir(where) as entries:
        for entry in entries:
            if _hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False) or (
                entry.is_symlink() and _leads_to_folder(entry)
            ):
                folders.append(entry.name)
            loose |= _is_image(entry.name)
    return folders, loose


def _read_file(path: Path) -> bytes:
    """A regular file of a size that an image can have."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no longer a regular file")
    _bound(found.st_size)
    return path.read_bytes()


def _bound(size_bytes: int) -> None:
    if size_bytes > pictures.FILE_LIMIT_BYTES:
        limit = pictures.FILE_LIMIT_BYTES >> 20
        raise OSError(f"{size_bytes >> 20} MiB, of at most {limit}")


def _open_zip(where: Path) -> Tree:
    """The archive stays open as long as the tree lives; reading is thread-safe."""
    try:
        archive = zipfile.ZipFile(where)
    except pictures.DAMAGED as error:
        raise UsageError(f"cannot read the zip {where}: {error}") from error
    members: dict[str, zipfile.ZipInfo] = {}
    folders, skipped = set(), []
    for info in archive.infolist():
        # Some archivers write "./a/1.png", some separate by backslashes.
        path = PurePosixPath(info.filename.replace("\\", "/").lstrip("/"))
        if not path.name or any(_hidden(piece) for piece in path.parts):
            continue
        name = path.as_posix()
        folders.update(p.as_posix() for p in path.parents if p.name)
        if info.is_dir():
            folders.add(name)
        elif stat.S_ISLNK(info.external_attr >> 16) or not _is_image(name):
            skipped.append(name)
        else:
            members[name] = info  # of two of one name the last, as zipfile has it
    if any(info.flag_bits & 1 for info in members.values()):
        raise UsageError(f"{where} is encrypted: unpack it and give the folder")

    def read(name: str) -> bytes:
        _bound(members[name].file_size)  # zipfile unpacks no more than this
        return archive.read(members[name])

    return Tree(
        shown(str(where)),
        in_order(members),
        in_order(folders),
        read,
        (where,),
        in_order(skipped),
        inodes=frozenset({identity(where)[1]}),
        archive=where,
    )


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """By code point, as bytes of UTF-8 are: the same order under every locale."""
    return tuple(
        sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape"))
    )


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in pictures.suffixes() and not _hidden(path.name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
