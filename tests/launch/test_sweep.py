"""A sweep: each point its own teacher where it must, and no finished point lost."""

import json
import os
import signal

import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.data import sources
from sc_jax.data.dataset import Dataset
from sc_jax.errors import Diverged, Stopped, UsageError
from sc_jax.evaluate.reports import report
from sc_jax.runs import baselines, preflight, rate_runs, run_folder, sweep, training
from sc_jax.runs.source import Source
from sc_jax.train import loop, running

METHOD = "knowledge_distillation"


def row(method, setting="", family="reference", size=None):
    return report.Row(method, setting, family, 0.5, 8, size, size, size, None, 0, 0)


@pytest.fixture
def trained(monkeypatch):
    """Folders in the order of their trainings, where nothing is trained or measured.

    What a folder's training or measuring raises stands in `trained.raises`.
    """

    class Trained(list):
        def __init__(self):
            self.raises = {}

    found = Trained()

    def load(argument, part, data_dir):
        images = np.zeros((24, 28, 28, 1), np.uint8)
        labels = (np.arange(24) % 3).astype(np.int32)
        return Dataset("blanks", part, ("a", "b", "c"), images, labels)

    def fit(recipe, workdir, *_, **__):
        found.append((workdir, recipe.seed))
        if workdir.name in found.raises:
            raise found.raises[workdir.name]

    def kept(whole, variables, test, folder, files=True):
        image = [row("edge-only PNG", "lossless", "classical", (9.0, 9.0))]
        return [row("teacher"), row("local-only"), *(image if files else [])]

    def own(recipe, workdir, test):
        return row(recipe.title, recipe.setting, "learned", (5.0, 6.0))

    monkeypatch.setitem(sources.SOURCES, "blanks", load)
    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setattr(baselines, "rows", kept)
    monkeypatch.setattr(rate_runs, "student_row", own)
    monkeypatch.setattr(run_folder, "restore", lambda *_: (None, {}))
    return found


@pytest.fixture
def unchecked(monkeypatch):
    """Recipes that are known to be sound need not be traced."""
    for module in (preflight, training):
        monkeypatch.setattr(module, "check", lambda recipe, **_: None)


def source(**knobs):
    return Source(METHOD, {**recipes.tiny(METHOD), "data": "blanks", **knobs})


def shown(trained, workdir):
    """(folder below `workdir`, seed) of what was trained."""
    return [(str(folder.relative_to(workdir)), seed) for folder, seed in trained]


def settings(workdir):
    return [(each.method, each.setting) for each in report.read(workdir)]


def test_points_have_a_teacher_each_where_they_must(trained, tmp_path):
    sweep.run(source(), tmp_path, sweep="seed:0,1")
    first = [("teacher", 0), ("seed=0", 0), ("seed=1/teacher", 1), ("seed=1", 1)]
    assert shown(trained, tmp_path) == first
    title = source().build().title
    teachers = [("teacher", "seed=0"), ("local-only", "seed=0")]
    more = [("teacher", "seed=1"), ("local-only", "seed=1")]
    image = [("edge-only PNG", "lossless")]  # of both, for the images are the same
    points = [[(title, f"seed={seed}")] for seed in (0, 1)]
    assert settings(tmp_path) == [*teachers, *image, *points[0], *more, *points[1]]
    facts = json.loads((tmp_path / "report.json").read_text())["facts"]
    assert facts["sweep"] == "seed:0,1" and facts["points"] == ["seed=0", "seed=1"]
    assert facts["seed"] == {"seed=0": 0, "seed=1": 1} and "not finished" not in facts
    # Another order and a point more: who taught a point still teaches it.
    trained.clear()
    sweep.run(source(), tmp_path, sweep="seed:1,2,0", report=False)
    third = [("seed=2/teacher", 2), ("seed=2", 2)]
    assert shown(trained, tmp_path) == [*first[2:], *third, *first[:2]]


def test_points_that_can_share_a_teacher(trained, unchecked, tmp_path):
    sweep.run(source(), tmp_path, sweep="channels:2,3")
    folders = [folder for folder, _ in shown(trained, tmp_path)]
    assert folders == ["teacher", "channels=2", "teacher", "channels=3"]
    assert [method for method, _ in settings(tmp_path)].count("teacher") == 1


@pytest.mark.parametrize(
    ("knob", "teachers"),
    [
        ("backbone:cnn,nin", 2),
        ("batch_size:4,8", 2),
        ("augment:none,flip", 2),
        ("teacher_epochs:1.0,9.0", 2),
        ("bits:4,8", 1),
    ],
)
def test_whoever_differs_in_what_teaches_has_its_own(knob, teachers, tmp_path, trained):
    known = {"data": "blanks"}
    points = sweep.built(Source(METHOD, known), tmp_path, knob)
    assert len({point.taught for point in points}) == teachers
    assert points[0].taught == tmp_path / "teacher"
    assert all(tmp_path in point.taught.parents for point in points)
    if teachers > 1:
        with pytest.raises(UsageError, match="--teacher names one folder"):
            sweep.built(Source(METHOD, known), tmp_path, knob, tmp_path / "one")


