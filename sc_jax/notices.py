"""Lines about data that a person should read once: what was skipped, and why."""

import logging
import os
from collections.abc import Iterable, Sequence
from functools import cache

LOGGER = logging.getLogger("sc_jax.data")


@cache
def once(line: str) -> None:
    """A warning of one line; a set is opened several times a run, it is said once."""
    LOGGER.warning("%s", line)


def first(names: Sequence[str], count: int = 3) -> str:
    """The first names, shown, and dots where there are more."""
    return ", ".join(map(shown, names[:count])) + (", ..." * (len(names) > count))


def all_shown(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(shown, names))


def shown(name: str) -> str:
    """A file's name as text that any terminal, JSON and UTF-8 file can hold.

    Python hands bytes that its locale does not know over as lone surrogates, which
    nothing prints: they are read as UTF-8, and as \\xNN where they are not.
    """
    try:
        name = os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # of a zip, under a locale with fewer letters
        name = name.encode("utf-8", "backslashreplace").decode()
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
