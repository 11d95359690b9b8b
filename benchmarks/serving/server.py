"""A launch.serve of a benchmark's own."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(workdir: Path | Mapping[str, Path], *options: str, core: int | None = None):
    """(address, process id) of a launch.serve of its own, ended by SIGTERM.

    workdir: of one run, which is served as "model", or of several by name. core: the
    processor core that it has alone; None: all.
    """
    runs = workdir if isinstance(workdir, Mapping) else {"model": workdir}
    named = ",".join(f"{name}={path}" for name, path in runs.items())
    command = [sys.executable, "-m", "launch.serve", f"--workdir={named}"]
    command += ["--port=0", *options]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            if "at" not in words:
                raise RuntimeError(f"no server: {' '.join(command)}")
            yield words[words.index("at") + 1].rstrip(","), process.pid
        finally:
            process.terminate()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at just now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
