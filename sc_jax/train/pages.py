"""Memory that stays with a process that trains on CPUs.

XLA asks malloc for the temporaries of a step and frees them behind it. glibc maps
blocks of that size anew each time and gives them back, and Linux zeroes each page
again: 35,000 faults, a quarter to a third of the CPU time of a step that takes 140 MB.
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), and what they are set to.
_KEPT = (
    (-8, 1),  # M_ARENA_MAX: those of other threads hold no more than 64 MB
    (-4, 0),  # M_MMAP_MAX: blocks of any size from the heap, which is kept
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: bytes at its end before any is given back
)


def keep() -> bool:
    """Whether this process keeps what it frees from now on: under glibc alone.

    For processes that do nothing but train: their memory stays at its peak. Call it
    before jax starts its threads.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    # musl has neither; its malloc is another.
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(name, value) for name, value in _KEPT)
