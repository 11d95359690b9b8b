"""A server process from its first answer to its last: signals end it, requests do not.

POSIX's usual contract for containers: SIGTERM drains within a grace time.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence

from sc_jax.deploy.server.edge import Server

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def until_signal(
    server: Server, models: Iterable[str], sizes: Sequence[int], grace_s: float
) -> None:
    """Says where `server` listens, waits for a signal, drains; main thread only.

    A batch that does not end within its bounds leaves with the process, exit code 1. A
    second signal ends at once.
    """
    stop = threading.Event()
    for number in SIGNALS:
        # Only now: until it serves, a signal may end it at once.
        signal.signal(number, lambda *_: stop.set())
    # What was loaded stays: else each full collection would go through all of jax.
    gc.collect()
    gc.freeze()
    names, batches = ", ".join(models), ", ".join(map(str, sizes))
    # Flushed: who started it reads the port from this line.
    print(f"serving {names} at {server.address}, batches {batches}", flush=True)
    stop.wait()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    if not server.drain(grace_s):
        print("error: a batch does not end; its requests were refused", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)  # an ordinary exit would wait for its thread
