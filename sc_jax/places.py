"""Where files of this package stand on a machine, with or without a home folder."""

import os
import tempfile
from pathlib import Path

from sc_jax.errors import UsageError
from sc_jax.notices import once


def expanded(path: str) -> Path:
    """`path` with ~ and ~user replaced; UsageError where nobody has that home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path}: no such home folder here; give the whole path, or set HOME"
        ) from None


def cache_root() -> Path | None:
    """Of decoded images: $SC_JAX_CACHE, else `home_cache`."""
    named = os.environ.get("SC_JAX_CACHE")
    return expanded(named) if named else home_cache()


def home_cache() -> Path | None:
    """~/.cache/sc_jax; without a home of one's own a temporary folder.

    As under a user id that the machine does not know, or HOME=/ in a container. None
    where that folder is somebody else's: what is read from it would be theirs.
    """
    try:
        home = Path("~").expanduser()
    except RuntimeError:
        return _temporary()
    # A relative HOME would put the cache wherever a command is given.
    kept = home / ".cache" / "sc_jax"
    own = kept.is_dir() or os.access(home, os.W_OK)
    return kept if home.is_absolute() and own else _temporary()


def _temporary() -> Path | None:
    path = Path(tempfile.gettempdir()) / f"sc_jax-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        own = found.st_uid == os.getuid() and not found.st_mode & 0o022
        usable = own and not path.is_symlink()
    except OSError:
        usable = False
    if not usable:
        once("no home folder: nothing is cached; SC_JAX_CACHE=FOLDER names a place")
        return None
    once(f"no home folder: the cache is {path}; SC_JAX_CACHE=FOLDER moves it")
    return path
