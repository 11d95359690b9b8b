"""Real processes: two on loopback train as one; a killed one is resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")
ROOT = WORKER.parents[2]
STEPS = ["--set=phases.0.steps=6", "--log_every=2", "--save_every=2"]
REPORT = ["report.json", "report.md", "rate_accuracy.png"]


def start(workdir, *flags, module=False, **environment):
    """launch.train of the tiny classifier in a process of its own."""
    program = ["-m", "launch.train"] if module else [str(WORKER)]
    recipe = "--recipe=classifier:batch_size=16"
    return subprocess.Popen(
        [sys.executable, *program, recipe, f"--workdir={workdir}", *STEPS, *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process, timeout=240):
    """(exit code, stdout, stderr lines)"""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err.splitlines()


def devices(count):
    """The flags of every test, the number of devices apart: the last one counts."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return {r["step"]: r["loss"] for r in map(json.loads, lines)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    code, _, err = end(start(workdir, XLA_FLAGS=devices(1)))
    assert code == 0, err
    return workdir


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(workdir):
    """(exit code, stdout, stderr lines) of each of two processes of one training."""
    environment = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "2",
        "XLA_FLAGS": devices(1),
    }
    pair = [
        start(workdir, "--multihost", JAX_PROCESS_ID=str(i), **environment)
        for i in range(2)
    ]
    try:
        return [*map(end, pair)]
    finally:
        for process in pair:
            process.kill()


def test_two_processes_train_and_report_as_one(alone, tmp_path):
    (code, out, err), (other_code, other_out, other_err) = together(tmp_path)
    assert (code, other_code) == (0, 0), (err, other_err)
    assert "edge-only PNG" in out and "edge-only PNG" not in other_out
    # Once each: the second process adds no record.
    records = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(r)["step"] for r in records] == [2, 4, 6]
    # Each sums half of the batch: last bits, over six steps (1e-5 was seen).
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-4)
    assert (tmp_path / "checkpoints" / "6").is_dir()
    for name in REPORT:
        assert (tmp_path / name).stat().st_size > 0
    # Both leave the damaged step, which is moved once, and go on from the same one.
    arrays = [f for f in (tmp_path / "checkpoints/6/arrays").rglob("*") if f.is_file()]
    largest = max(arrays, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    again = together(tmp_path)
    assert [code for code, *_ in again] == [0, 0], again
    assert [folder.name for folder in (tmp_path / "damaged").iterdir()] == ["6"]
    assert (tmp_path / "checkpoints" / "6").is_dir()


def test_several_devices_train_as_one(alone, tmp_path):
    code, _, err = end(start(tmp_path, XLA_FLAGS=devices(4)))
    assert code == 0, err
    # Each sums half of the batch: last bits, over six steps (1e-5 was seen).
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-4)


LONG = ["--set=phases.0.steps=100000"]


def wait_for(process, path, timeout=120):
    begun = time.monotonic()
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - begun < timeout
        time.sleep(0.05)


def test_sigterm_is_one_line_and_kill_loses_only_unsaved_steps(tmp_path):
    """The same command goes on after each; records stay in order, none twice."""
    cache, run = tmp_path / "cache", tmp_path / "run"
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    first = start(run, *LONG, module=True, **kept)
    wait_for(first, run / "checkpoints" / "4")
    first.send_signal(signal.SIGTERM)
    code, _, err = end(first)
    assert code == 143
    assert "saved" in err[-1] and err[-1].startswith("error: stopped at step ")
    stopped = int(err[-1].split()[4].rstrip(","))
    assert (run / "checkpoints" / str(stopped)).is_dir()
    assert any(cache.iterdir())  # what was compiled is there for the second
    second = start(run, *LONG, module=True, **kept)
    later = run / "checkpoints" / str(stopped + 4 - stopped % 2)
    wait_for(second, later)
    second.kill()
    assert end(second)[0] == -signal.SIGKILL
    third = start(run, *LONG, module=True, **kept)
    wait_for(third, run / "checkpoints" / str(int(later.name) + 8))
    third.send_signal(signal.SIGTERM)
    assert end(third)[0] == 143
    steps = list(losses(run))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(steps) and steps == sorted(steps)


def test_divergence_is_one_line_and_exit_code_1(tmp_path):
    wild = "--set=phases.0.optimiser.learning_rate=1e30"
    code, _, err = end(start(tmp_path, wild))
    assert code == 1
    mistakes = [line for line in err if line.startswith("error:")]
    assert len(mistakes) == 1 and "last good step" in mistakes[0]
    assert not any("Traceback" in line for line in err)


def test_a_file_as_workdir_is_one_line_and_exit_code_2(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    code, _, err = end(start(file, module=True))
    assert (code, len(err)) == (2, 1) and "is a file" in err[0]
    assert file.read_text() == "mine"
