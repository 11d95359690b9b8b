"""Runs whose data set changes: gone on with by what was recorded, and said once."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sc_jax import notices
from sc_jax.data.damage import skipping
from sc_jax.errors import Missing, UsageError
from sc_jax.recipes import common
from sc_jax.runs import begun, evaluation, exit_runs, run_folder, sweep, training
from sc_jax.runs.source import Source

SIDE, PER_CLASS, BATCH = 28, 20, 8


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SC_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def fresh():
    """As in another process: nothing is known of a data set, nothing was said."""
    common._measured.cache_clear()
    notices.once.cache_clear()


def make(root):
    """Noise of two sizes, so that images are read one by one."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in "ab":
            (root / part / name).mkdir(parents=True)
            for i in range(PER_CLASS):
                noise = rng.integers(0, 256, (SIDE + i % 2, SIDE, 3), np.uint8)
                Image.fromarray(noise).save(root / part / name / f"{i:02d}.png")


def source(root, epochs=1.0):
    knobs = {"data": f"folder:{root}", "image_size": SIDE, "batch_size": BATCH}
    return Source("classifier", {**knobs, "epochs": epochs, "augment": "none"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(data, folder) of a classifier's run, one epoch long."""
    root, workdir = tmp_path_factory.mktemp("pics"), tmp_path_factory.mktemp("run")
    make(root)
    sweep.run(source(root), workdir, baselines=False)
    return root, workdir


@pytest.fixture
def world(finished, tmp_path):
    """A copy of the folder beside the data, which are as they were after the test."""
    root, workdir = finished
    shutil.copytree(root, tmp_path / "kept")
    shutil.copytree(workdir, tmp_path / "run")
    yield root, tmp_path / "run"
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "kept", root)


def said(caplog):
    found = [r.getMessage() for r in caplog.records if r.name == "sc_jax.data"]
    caplog.clear()
    return found


@pytest.mark.parametrize("way", ["deleted", "skipped"])
def test_a_truncated_file_stops_training_and_the_same_command_resumes(
    way, world, caplog
):
    root, workdir = world
    before = json.loads((workdir / run_folder.FILE).read_text())
    name = run_folder.dataset_of(source(root).build(), "train").files[25]
    file = root / "train" / name
    file.write_bytes(file.read_bytes()[:900])
    longer = source(root, epochs=3.0)
    steps = round(3 * 36 / BATCH)
    with pytest.raises(UsageError, match=f"{name}.*--skip_damaged") as info:
        sweep.run(longer, workdir, baselines=False, save_every=1)
    assert "\n" not in str(info.value)
    stopped = max(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*"))
    assert before["recipe"]["phases"][0]["steps"] <= stopped < steps
    caplog.clear()
    if way == "deleted":
        file.unlink()
        sweep.run(longer, workdir, baselines=False)
    else:
        with skipping():
            sweep.run(longer, workdir, baselines=False)
    lines = said(caplog)
    assert sum("35 training examples now, and had 36" in line for line in lines) == 1
    assert len(lines) == (1 if way == "deleted" else 2)
    after = json.loads((workdir / run_folder.FILE).read_text())
    assert after["data"] == before["data"]
    assert after["recipe"]["net"] == before["recipe"]["net"]
    assert run_folder.finished_step(run_folder.recipe_of(workdir), workdir) == steps


def test_a_run_is_measured_after_a_training_file_is_gone(world, tmp_path):
    root, workdir = world
    (root / "train" / "a" / "03.png").unlink()
    evaluation.measure(workdir, out=tmp_path / "out", baselines=False)
    rows = [
        json.loads((folder / "report.json").read_text())["rows"]
        for folder in (workdir, tmp_path / "out")
    ]
    assert len(rows[0]) == 1 and rows[0] == rows[1]


def test_nothing_but_training_and_int8_needs_training_images(world, tmp_path):
    package = pytest.importorskip("sc_jax.deploy.export.package")
    root, workdir = world
    recipe = run_folder.recipe_of(workdir)
    seen, trained = package._examples(recipe, "float32")
    assert trained and len(seen) == 36
    shutil.rmtree(root / "train")
    evaluation.measure(workdir, out=tmp_path / "out", baselines=False)
    rows = [
        json.loads((folder / "report.json").read_text())["rows"]
        for folder in (workdir, tmp_path / "out")
    ]
    assert rows[0] == rows[1]
    seen, trained = package._examples(recipe, "float32")
    assert not trained and seen.split == "test" and len(seen) == 40
    for needs in (
        lambda: package._examples(recipe, "int8"),
        lambda: sweep.run(source(root, epochs=2.0), workdir, baselines=False),
    ):
        with pytest.raises(Missing, match="has a test part, and no training images"):
            needs()


def test_another_run_under_a_recorded_one_is_of_the_same_facts(world, tmp_path):
    root, workdir = world
    recorded = run_folder.facts_of(workdir)
    (root / "train" / "a" / "03.png").unlink()
    fresh = source(root).build()
    assert fresh.net != run_folder.recipe_of(workdir).net
    built = begun.build(source(root), tmp_path / "new", workdir)
    assert built == run_folder.recipe_of(workdir)
    assert begun.facts(built.data, workdir) == recorded.known
    other = source(root)
    other.knobs["image_size"] = SIDE + 2
    common._measured.cache_clear()
    assert begun.build(other, workdir) == other.build()
    assert begun.facts(other.build().data, workdir) is None


def test_a_set_of_other_classes_is_refused(world):
    root, workdir = world
    for part in ("train", "test"):
        shutil.copytree(root / part / "a", root / part / "c")
    with pytest.raises(UsageError, match=r"has 3 classes .* and had 2 .*--workdir"):
        sweep.run(source(root), workdir, baselines=False)


def test_a_class_of_another_name_is_refused(world):
    root, workdir = world
    before = (workdir / run_folder.FILE).read_bytes()
    for part in ("train", "test"):  # positions in sorted names: b comes first now
        (root / part / "a").rename(root / part / "z")
    with pytest.raises(UsageError, match=r"class 'b' now where 'a' was .*--workdir"):
        sweep.run(source(root, epochs=2.0), workdir, baselines=False)
    assert (workdir / run_folder.FILE).read_bytes() == before


def test_a_claim_with_more_steps_keeps_the_recorded_facts(world):
    root, workdir = world
    before = json.loads((workdir / run_folder.FILE).read_text())
    for part in ("train", "test"):
        (root / part / "a").rename(root / part / "z")
    longer = source(root, epochs=2.0)
    run_folder.claim(workdir, longer, begun.build(longer, workdir), None)
    after = json.loads((workdir / run_folder.FILE).read_text())
    assert after["recipe"] != before["recipe"] and after["data"] == before["data"]


def test_thresholds_stay_those_of_the_validation_images_as_they_were(
    world, monkeypatch, tmp_path
):
    root, workdir = world
    recipe = run_folder.recipe_of(workdir)
    trace = SimpleNamespace(labels=np.zeros(4), split="validation")
    kept = SimpleNamespace(trace=trace)
    exit_runs.trace_file(workdir, "validation").write_text("")
    monkeypatch.setattr(exit_runs.record, "load", lambda *_: kept)
    monkeypatch.setattr(exit_runs.record, "save", lambda *_: None)
    monkeypatch.setattr(exit_runs, "measure", lambda *_: "measured again")
    held = run_folder.dataset_of(recipe, "validation")
    assert exit_runs.recorded(recipe, workdir, held) == "measured again"
    for i in range(6):
        (root / "train" / "a" / f"{i:02d}.png").unlink()
    held = run_folder.dataset_of(recipe, "validation")
    assert exit_runs.recorded(recipe, workdir, held) is kept


def test_damaged_test_images_show_before_the_first_step(world, monkeypatch, tmp_path):
    root, _ = world
    file = root / "test" / "a" / "00.png"
    file.write_bytes(file.read_bytes()[:500])
    monkeypatch.setattr(training.loop, "fit", None)  # would be called
    with pytest.raises(UsageError, match=r"test/a/00.png.*1 of 40 test images"):
        sweep.run(source(root), tmp_path / "new", baselines=False)
    assert not (tmp_path / "new").exists()
