"""Errors that are the caller's to mend."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A mistake of the caller: binaries print it as one line and exit with code 2."""


class Misfit(UsageError):
    """Shapes that do not meet; those of images of another size may."""


class Missing(UsageError):
    """A data set, or the part of it that is asked for, is not there."""


class Damaged(UsageError):
    """A file that was cut, changed or is none of ours."""


class Unread(UsageError):
    """A file that the system did not hand over now: nothing is known of what it holds.

    An I/O error, no descriptor or memory left, no permission, a file that is gone.
    """


class Diverged(RuntimeError):
    """The loss is no longer finite."""


class ExportError(RuntimeError):
    """A program that does not become a segment, by the operation that stopped it."""


class Stopped(RuntimeError):
    """SIGTERM came; a checkpoint was written."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The one line for a name that is not in `known`, nearest names first."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return UsageError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")
