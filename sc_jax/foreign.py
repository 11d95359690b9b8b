"""Files of somebody else, or damaged ones: read whole, within bounds, or refused.

Every reader of a run's folder, a bundle, a tail or a trace goes through this file. The
rules: regular files only, sizes known before memory is taken, nothing unpickled, and
whatever a reader raises is one line that names the file. NumPy only.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from sc_jax.errors import Damaged, Unread, UsageError

JSON_BYTES = 1 << 26  # of one JSON file: labels of 22,000 classes take 1 MB
INFLATED = 20  # times the size of a compressed file, from ...
INFLATED_FREE = 1 << 26  # ... this many bytes on: logits hardly shrink, bombs 1000-fold
SEAL = "file_sha256"
_SEALED = re.compile(rb'"file_sha256": "([0-9a-f]{64})"')

# What failed here and not in the file: memory, descriptors, a disk, a permission.
_MACHINE = {
    errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.EINTR, errno.EAGAIN,
    errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip
# orbax, tensorstore and XLA raise kinds of their own: their words tell.
_MACHINE_WORDS = re.compile(
    "RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|[Oo]ut of memory|Cannot allocate memory|"
    + "|".join(re.escape(os.strerror(number)) for number in sorted(_MACHINE))
)


@contextmanager
def reading(path: str | Path, what: str, fix: str = "") -> Iterator[None]:
    """In which anything that a reader raises is one line of `Damaged`.

    what: what the file should be ("bundle", "trace"). fix: what to do about it.
    Unread instead where memory, descriptors or a disk ran out: `machine_failure`.
    """
    try:
        yield
    except UsageError:
        raise
    except FileNotFoundError as error:
        name = error.filename or path
        raise Damaged(f"{path} is no whole {what}: {name} is missing{_end(fix)}") from (
            None
        )
    except Exception as error:
        if (why := machine_failure(error)) is not None:
            raise Unread(
                f"{path} could not be read: {why}; it may be whole: leave it where it "
                "is, mend that and try again"
            ) from error
        # Exception, and no list: json, zip, npz, orbax and flatbuffers end in another
        # kind for every byte that is wrong, RecursionError too.
        raise Damaged(
            f"{path} is no whole {what}: {reason(error)}{_end(fix)}"
        ) from error


def reason(error: BaseException) -> str:
    """The first line of an error; its kind where it has no words, or one key only."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    kind = type(error).__name__
    if not lines or isinstance(error, KeyError):
        return f"{kind} {lines[0][:160] if lines else ''}".strip()
    return lines[0][:160]


def machine_failure(error: BaseException | None) -> str | None:
    """What failed about this machine, not about the file that it read; None: nothing.

    Of an error and those that it came from: orbax wraps what tensorstore raises.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, MemoryError):
            return "out of memory"
        if isinstance(error, OSError) and error.errno in _MACHINE:
            return reason(error)
        if found := _MACHINE_WORDS.search(str(error)):
            return found[0]
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _end(fix: str) -> str:
    return f"; {fix}" if fix else ""


@contextmanager
def regular(path: str | Path) -> Iterator[IO[bytes]]:
    """A file opened to be read; OSError where it is a pipe, a device or a folder."""
    # Not to wait for a pipe's writer: what it is shows once it is open.
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(f"{path} is no regular file")
        yield opened


def read_bytes(path: str | Path, limit: int) -> bytes:
    """A whole file; ValueError, before it is read, where it is larger than `limit`."""
    with regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{Path(path).name} holds {size:,} bytes, not {limit:,}")
        return file.read(limit)


def read_json(path: str | Path, what: str, fix: str = "") -> dict[str, Any]:
    """A JSON object as `sealed` wrote it, or without a seal; Damaged."""
    with reading(path, what, fix):
        return unsealed(read_bytes(path, JSON_BYTES))


def sealed(content: Mapping[str, Any], **options: Any) -> bytes:
    """JSON that ends in the SHA-256 of itself, its own 64 digits taken as zeros.

    options: of `json.dumps`. Against damage, not against malice: whoever changes the
    file on purpose can seal it again.
    """
    data = json.dumps({**content, SEAL: "0" * 64}, **options).encode()
    digest = hashlib.sha256(data).hexdigest()
    return data.replace(f'"{SEAL}": "{"0" * 64}"'.encode(), b'"%s": "%s"' % (
        SEAL.encode(), digest.encode(),
    ))  # fmt: skip


def unsealed(data: bytes) -> dict[str, Any]:
    """The content of `sealed`; ValueError where it was changed or is no object.

    JSON without a seal, of an older version, passes as it is.
    """
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__}, not an object")
    if SEAL in content:
        del content[SEAL]
        found = _SEALED.findall(data)
        zeros = _SEALED.sub(f'"{SEAL}": "{"0" * 64}"'.encode(), data)
        if [hashlib.sha256(zeros).hexdigest().encode()] != found:
            raise ValueError("it was changed: its SHA-256 differs")
    elif content and _like_seal(*list(content.items())[-1]):
        raise ValueError("it was changed: its SHA-256 has another name")
    return content


def _like_seal(name: str, value: Any) -> bool:
    """Whether the last entry of a file is a seal with a name, or digits, that changed.

    Files of older versions end in no digest, and in no name that is nearly this one.
    """
    near = sum(a == b for a, b in zip(name, SEAL)) > len(SEAL) // 2
    return near or (isinstance(value, str) and len(value) == 64)


@contextmanager
def parts(path: Path) -> Iterator[Callable[[str, int], bytes]]:
    """(name, bytes at most) -> one of the files in a folder, or in a stored zip."""
    if path.is_dir():
        yield lambda name, limit: read_bytes(path / name, limit)
        return
    with regular(path) as file, zipfile.ZipFile(file) as archive:
        yield lambda name, limit: stored(archive, archive.getinfo(name), limit)


def stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """A member that is not compressed; ValueError, before it is read, for others."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(
            f"{info.filename} is compressed: unpack it and give the folder"
        )
    if info.file_size > limit:
        raise ValueError(
            f"{info.filename} holds {info.file_size:,} bytes, not {limit:,}"
        )
    return archive.read(info)


def arrays(data: bytes) -> dict[str, np.ndarray]:
    """Every array of an uncompressed npz; ValueError, KeyError and others.

    All members are read, so that a changed one is found whoever asks for it.
    """
    return _arrays(io.BytesIO(data), len(data), compressed=False)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of an npz file, which may be compressed to a twentieth."""
    with regular(path) as file:
        return _arrays(file, os.fstat(file.fileno()).st_size, compressed=True)


def _arrays(file: IO[bytes], size: int, *, compressed: bool) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        whole = sum(info.file_size for info in members)
        if compressed and whole > max(INFLATED * size, INFLATED_FREE):
            raise ValueError(f"{size:,} bytes that unpack to {whole:,}")
        for info in members:
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in found:
                raise ValueError(f"{info.filename!r} is no array, or there twice")
            data = archive.read(info) if compressed else stored(archive, info, size)
            found[name] = _array(data)
    return found


def _array(data: bytes) -> np.ndarray:
    """Of a .npy file, whose header must say how many bytes follow it."""
    file = io.BytesIO(data)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which are not read")
    # Before NumPy takes the memory that the header asks for.
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{dtype}{list(shape)} is not what its bytes hold")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
