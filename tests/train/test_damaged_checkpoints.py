"""A checkpoint that its disk changed is found, and training goes on before it."""

import contextlib
import errno
import gc
import json
import logging
import shutil
import sys
import threading
from functools import partial

import jax
import numpy as np
import pytest

from sc_jax.errors import Damaged, UsageError
from sc_jax.train import checkpoint, resume
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.loop import fit


@pytest.fixture(scope="module")
def whole(classifier, tmp_path_factory):
    """(workdir, variables) of six steps, each second one saved."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, fit(classifier, workdir, log_every=2, save_every=2, keep=9)


@pytest.fixture
def workdir(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "run")


def largest(folder):
    """Where the numbers stand: not the indices about them."""
    return max(
        (f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size
    )


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def renumber(step):
    """Says another phase than was saved."""
    file = step / "meta" / "metadata"
    content = json.loads(file.read_text())
    assert content["phase"] == 1
    file.write_text(json.dumps(content | {"phase": 0}))


DAMAGE = {
    "flipped": lambda step: flip(largest(step / "arrays")),
    "cut": lambda step: cut(largest(step / "arrays")),
    "gone": lambda step: shutil.rmtree(step / "arrays"),
    "meta": renumber,
    "no meta": lambda step: shutil.rmtree(step / "meta"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_training_goes_on_from_the_newest_whole_one(
    damage, whole, workdir, classifier, same, caplog
):
    DAMAGE[damage](workdir / "checkpoints" / "6")
    with caplog.at_level(logging.WARNING, "sc_jax"):
        again = fit(classifier, workdir, log_every=2, save_every=2, keep=9)
    (line,) = (r.getMessage() for r in caplog.records if "damaged" in r.getMessage())
    assert "on from step 4" in line and "\n" not in line
    same(again, whole[1])
    assert (workdir / "damaged" / "6").is_dir()
    assert fit(classifier, workdir) is not None  # whole again


def test_where_none_is_whole_nothing_begins_anew(workdir, classifier):
    for step in (2, 4, 6):
        flip(largest(workdir / "checkpoints" / str(step) / "arrays"))
    with pytest.raises(Damaged, match=r"none before it is whole") as caught:
        fit(classifier, workdir)
    assert "\n" not in str(caught.value) and not (workdir / "damaged").exists()


def test_tables_are_made_again_from_the_weights(workdir, classifier, whole):
    (workdir / "checkpoints" / "6" / checkpoint.TABLES).write_bytes(b"PK")
    fit(classifier, workdir)
    with np.load(workdir / "checkpoints" / "6" / checkpoint.TABLES) as tables:
        assert not tables.files  # a net without a split has none


def test_a_folder_without_digests_opens_and_says_so_once(
    classifier, tmp_path, monkeypatch, caplog, same
):
    real = checkpoint.ocp.args.JsonSave

    def strip(meta):
        return real({k: v for k, v in meta.items() if k != checkpoint.DIGESTS})

    monkeypatch.setattr(checkpoint.ocp.args, "JsonSave", strip)
    variables = fit(classifier, tmp_path, log_every=6)
    with caplog.at_level(logging.WARNING, "sc_jax"):
        for _ in range(2):
            same(fit(classifier, tmp_path), variables)
    assert sum("keeps no digests" in r.getMessage() for r in caplog.records) == 1


def test_a_disk_that_is_full_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise ValueError(
            'RESOURCE_EXHAUSTED: write [strerror="No space left on device"]'
        )

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(UsageError, match=r"checkpoints cannot be written.*No space"):
        checkpoints.save(1, {}, {})
    checkpoints.close()


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError("Unable to allocate 1 GiB"),
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ],
)
def test_a_machine_that_cannot_read_sets_nothing_aside(
    failure, workdir, classifier, monkeypatch
):
    real = checkpoint.ocp.CheckpointManager.restore

    def fails(self, step, args):
        if step == 6 and args.get("arrays") is not None:
            raise ValueError("Encountered an error") from failure
        return real(self, step, args=args)

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", fails)
    with pytest.raises(UsageError, match=r"6 could not be read") as caught:
        fit(classifier, workdir)
    assert not isinstance(caught.value, Damaged) and "delete" not in str(caught.value)
    assert not (workdir / "damaged").exists()
    assert (workdir / "checkpoints" / "6").is_dir()


def test_of_several_processes_the_first_says_what_is_damaged(
    workdir, classifier, monkeypatch, same, whole
):
    """This process, the second of two, reads every step whole."""
    first = {6: 1, 4: 0}  # what the other found: damaged, whole
    monkeypatch.setattr(resume, "_steps", lambda _: list(first))
    verdicts = iter(first.values())

    def both(mine):
        return np.array([next(verdicts, mine), mine])

    monkeypatch.setattr(resume.devices, "gathered", both)
    again = fit(classifier, workdir, log_every=2, save_every=2, keep=9)
    assert (workdir / "damaged" / "6").is_dir()
    same(again, whole[1])


def _pair(theirs, mine):
    return np.array([mine, theirs])


def test_none_is_taken_that_another_process_cannot_read(
    workdir, classifier, monkeypatch
):
    for theirs in (1, 2):
        monkeypatch.setattr(resume, "_steps", Checkpoints.steps)
        monkeypatch.setattr(resume.devices, "gathered", partial(_pair, theirs))
        with pytest.raises(UsageError, match="could not be read by another process"):
            fit(classifier, workdir)
        assert not (workdir / "damaged").exists()


def test_the_steps_are_those_of_the_first_process(monkeypatch):
    class Seen:
        steps = staticmethod(lambda: [4, 2])

    theirs = iter([3, np.array([6, 4, 2])])
    monkeypatch.setattr(
        resume.devices, "gathered", lambda mine: np.stack([next(theirs), mine])
    )
    assert resume._steps(Seen()) == [6, 4, 2]


def test_reads_of_two_threads_leave_the_hook_as_it_was(workdir, monkeypatch):
    """The second thread begins while the first reads, and ends after it."""
    hook = [].append
    monkeypatch.setattr(sys, "unraisablehook", hook)
    checkpoints = Checkpoints(workdir / "checkpoints", writing=False)
    flip(workdir / "checkpoints" / "4" / "meta" / "metadata")
    inside, go_on = threading.Barrier(2), threading.Event()
    real = checkpoint.ocp.CheckpointManager.restore

    def slow(self, step, args):
        with contextlib.suppress(threading.BrokenBarrierError):
            inside.wait(0.5)  # where reads may overlap, both are here
        if step == 4:
            go_on.wait(0.5)
        return real(self, step, args=args)

    def read(step):
        with contextlib.suppress(Damaged):
            checkpoints.meta(step)
        go_on.set()

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", slow)
    threads = [threading.Thread(target=read, args=(step,)) for step in (2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    checkpoints.close()
    assert sys.unraisablehook is hook


def test_a_read_that_failed_leaves_nothing_to_complain(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: seen.append(str(found)))
    arrays = {str(i): np.arange(2e5) + i for i in range(8)}
    arrays = jax.tree.map(jax.numpy.asarray, arrays)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, arrays, {})
    checkpoints.wait()
    cut(largest(tmp_path / "checkpoints" / "1" / "arrays"))
    for _ in range(5):
        with pytest.raises(Damaged, match="no whole checkpoint") as caught:
            checkpoints.arrays(1, arrays)
        assert caught.value.__cause__ is not None
    checkpoints.close()
    del caught
    gc.collect()
    assert not seen
