"""A checkpoint that its disk changed is found, and training goes on before it."""

import json
import logging
import shutil

import numpy as np
import pytest

from sc_jax.errors import Damaged, UsageError
from sc_jax.train import checkpoint
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
