"""A folder of somebody else: opening it runs none of its files by itself."""

import json
import os
import py_compile
import subprocess
import sys

import pytest

import sc_jax
from sc_jax import foreign, plugins
from sc_jax.errors import UsageError
from sc_jax.runs import run_folder
from sc_jax.runs.source import Source

OWN = """
from pathlib import Path
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.recipes.classifier import classifier

with Path({seen!r}).open("a") as file:
    file.write("ran ")


def net(*, classes: int):
    return cnn(classes=classes, width=4)


def mine(*, backbone: str = "cnn", **shared):
    return classifier(epochs=0.01, batch_size=16, backbone=backbone, **shared)
"""


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """(a claimed folder of mine.py, mine.py, what tells that it ran)."""
    monkeypatch.chdir(tmp_path)
    seen, file = tmp_path / "seen", tmp_path / "mine.py"
    file.write_text(OWN.format(seen=str(seen)))
    source = Source("mine.py:mine", {"backbone": "mine.py:net"})
    run_folder.claim(tmp_path / "run", source, source.build(), None)
    # As another process, that nobody has pointed at the file.
    monkeypatch.setattr(plugins, "_trusted", set())
    monkeypatch.setattr(plugins, "_modules", {})
    seen.unlink()
    return tmp_path / "run", file, seen


def edited(folder, change):
    file = folder / run_folder.FILE
    content = foreign.read_json(file, "run")
    change(content)
    file.write_bytes(foreign.sealed(content))


@pytest.mark.parametrize("gone", [True, False])
def test_a_recorded_file_does_not_run_by_itself(strange, gone):
    folder, file, seen = strange
    if gone:
        file.unlink()
    with pytest.raises(UsageError, match=r"names a Python file.*--recipe=.*trust="):
        sc_jax.load(folder)
    with pytest.raises(UsageError, match="names a Python file"):
        sc_jax.evaluate(folder)
    assert not seen.exists()


def test_it_runs_where_its_bytes_are_those_of_a_file_that_is_named(strange, tmp_path):
    folder, file, seen = strange
    other = file.with_name("other.py")
    other.write_text(file.read_text() + "# changed\n")
    plugins.trust(other)
    with pytest.raises(UsageError, match="names a Python file"):
        run_folder.recipe_of(folder)
    assert not seen.exists()
    moved = file.rename(tmp_path / "elsewhere.py")
    plugins.trust(f"{moved}:mine,beta=0.1")
    assert run_folder.recipe_of(folder).backbone == "mine.py:net"
    assert seen.read_text() == "ran "


def test_compiled_code_beside_a_trusted_file_does_not_run(strange, tmp_path):
    folder, file, seen = strange
    (copy,) = folder.rglob("mine.py")
    evil = tmp_path / "evil.py"
    evil.write_text("raise SystemExit")
    compiled = py_compile.compile(
        str(evil), str(copy.parent / "__pycache__" / "mine.cpython-311.pyc"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip
    assert compiled is not None
    name = f"mine.{sys.implementation.cache_tag}.pyc"
    os.rename(compiled, copy.parent / "__pycache__" / name)
    plugins.trust(file)
    run_folder.recipe_of(folder)
    assert seen.read_text() == "ran "


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["source"].update(overrides=["task={}:mine"]),
        lambda content: content["source"].update(overrides=["task='{}:mine'"]),
        lambda content: content["source"].update(overrides=["policy={}:mine"]),
        lambda content: content["source"].update(
            overrides=["policy=threshold:score={}:mine"]
        ),
        lambda content: content["source"]["knobs"].update(backbone="{}:net"),
    ],
)
def test_no_text_of_a_recipe_leads_to_a_file(tmp_path, monkeypatch, change):
    """A recipe of this package, that names a file in an override or a policy."""
    source = Source("branchynet", {}, ())
    run_folder.claim(tmp_path / "run", source, source.build(), None)
    seen, file = tmp_path / "seen", tmp_path / "evil.py"
    file.write_text(OWN.format(seen=str(seen)))

    def insert(content):
        change(content)
        text = json.dumps(content["source"]).replace("{}:", f"{file}:")
        content["source"] = json.loads(text)

    edited(tmp_path / "run", insert)
    with pytest.raises(UsageError, match="names a Python file"):
        sc_jax.load(tmp_path / "run")
    assert not seen.exists()


def test_a_binary_runs_the_file_that_its_command_repeats(strange):
    folder, file, seen = strange
    command = [sys.executable, "-m", "launch.evaluate", f"--workdir={folder}"]
    done = subprocess.run([*command, f"--recipe={file}"], capture_output=True)
    # On to what this folder, that is claimed and no more, lacks.
    assert done.returncode == 2 and b"holds no finished run" in done.stderr
    assert seen.exists()
