"""Places that take nothing: full, read-only, below a file. One line, before work."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sc_jax import foreign
from sc_jax.errors import UsageError

# orbax and tensorstore raise kinds of their own: their words tell.
_FULL = re.compile("No space left|[Dd]isk quota|File too large|Read-only file system")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """In which what a disk refuses is one line about `path`."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        found = _FULL.search(str(error))
        if not isinstance(error, OSError) and found is None:
            raise
        why = found[0] if found else foreign.reason(error)
        raise UsageError(
            f"{path} cannot be written: {why}; make room or give another place"
        ) from error


def check(*paths: str | Path | None) -> None:
    """UsageError where a file or folder cannot be made at one of the paths.

    Tried in the nearest folder that is there; nothing is left.
    """
    for path in filter(None, paths):
        with writing(path):
            folder = Path(path).absolute()
            while not folder.exists():
                folder = folder.parent
            # Of a file that is there: the folder around it.
            if folder.is_file() and folder == Path(path).absolute():
                folder = folder.parent
            with tempfile.TemporaryFile(dir=folder):
                pass


def room(folder: Path, needed_bytes: int) -> None:
    """UsageError where the disk has less: before half of it is written."""
    with writing(folder):
        free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise UsageError(
            f"{folder} cannot be written: it takes {needed_bytes:,} bytes, of which "
            f"{free:,} are free; make room, and the same command resumes"
        )
