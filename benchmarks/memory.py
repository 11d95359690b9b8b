"""Resident memory of a process."""

import resource
from pathlib import Path


def resident_bytes(pid: int | str = "self") -> int:
    """Of this process or another; 0 where Linux's /proc is not."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
