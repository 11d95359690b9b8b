"""A recipe in a folder: trained, measured, reported, evaluated again."""

import json

import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.compressors.splits import codecs_of
from sc_jax.errors import UsageError
from sc_jax.evaluate import rate
from sc_jax.evaluate.reports import report
from sc_jax.runs import baselines, rate_runs, run_folder, training

EXAMPLES = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(workdir, source, recipe) of a tiny Entropic Student."""
    workdir = tmp_path_factory.mktemp("run")
    knobs = recipes.tiny("entropic_student")
    source = run_folder.Source("entropic_student", knobs, ("phases.stage1.steps=4",))
    recipe = source.build()
    training.train(recipe, workdir, source)
    return workdir, source, recipe


@pytest.fixture(scope="module")
def images(run):
    test = run_folder.dataset_of(run[2], "test")
    return test.take(np.arange(EXAMPLES))


def test_saved_tables_are_those_the_weights_give(run, images):
    workdir, _, recipe = run
    variables, frozen = run_folder.restore(recipe, workdir)
    example = np.zeros((1, *images.shape), np.uint8)
    assert frozen == codecs_of(recipe.net, variables, example)


def test_answers_from_bytes_are_those_of_the_hard_quantised_run(run, images):
    workdir, _, recipe = run
    variables, frozen = run_folder.restore(recipe, workdir)
    measured = rate.measure(recipe.net, variables, frozen, images, batch_size=32)
    assert measured.disagreements == 0
    assert len(measured.metrics["accuracy"]) == EXAMPLES
    estimate = measured.estimated_bits / 8
    assert np.all(measured.payload_bytes <= 1.005 * estimate + 8)
    assert np.all(measured.framed_bytes > measured.payload_bytes)
    assert np.all(measured.pickle_bytes > measured.payload_bytes)


@pytest.fixture(scope="module")
def kept(run, images):
    """(teacher's variables and folder, baseline rows), measured and kept there."""
    workdir, _, recipe = run
    folder = run_folder.teacher_of(workdir)
    variables, _ = run_folder.restore(recipe.teacher, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "CLASSICAL", (("PNG", (None,)), ("JPEG", (50,))))
        rows = baselines.rows(recipe.teacher, variables, images, folder)
    return variables, folder, rows


def test_report_holds_the_extreme_cuts_and_the_student(run, images, kept):
    workdir, _, recipe = run
    rows = list(kept[2])
    rows.append(rate_runs.student_row(recipe, workdir, images))
    rate_runs.conclude(rows, recipe, workdir, images, "command")
    found = {row.method: row for row in report.read(workdir)}
    teacher, png = found["teacher"], found["edge-only PNG"]
    assert found["local-only"].quality == teacher.quality == png.quality
    assert png.head_macs == 0 and found["local-only"].head_macs == teacher.head_macs
    assert found["Entropic Student"].head_macs < teacher.head_macs
    facts = json.loads((workdir / "report.json").read_text())["facts"]
    assert facts["split"] == "test" and facts["seed"] == recipe.seed
    for name in ("report.md", "rate_accuracy.png", "metrics.jsonl", "recipe.json"):
        assert (workdir / name).stat().st_size > 0


def test_baselines_are_measured_once_a_teacher_and_set(run, images, kept, monkeypatch):
    teacher = run[2].teacher
    variables, folder, rows = kept
    measured = []

    def measure(net, *arguments, title, **options):
        measured.append(title)
        return real(net, *arguments, title=title, **options)

    real = baselines.rate.measure
    monkeypatch.setattr(baselines.rate, "measure", measure)
    monkeypatch.setattr(baselines, "CLASSICAL", (("PNG", (None,)),))
    assert baselines.rows(teacher, variables, images, folder) == rows[:3]
    assert not measured
    # One more setting: it alone is measured.
    monkeypatch.setattr(baselines, "CLASSICAL", (("PNG", (None,)), ("JPEG", (5,))))
    more = baselines.rows(teacher, variables, images, folder)
    assert more[:3] == rows[:3] and measured == ["edge-only JPEG q=5"]
    (file,) = (folder / "baselines").iterdir()
    assert set(json.loads(file.read_text())["rows"]) >= {"teacher", *measured}
    # Other examples, or a damaged file: measured again.
    monkeypatch.setattr(baselines, "CLASSICAL", ())
    baselines.rows(teacher, variables, images.take(np.arange(7)), folder)
    assert measured[1:] == ["teacher"] and len([*file.parent.iterdir()]) == 2
    file.write_text("{")
    assert baselines.rows(teacher, variables, images, folder) == rows[:2]
    assert measured[2:] == ["teacher"]


def test_a_finished_folder_is_built_again_from_its_json(run):
    workdir, _, recipe = run
    assert run_folder.recipe_of(workdir) == recipe


def test_a_folder_of_another_recipe_is_refused(run):
    workdir, source, _ = run
    other = run_folder.Source(source.recipe, {**source.knobs, "beta": 0.5})
    before = (workdir / "recipe.json").read_bytes()
    with pytest.raises(UsageError, match="another recipe"):
        training.train(other.build(), workdir, other)
    assert (workdir / "recipe.json").read_bytes() == before


def test_a_teacher_folder_or_none_is_named_in_one_line(run, tmp_path):
    for folder in (run[0] / "teacher", tmp_path):
        with pytest.raises(UsageError, match=r"recipe\.json") as caught:
            run_folder.recipe_of(folder)
        assert "\n" not in str(caught.value)
