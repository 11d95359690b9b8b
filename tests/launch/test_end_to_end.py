"""The binaries on a small folder of images: a swept curve, measured again, mistakes."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import sc_jax
from sc_jax import recipes
from sc_jax.evaluate.reports import report

BITS = ("4", "8")


def launch(*arguments):
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def hashes(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """train and test folders of two classes, grey, no two of one size."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for level, name in ((60, "dark"), (190, "light")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                size = (28 + i, 44 - i)
                pixels = rng.normal(level, 20, size).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def curve(pictures, tmp_path_factory):
    """(workdir, what was printed) of a sweep over two widths of a value."""
    workdir = tmp_path_factory.mktemp("curve") / "run"
    data = f"data=folder:{pictures}/train,{pictures}/test"
    knobs = [data, "image_size=28", "batch_size=4", "augment=none"]
    knobs += [f"{k}={v}" for k, v in recipes.tiny("ghnd").items()]
    done = launch(
        "launch.train", f"--recipe=ghnd:{','.join(knobs)}",
        f"--sweep=bits:{','.join(BITS)}", f"--workdir={workdir}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_sweep_shares_one_teacher_and_ends_in_a_curve(curve):
    workdir, done = curve
    rows = report.read(workdir)
    settings = [r.setting for r in rows if r.method == "GHND"]
    assert settings == [f"3 channels, {b} bit" for b in BITS]
    assert [r.method for r in rows].count("teacher") == 1
    for bits, setting in zip(BITS, settings):  # of a point: its own row of them
        (row,) = sc_jax.load(workdir / f"bits={bits}").report
        assert (row["method"], row["setting"]) == ("GHND", setting)
    assert sc_jax.load(workdir / "teacher").report == []
    for name in ("report.json", "report.md", "rate_accuracy.png"):
        assert (workdir / name).stat().st_size > 0
    for bits in BITS:
        folder = workdir / f"bits={bits}"
        assert (folder / "recipe.json").exists() and (folder / "checkpoints").exists()
        assert not (folder / "teacher").exists()
    assert "GHND" in done.stdout and "edge-only PNG" in done.stdout
    assert "generalised" in done.stderr and "examples/s" in done.stderr


def test_evaluate_measures_the_same_again(curve, tmp_path):
    workdir = curve[0] / f"bits={BITS[0]}"
    done = launch(
        "launch.evaluate", f"--workdir={workdir}", f"--out={tmp_path}", "--nobaselines"
    )
    assert done.returncode == 0, done.stderr
    (again,) = report.read(tmp_path)
    student = next(r for r in report.read(curve[0]) if r.setting == again.setting)
    assert again == student


def test_damage_and_other_recipes_are_one_line_and_change_nothing(curve, tmp_path):
    run = tmp_path / "curve"
    shutil.copytree(curve[0], run)
    good = run / f"bits={BITS[0]}"
    broken = run / f"bits={BITS[1]}"
    for file in (broken / "checkpoints").rglob("*"):
        if file.is_file() and file.parent.name != "checkpoints":
            file.write_bytes(b"x")
    source = json.loads((good / "recipe.json").read_text())["source"]
    knobs = ",".join(f"{k}={v}" for k, v in source["knobs"].items() if k != "bits")
    ours = "--recipe=ghnd:" + knobs
    before = hashes(run)
    for arguments, names in [
        (("launch.evaluate", f"--workdir={broken}"), "checkpoints"),
        (("launch.evaluate", f"--workdir={run}"), "recipe.json"),
        (("launch.train", f"{ours},bits=5", f"--workdir={good}"), "another recipe"),
        (("launch.train", "--recipe=hnd", f"--workdir={good}"), "another recipe"),
    ]:
        done = launch(*arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
        assert names in done.stderr
    assert hashes(run) == before


def test_a_run_is_exported_and_its_bundle_runs(curve, pictures, tmp_path):
    pytest.importorskip("litert_converter", reason="the extra export is not installed")
    workdir, out = curve[0] / f"bits={BITS[1]}", tmp_path / "bundle"
    done = launch("launch.export", f"--workdir={workdir}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    # Two runtimes sum in another order: near a half a number may round either way.
    found = re.search(r"head: (\d+) of .* (\d+) of them ties", done.stdout)
    assert found and found[1] == found[2]
    assert out.with_name("bundle.zip").exists()
    again = launch("launch.export", f"--workdir={workdir}", f"--out={out}")
    assert again.returncode == 2 and "exists" in again.stderr
    assert again.stderr.count("\n") == 1
    shown = ("launch.device", f"--bundle={out}.zip", f"--images={pictures}/test")
    done = launch(*shown, f"--out={tmp_path}/answers.jsonl")
    assert done.returncode == 0, done.stderr
    assert "answered 0 of 8" in done.stdout and "no server" in done.stdout
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["exit"] for line in lines] == ["none"] * 8
