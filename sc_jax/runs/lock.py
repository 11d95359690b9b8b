"""One training at a time in a folder: a lock that ends with its process."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax

from sc_jax.errors import UsageError
from sc_jax.train.log import LOGGER
from sc_jax.writing import writing

try:
    import fcntl
except ImportError:  # not on Windows, which then goes without
    fcntl = None

FILE = ".lock"
# What a file system says that knows no locks, as NFS without its lock service.
_NONE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_held: dict[Path, int] = {}  # folder -> the thread that trains in it


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """In which no other process trains in `folder`; UsageError where one does already.

    Made where it is missing, and removed again where nothing came into it. The lock is
    the kernel's: it ends with the process, however that ends. Of several processes of
    one training the first holds it.
    """
    place = folder.resolve()
    if jax.process_index() > 0 or _held.get(place) == threading.get_ident():
        yield
        return
    if place.exists() and not place.is_dir():
        raise UsageError(f"{folder} is a file; give --workdir a folder")
    missing = [part for part in (place, *place.parents) if not part.exists()]
    try:
        with writing(folder):
            place.mkdir(parents=True, exist_ok=True)
        file = _taken(folder, place)
        _held[place] = threading.get_ident()
        try:
            yield
        finally:
            del _held[place]
            # Before it is given up: another's file must not be removed.
            with suppress(OSError):
                (place / FILE).unlink()
            os.close(file)
    finally:
        for part in missing:
            with suppress(OSError):  # what holds something stays
                part.rmdir()


def _taken(folder: Path, place: Path) -> int:
    """The locked file, open; it says who holds it."""
    while True:
        with writing(folder):
            file = os.open(place / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NONE:
                holder = os.pread(file, 200, 0).decode("utf-8", "replace").strip()
                os.close(file)
                raise UsageError(
                    f"{folder} is being trained in by {holder or 'another process'}: "
                    "wait for it, or give another --workdir"
                ) from None
            LOGGER.warning(
                "%s is on a file system without locks (%s): start no second training "
                "in it", folder, error.strerror,
            )  # fmt: skip
        # Removed by who held it before, while this process waited to open it?
        with suppress(FileNotFoundError):
            if os.fstat(file).st_ino == os.stat(place / FILE).st_ino:
                break
        os.close(file)
    with writing(folder):
        os.ftruncate(file, 0)
        os.pwrite(
            file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0
        )
    return file
