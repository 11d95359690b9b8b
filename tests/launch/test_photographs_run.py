"""A student trained on photographs without labels, and tested on another set."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sc_jax import api, recipes
from sc_jax.errors import UsageError
from sc_jax.recipes import common
from sc_jax.runs import (
    baselines,
    begun,
    evaluation,
    exit_runs,
    run_folder,
    sweep,
    training,
)
from sc_jax.runs.source import Source

SIDE = 28
CLASSES = "ab"


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SC_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(baselines, "CLASSICAL", (("PNG", (None,)),))  # of 17 files, one
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """album/*/*.png, 40 photographs; labelled/{train,test}/{a,b}, brighter ones."""
    root, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)

    def noise(file, high):
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, high, (SIDE, SIDE + len(file.stem) % 2, 3), np.uint8)
        Image.fromarray(pixels).save(file)

    for i in range(40):
        noise(root / "album" / str(i % 3) / f"{i}.png", 128)
    for part, count in (("train", 10), ("test", 6)):
        for name in CLASSES:
            for i in range(count):
                noise(root / "labelled" / part / name / f"{'x' * (i % 2)}{i}.png", 255)
    return root


def source(world, recipe="ghnd", **knobs):
    data = {"data": f"photos:{world}/album", "test": f"folder:{world}/labelled"}
    more = {"image_size": SIDE, "batch_size": 4, "augment": "none"}
    if recipe != "classifier":
        more |= {"teacher_epochs": 0.0, "epochs": 0.1}
    return Source(recipe, data | more | knobs)


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """The folder of a student's run under an untrained teacher."""
    workdir = tmp_path_factory.mktemp("run")
    sweep.run(source(world), workdir)
    return workdir


def test_both_sets_are_named_in_folder_and_report(world, finished):
    saved = json.loads((finished / run_folder.FILE).read_text())
    data = saved["recipe"]["data"]
    assert data["name"] == f"photos:{world}/album"
    assert data["test"] == f"folder:{world}/labelled"
    assert saved["data"]["classes"] == [*CLASSES] and saved["data"]["examples"] == 36
    facts = json.loads((finished / "report.json").read_text())["facts"]
    assert facts["data"] == data["test"]
    assert facts["trained on"].startswith(f"{data['name']} (without labels, 10%")
    text = (finished / "report.md").read_text()
    assert data["name"] in text and data["test"] in text
    rows = json.loads((finished / "report.json").read_text())["rows"]
    assert {row["examples"] for row in rows} == {12}
    assert {row["metric"] for row in rows} == {"top-1"}


def test_validation_is_measured_by_agreement(world, finished, tmp_path):
    evaluation.measure(finished, split="validation", out=tmp_path)
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert {row["metric"] for row in rows} == {"agreement"}
    assert {row["examples"] for row in rows} == {4}
    by_method = {row["method"]: row["quality"] for row in rows}
    assert by_method["teacher"] == by_method["edge-only PNG"] == 1.0
    # Of a labelled set on demand, and never over the report of its labels.
    evaluation.measure(finished, out=tmp_path, baselines=False, agreement=True)
    (other,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert (other["metric"], other["examples"]) == ("agreement", 12)
    # And of images that nobody labelled: no class of theirs is compared.
    unlabelled = {"data": f"plain:{world}/album", "agreement": True}
    evaluation.measure(finished, out=tmp_path, baselines=False, **unlabelled)
    (other,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert (other["metric"], other["examples"]) == ("agreement", 40)
    with pytest.raises(UsageError, match="with --agreement also give --out"):
        evaluation.measure(finished, agreement=True)
    (row,) = api.evaluate(finished, split="validation")
    assert row["metric"] == "agreement" and row["quality"] == by_method["GHND"]


@pytest.mark.parametrize(
    ("recipe", "knobs", "phase", "term"),
    [
        ("classifier", {}, "classify", "cross_entropy"),
        ("ghnd", {"teacher_epochs": 1.0}, "classify", "cross_entropy"),
        ("knowledge_distillation", {}, "distil", "distillation"),
        ("entropic_student", {"epochs": None}, "stage2", "distillation"),
    ],
)
def test_a_term_that_needs_labels_is_named_before_training(
    recipe, knobs, phase, term, world, tmp_path, monkeypatch
):
    monkeypatch.setattr(training.loop, "fit", None)  # would be called
    wanted = source(world, recipe, **knobs)
    if knobs.get("epochs", 0) is None:
        del wanted.knobs["epochs"]
    with pytest.raises(UsageError) as info:
        sweep.run(wanted, tmp_path / "run")
    line = str(info.value)
    assert "\n" not in line and f"phase {phase!r}" in line and term in line
    assert "needs labels" in line and f"photos:{world}/album" in line
    assert not (tmp_path / "run").exists()


def test_distillation_without_labels_trains(world, tmp_path):
    knobs = {"alpha": 0.0, "stage1_epochs": 0.1, "stage2_epochs": 0.1}
    wanted = source(world, "entropic_student", **knobs)
    del wanted.knobs["epochs"]
    sweep.run(wanted, tmp_path, baselines=False, log_every=1)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["phase"] == "stage2" and np.isfinite(last["distillation"])
    assert "accuracy" not in last  # nothing to compare answers to


def test_a_trained_teacher_gives_mean_and_deviation(world, tmp_path):
    labelled = {"data": f"folder:{world}/labelled", "test": None, "epochs": 0.1}
    sweep.run(source(world, "classifier", **labelled), tmp_path / "teacher")
    theirs = run_folder.facts_of(tmp_path / "teacher")
    # Its own epochs need labels, but it is trained already.
    student = source(world, teacher_epochs=1.0)
    sweep.run(
        student, tmp_path / "run", teacher_dir=tmp_path / "teacher", baselines=False
    )
    own = run_folder.facts_of(tmp_path / "run")
    assert own.mean == theirs.mean and own.std == theirs.std and own.examples == 36
    common._measured.cache_clear()
    assert common.facts(student.build().data).mean != theirs.mean
    again = begun.build(student, tmp_path / "run")
    assert again == run_folder.recipe_of(tmp_path / "run")
    evaluation.measure(tmp_path / "run", split="validation", out=tmp_path / "out")


def test_exits_need_labelled_images_for_their_thresholds(world):
    built = recipes.build("shallow_deep", source(world, "classifier").knobs)
    with pytest.raises(UsageError, match="has no labels, and exits are solved"):
        exit_runs.check(replace(built, phases=()))


@pytest.mark.parametrize("mistake", ["no test set", "broken"])
def test_a_mistake_is_one_line_and_exit_code_2(mistake, world, tmp_path):
    for i in range(20):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{i}.png")
    test = f",test=folder:{world}/labelled" if mistake == "broken" else ""
    if mistake == "broken":
        (tmp_path / "7.png").write_bytes(b"none")
    recipe = f"ghnd:teacher_epochs=0,data=photos:{tmp_path}{test}"
    command = [sys.executable, "-m", "launch.train", f"--recipe={recipe}"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}/run"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    word = "1 of 20 photographs" if mistake == "broken" else "test=NAME"
    assert word in done.stderr
