"""A launch.serve of a benchmark's own."""

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