def test_a_finished_teacher_teaches_every_point(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "is_finished", lambda _: True)
    taught = tmp_path / "one"
    points = sweep.built(source(), tmp_path, "seed:0,1", taught)
    assert [(p.taught, p.reused) for p in points] == [(taught, True)] * 2


def test_a_value_with_a_slash_stays_below_the_folder(trained, tmp_path):
    (name,) = sweep.points(Source(METHOD, {}), "data_dir:../../else")
    assert (tmp_path / name).parent == tmp_path


@pytest.mark.parametrize(
    ("knob", "line"),
    [
        ("bits:8,32", "bits is a whole number, 1 to 16, not 32"),
        ("backbone:cnn,icnn", "^backbone=icnn: "),
        ("seed:0,one", "seed is a whole number"),
    ],
)
def test_every_point_is_checked_before_the_first_is_trained(
    knob, line, trained, tmp_path
):
    for report_too in (True, False):
        with pytest.raises(UsageError, match=line) as caught:
            sweep.run(source(), tmp_path, sweep=knob, report=report_too)
        assert "\n" not in str(caught.value)
    assert not trained and not any(tmp_path.iterdir())


def test_a_folder_of_another_run_shows_before_the_first_is_trained(
    trained, unchecked, tmp_path
):
    sweep.run(source(bits=4), tmp_path, sweep="seed:1", report=False)
    trained.clear()
    with pytest.raises(UsageError, match=r"^seed=1: .*holds another recipe"):
        sweep.run(source(bits=8), tmp_path, sweep="seed:0,1", report=False)
    assert not trained and not (tmp_path / "seed=0").exists()


def test_a_point_that_diverges_leaves_the_others_reported(trained, unchecked, tmp_path):
    trained.raises["bits=4"] = Diverged("loss is nan in step 3")
    with pytest.raises(Diverged, match=r"^bits=4: loss is nan.*; 2 of 3 points"):
        sweep.run(source(), tmp_path, sweep="bits:2,4,8")
    title = source().build().title
    own = [setting for method, setting in settings(tmp_path) if method == title]
    assert [setting.split(", ")[1] for setting in own] == ["2 bit", "8 bit"]
    facts = json.loads((tmp_path / "report.json").read_text())["facts"]
    assert facts["not finished"] == ["bits=4: loss is nan in step 3"]
    # The first alone: its baselines are measured with the next.
    trained.raises["bits=2"] = trained.raises.pop("bits=4")
    with pytest.raises(Diverged, match=r"^bits=2"):
        sweep.run(source(), tmp_path, sweep="bits:2,4")
    assert [method for method, _ in settings(tmp_path)].count("teacher") == 1


@pytest.mark.parametrize("error", [Stopped("at step 3"), KeyboardInterrupt()])
def test_what_ends_a_sweep_leaves_finished_points_reported(
    error, trained, unchecked, tmp_path
):
    trained.raises["bits=4"] = error
    with pytest.raises(type(error)) as caught:
        sweep.run(source(), tmp_path, sweep="bits:2,4,8")
    assert isinstance(error, KeyboardInterrupt) or "bits=4: at" in str(caught.value)
    assert len(settings(tmp_path)) == 4 and not (tmp_path / "bits=8").exists()
    trained.raises.clear()
    sweep.run(source(), tmp_path, sweep="bits:2,4,8")
    assert len(settings(tmp_path)) == 6


@pytest.mark.parametrize("place", ["teacher", "seed=0", "seed=1/teacher"])
def test_a_stop_between_trainings_ends_before_the_next(
    place, trained, unchecked, tmp_path, monkeypatch
):
    """As the last step of a training ends, where nothing is left there to stop."""
    real = loop.fit

    def last_step(recipe, workdir, *arguments, **options):
        real(recipe, workdir, *arguments, **options)
        if workdir == tmp_path / place:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "fit", last_step)
    lost = []
    before = signal.signal(signal.SIGTERM, lambda *_: lost.append(1))
    try:
        with pytest.raises(Stopped, match="the same command resumes"):
            sweep.run(source(), tmp_path, sweep="seed:0,1")
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not lost and shown(trained, tmp_path)[-1][0] == place


def test_a_stop_while_a_net_is_made_ends_before_its_first_step(tmp_path, monkeypatch):
    recipe = recipes.build("classifier", recipes.tiny("classifier"))
    monkeypatch.setattr(loop, "_phases", lambda *_: pytest.fail("trained"))
    with running.stopping() as stop:
        stop.seen = True
        with pytest.raises(Stopped, match="before step 1 of train; the same command"):
            loop.fit(recipe, tmp_path)
