"""Folders that are taken, full or no folders: one line, and nothing is left behind."""

import errno
import json
import resource
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

import sc_jax
from sc_jax import recipes, writing
from sc_jax.errors import Damaged, UsageError
from sc_jax.runs import evaluation, loading, lock, run_folder, sweep, training
from sc_jax.runs import source as origin
from sc_jax.runs.source import Source
from sc_jax.train.log import Log

HOLDER = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
os.write(file, b"process 7 on elsewhere")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that trains in tmp_path / "run"."""
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run" / lock.FILE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.fixture
def source():
    return Source("classifier", recipes.tiny("classifier"), ("phases.0.steps=2",))


def test_a_second_training_is_one_line_until_the_first_dies(holder, tmp_path, source):
    folder = tmp_path / "run"
    for start in (
        lambda: training.train(source.build(), folder, source),
        lambda: sweep.run(source, folder),
        lambda: sc_jax.train("classifier", folder),
    ):
        with pytest.raises(UsageError, match="run is being trained in by process 7 on"):
            start()
    assert [file.name for file in folder.iterdir()] == [lock.FILE]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock.locked(folder), lock.locked(folder):  # one process, called twice
        assert "process" in (folder / lock.FILE).read_text()
    assert folder.is_dir() and not list(folder.iterdir())


def test_another_thread_is_another_training(tmp_path):
    seen = []

    def second():
        try:
            with lock.locked(tmp_path / "new"):
                seen.append("let in")
        except UsageError as error:
            seen.append(str(error))

    with lock.locked(tmp_path / "new"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "is being trained in" in seen[0]
    assert not (tmp_path / "new").exists()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with lock.locked(tmp_path):
        pass
    assert "without locks (No locks available)" in caplog.text


def test_a_start_that_fails_leaves_nothing(tmp_path, source, monkeypatch):
    def fail(*_, **__):
        raise UsageError("the loss has no gradient")

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training.loop, "first_variables", fail)
        with pytest.raises(UsageError, match="no gradient"):
            training.train(source.build(), folder, source)
    assert not folder.exists()
    # A folder that was there stays, with what was in it.
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(training.loop, "first_variables", fail)
        with pytest.raises(UsageError, match="no gradient"):
            training.train(source.build(), folder, source)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_a_start_that_fails_takes_only_its_own_copies(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text("from sc_jax.recipes.classifier import classifier as mine\n")
    source = Source(str(file), recipes.tiny("classifier"), ())
    own = [tmp_path / "run" / "parts" / name for name in ("0/mine.py", "thesis.txt")]
    own[0].parent.mkdir(parents=True)
    for place in own:
        place.write_text("precious")
    copies = []

    def fail(*_, **__):
        saved = run_folder.read_json(tmp_path / "run" / run_folder.FILE)
        copies.extend(saved["files"].values())
        raise UsageError("the loss has no gradient")

    monkeypatch.setattr(training.loop, "first_variables", fail)
    with pytest.raises(UsageError, match="no gradient"):
        training.train(source.build(), tmp_path / "run", source)
    left = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert copies == ["parts/1/mine.py"] and sorted(left) == sorted(own)
    assert all(place.read_text() == "precious" for place in own)


def test_copies_are_all_made_or_none_and_only_where_they_belong(tmp_path):
    file, other = tmp_path / "mine.py", tmp_path / "other.py"
    file.write_text("one")
    run, outside = tmp_path / "run", tmp_path / "outside" / "mine.py"
    both = Source(str(file), {"backbone": str(other)}, ())
    with pytest.raises(FileNotFoundError):
        origin.copy(both, run, {})
    assert not (run / "parts").exists()
    alone = Source(str(file), {}, ())
    first = origin.copy(alone, run, {})
    file.write_text("two")
    assert origin.copy(alone, run, first) == first == {str(file): "parts/0/mine.py"}
    assert (run / "parts" / "0" / "mine.py").read_text() == "two"
    # A record that a stranger wrote points elsewhere: it is not followed.
    found = origin.copy(alone, run, {str(file): "../outside/mine.py"})
    assert found == {str(file): "parts/1/mine.py"} and not outside.exists()


def test_a_claim_that_has_a_checkpoint_stays(tmp_path, source):
    run_folder.claim(tmp_path, source, source.build(), None)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    run_folder.withdraw(tmp_path)
    assert (tmp_path / run_folder.FILE).exists()


def test_a_record_that_cannot_be_written_leaves_no_copies(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text("from sc_jax.recipes.classifier import classifier as mine\n")
    source = Source(str(file), recipes.tiny("classifier"), ())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    recipe = source.build()
    monkeypatch.setattr(run_folder.os, "replace", full)
    with pytest.raises(UsageError, match="cannot be written: No space left"):
        training.train(recipe, tmp_path / "run", source)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_at_the_claim_is_one_line(tmp_path, source):
    """The kernel's limit of a file's size ends writes as a full disk does."""
    recipe = source.build()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UsageError, match="written: File too large") as caught:
            training.train(recipe, tmp_path / "run", source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_full_disk_at_a_checkpoint_is_one_line(tmp_path, source, monkeypatch):
    recipe = source.build()
    with monkeypatch.context() as patch:
        patch.setattr(
            writing.shutil, "disk_usage", lambda _: SimpleNamespace(free=9999)
        )
        with pytest.raises(UsageError, match="of which 9,999 are free") as caught:
            training.train(recipe, tmp_path / "run", source)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / run_folder.FILE).exists()
    training.train(recipe, tmp_path / "run", source)  # the same command, with room


def test_places_are_tried_before_the_work(tmp_path, source):
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "run"
    for start in (
        lambda: training.train(source.build(), below, source),
        lambda: writing.check(below),
        lambda: writing.check("/proc/new"),
        lambda: writing.check(tmp_path / ("n" * 300) / "x"),
    ):
        with pytest.raises(UsageError, match="cannot be written") as caught:
            start()
        assert "\n" not in str(caught.value)
    writing.check(tmp_path / "a" / "b", tmp_path / "file", None, "")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_report_is_refused_before_the_data_is_read(tmp_path, source, monkeypatch):
    run_folder.claim(tmp_path / "run", source, source.build(), None)
    monkeypatch.setattr(run_folder, "dataset_of", lambda *_: pytest.fail("read"))
    with pytest.raises(UsageError, match="cannot be written"):
        evaluation.measure(tmp_path / "run", out=tmp_path / "run" / "recipe.json" / "x")


def test_records_that_were_changed_are_found(tmp_path, caplog):
    log = Log(tmp_path / "metrics.jsonl", "train", 9, 0, True)
    for step in (1, 2, 3):
        log.record("phase", step, {"loss": step / 3}, 100.0)
    log.close()
    file = tmp_path / "metrics.jsonl"
    whole = file.read_bytes()
    assert loading.metrics(tmp_path)["loss"] == [1 / 3, 2 / 3, 1.0]
    file.write_bytes(whole[:-7])
    assert loading.metrics(tmp_path)["step"] == [1, 2]
    assert "ends in half a record" in caplog.text
    file.write_bytes(whole.replace(b"0.333", b"0.233"))
    with pytest.raises(Damaged, match="line 1 was changed"):
        loading.metrics(tmp_path)
    # Without sums, as older versions wrote them.
    lines = [json.loads(line) for line in whole.splitlines()]
    old = "".join(json.dumps({"step": each["step"]}) + "\n" for each in lines)
    file.write_text(old)
    assert loading.metrics(tmp_path) == {"step": [1, 2, 3]}
    # Gone on with by this one: all lines have their sums.
    Log(file, "train", 9, 2, True).close()
    assert loading.metrics(tmp_path) == {"step": [1, 2]}
    assert file.read_text().count("crc32") == 2
