"""What gRPC reads from the environment, once, when it is imported."""

from __future__ import annotations

import os

DEFAULTS = {
    # Its own log repeats what strangers send, a line each.
    "GRPC_VERBOSITY": "NONE",
    # Sockets are read by the thread that asks for calls, not by threads beside it: a
    # tenth less computing a call. Releases of gRPC that cannot any more ignore it.
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
}


def prepare() -> None:
    """Sets what is not set; to be called before grpc is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
