"""Decoded arrays kept on disk, so that the second run starts without decoding.

The folder is $SC_JAX_CACHE, by default ~/.cache/sc_jax (`sc_jax.places`); it can
be deleted at any time.
"""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sc_jax import notices
from sc_jax.places import cache_root

A = TypeVar("A", bound=np.ndarray | None)


def cached(key: str, make: Callable[[], A]) -> A:
    """The array kept under `key`, else `make()`, which is then kept unless None."""
    found = kept(key)
    if found is not None:
        return found
    array = make()
    if array is not None:
        keep(key, array)
    return array


def kept(key: str) -> Any:
    """The array under `key`; None where there is no whole file."""
    root = cache_root()
    return None if root is None else _read(root / f"{key}.npz")


def keep(key: str, array: np.ndarray) -> None:
    """In place of what was there. A cache that cannot be written costs a warning."""
    # Without a home there is nowhere to keep anything: decode every time.
    root = cache_root()
    if root is None:
        return
    try:
        _write(root / f"{key}.npz", array)
    except OSError as error:
        notices.once(f"cannot keep decoded images: {error}")


def key_of(label: str, files: Iterable[Path]) -> str:
    """Digest of `label` and the files' paths, sizes, times: any change, another key."""
    digest = hashlib.sha256(label.encode("utf-8", "surrogateescape"))
    for path in files:
        try:
            stat = path.stat()
            state = f"|{stat.st_size}|{stat.st_mtime_ns}\n"
        except OSError:  # deleted since it was listed: reading it says so
            state = "|gone\n"
        # As bytes: names need not be of the locale's letters.
        digest.update(os.fsencode(path.absolute()) + state.encode())
    return digest.hexdigest()[:32]


def _read(path: Path) -> Any:
    """The array, or None where there is no whole file."""
    try:
        with np.load(path) as arrays:
            return arrays["array"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, array: np.ndarray) -> None:
    """Whole or not at all, also where two processes write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its target: a rename is whole only within one file system.
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, array=array)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
