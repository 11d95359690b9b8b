"""SIGTERM as a scheduler sends it: of a command, between two trainings."""

import subprocess
import sys

# Sent as the teacher's last record is written: behind the last step it could stop.
SIGNALLED = """
import os, signal
from launch import cli, train
from sc_jax.train.log import Log

record = Log.record

def recorded(self, phase, step, *values):
    record(self, phase, step, *values)
    if (self.title, step) == ("teacher", self.total):
        os.kill(os.getpid(), signal.SIGTERM)

Log.record = recorded
cli.start(train.main)
"""


def test_a_signal_on_the_teachers_last_line_ends_the_command(tmp_path):
    knobs = "epochs=0.01,teacher_epochs=0.01,batch_size=16"
    command = [sys.executable, "-c", SIGNALLED]
    command += [f"--recipe=knowledge_distillation:{knobs}", f"--workdir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 143, done.stderr
    assert last == "error: stopped after the teacher; the same command resumes"
    assert any((tmp_path / "run/teacher/checkpoints").glob("[0-9]*"))
    assert not (tmp_path / "run/checkpoints").exists()
