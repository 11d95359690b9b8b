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


def test_without_a_terminal_lines_come_by_time_and_records_by_step(
    tmp_path, caplog, monkeypatch
):
    caplog.set_level("INFO", "sc_jax")
    now = 100.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    shown = Log(tmp_path / "metrics.jsonl", "teacher", 1000, 0, True)
    shown.begin("first", 0, 400)
    for step in range(25, 401, 25):  # one second each
        now += 1.0
        shown.record("first", step, VALUES, 800.0)
    shown.begin("second", 400, 1000)
    for step in range(425, 1001, 25):  # a tenth of a second each: 24 records
        now += 0.1
        shown.record("second", step, VALUES, 800.0)
    shown.close()
    steps = [int(line.split("step ")[1].split("/")[0]) for line in caplog.messages]
    # Each phase: its start, a line once five seconds are over, its end.
    assert steps == [0, 150, 300, 400, 400, 1000]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 40


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
