"""A launch.serve of a benchmark's own."""

import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(workdir: Path, *options: str):
    """(address, process id) of a launch.serve of its own, ended by SIGTERM."""
    command = [sys.executable, "-m", "launch.serve", f"--workdir=model={workdir}"]
    command += ["--port=0", *options]
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
