"""Images that cannot be decoded: found, told, refused or left out.

A damaged image is an error, of the test part before training begins; inside `skipping`
it is left out, with a line about it. Only decoding shows that it is, and is done once.
A file that could not be read now (`errors.Unread`) is not damaged, and always an error.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from sc_jax import notices
from sc_jax.data import cache
from sc_jax.data.one_pass import decoding_threads
from sc_jax.data.parts import Part, key, progress
from sc_jax.errors import Unread, UsageError

_SKIPPING: ContextVar[bool] = ContextVar("skipping", default=False)


@contextmanager
def skipping(damaged: bool = True) -> Iterator[None]:
    """Sets opened inside leave out images that are damaged, with a line about it.

    They keep their place while the set is split, so that no other image changes sides.
    """
    token = _SKIPPING.set(damaged)
    try:
        yield
    finally:
        _SKIPPING.reset(token)


def is_skipped() -> bool:
    """Whether damaged images are left out here."""
    return _SKIPPING.get()


def looked_at(test: Part) -> Part:
    """The part, of which no image is damaged, unless those are left out."""
    if not is_skipped():
        refuse(test, damaged(test, "test"))
    return test


def damaged(part: Part, which: str) -> np.ndarray:
    """bool [N]: which images cannot be decoded; found once, and kept on disk.

    Unread where one could not be looked at.
    """
    name = key(f"damaged {which}", [part])
    found = cache.kept(name)
    if found is None:
        found = _failing(part, np.arange(len(part.files)))
        cache.keep(name, found)
    elif found.any():
        # Looked at again: a time may stay the same where an image was mended.
        rows = np.flatnonzero(found)
        again = _failing(part, rows)
        if not again.all():
            found[rows] = again
            cache.keep(name, found)
    return found


def _failing(part: Part, rows: np.ndarray) -> np.ndarray:
    """bool [len(rows)]: which of these images cannot be decoded."""

    def fails(i: int) -> bool:
        try:
            part.pixels(i)
        except Unread:
            raise
        except UsageError:
            return True
        return False

    found = np.zeros(len(rows), bool)
    with (
        ThreadPoolExecutor(decoding_threads()) as pool,
        progress(part, "looking at", rows) as bar,
    ):
        for start in range(0, len(rows), 256):
            some = rows[start : start + 256].tolist()
            found[start : start + 256] = [*pool.map(fails, some)]
            bar.update(len(some))
    return found


def report(part: Part, bad: np.ndarray) -> None:
    names = [part.files[i] for i in np.flatnonzero(bad)]
    if names:
        notices.once(
            f"{part.tree.path}: {len(names)} of {len(bad)} images cannot be read and "
            f"are left out ({notices.first(names)})"
        )


def refuse(part: Part, bad: np.ndarray) -> None:
    """UsageError that says why the first of them cannot be read."""
    rows = np.flatnonzero(bad)
    for row in rows.tolist():
        try:
            part.pixels(row)  # once more, for the reason
        except Unread:
            raise
        except UsageError as error:
            count = f"{len(rows)} of {len(bad)} test images are damaged"
            raise UsageError(f"{error} ({count})") from error
