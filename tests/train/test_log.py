"""What a person sees while a run trains: from its first second, within 100 columns."""

import fcntl
import os
import select
import struct
import sys
import termios
from contextlib import ExitStack

import pytest

from sc_jax.train import log
from sc_jax.train.log import Log

VALUES = {"loss": 0.123456, "accuracy": 0.91}


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard error a terminal of so many columns; returns what reads it."""
    with ExitStack() as opened:

        def start(columns):
            ours, theirs = os.openpty()
            opened.callback(os.close, ours)
            size = struct.pack("HHHH", 40, columns, 0, 0)
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
            stderr = opened.enter_context(os.fdopen(theirs, "w"))
            monkeypatch.setattr(sys, "stderr", stderr)

            def read():
                stderr.flush()
                parts = []
                while select.select([ours], [], [], 0.1)[0]:
                    parts.append(os.read(ours, 1 << 16))
                return b"".join(parts).decode()

            return read

        yield start


def test_lines_begin_before_compiling_and_tell_of_silent_steps(
    tmp_path, caplog, monkeypatch
):
    caplog.set_level("INFO", "sc_jax")
    shown = Log(tmp_path / "metrics.jsonl", "teacher", 21, 0, True)
    shown.begin("classify", 0, 21)
    assert "teacher classify: step 0/21, compiling 21 steps" in caplog.text
    assert not shown.silent()
    monkeypatch.setattr(log, "SILENT_S", -1.0)
    assert shown.silent()
    shown.alive("classify", 7)
    assert "step 7/21, " in caplog.text and "s left" in caplog.text
    assert not (tmp_path / "metrics.jsonl").read_text()
    shown.record("classify", 21, VALUES, 800.0)
    shown.close()
    assert "loss 0.1235, accuracy 91.0 %, 800 examples/s" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize(("columns", "bar"), [(80, 3), (100, 15)])
def test_the_bar_is_readable_at_a_terminals_width(tmp_path, terminal, columns, bar):
    read = terminal(columns)
    shown = Log(tmp_path / "metrics.jsonl", "teacher", 2810, 0, True)
    shown.begin("classify", 0, 2810)
    shown.record("classify", 2000, VALUES, 8123.4)
    shown.close()
    line = read().strip().split("\r")[-1]
    assert len(line) <= columns
    assert len(line.split("|")[1]) >= bar
    assert "2000/2810" in line and "loss 0.1235, 91.0 %, 8123/s" in line
