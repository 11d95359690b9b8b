"""A recipe in a folder: trained, measured, reported, evaluated again."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.compressors.splits import codecs_of
from sc_jax.deploy.wire import frame
from sc_jax.errors import UsageError
from sc_jax.evaluate import rate
from sc_jax.evaluate.reports import report
from sc_jax.recipes import common
from sc_jax.runs import (
    baselines,
    evaluation,
    exit_runs,
    loading,
    rate_runs,
    run_folder,
    sweep,
    training,
)
from sc_jax.runs.source import Source
from sc_jax.runs.training_cost import training_s

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
    variables, codecs = run_folder.restore(recipe, workdir)
    example = np.zeros((1, *images.shape), np.uint8)
    assert codecs == codecs_of(recipe.net, variables, example)


def test_answers_from_bytes_are_those_of_the_hard_quantised_run(run, images):
    workdir, _, recipe = run
    variables, codecs = run_folder.restore(recipe, workdir)
    measured = rate.measure(recipe.net, variables, codecs, images, batch_size=32)
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
    jpeg, student = found["edge-only JPEG"], found["Entropic Student"]
    assert jpeg.data_bytes[0] < jpeg.payload_bytes[0] - 100
    assert student.data_bytes == student.payload_bytes
    assert png.head_macs == 0 and found["local-only"].head_macs == teacher.head_macs
    assert found["Entropic Student"].head_macs < teacher.head_macs
    facts = json.loads((workdir / "report.json").read_text())["facts"]
    assert facts["split"] == "test" and facts["seed"] == recipe.seed
    floors = facts["bytes of a file of one colour"]
    assert floors == {"edge-only PNG": 79, "edge-only JPEG": 162}
    # Training cost: what the records say, and nothing where they lack a step.
    assert student.seconds["training"] == training_s(recipe, workdir) > 0
    assert training_s(recipe, workdir / "nothing") is None
    (workdir.parent / "timed").mkdir()
    known = dataclasses.replace(
        recipe, phases=(dataclasses.replace(recipe.phases[0], steps=5),)
    )
    # Two steps at 4 images a second, three at 8.
    rows = [{"step": 2, "examples_per_s": 4.0}, {"step": 5, "examples_per_s": 8.0}]
    log = workdir.parent / "timed" / "metrics.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert training_s(known, log.parent) == recipe.data.batch_size * (2 / 4 + 3 / 8)
    longer = dataclasses.replace(recipe, phases=(*recipe.phases, recipe.phases[0]))
    assert training_s(longer, workdir) is None
    for name in ("report.md", "rate_accuracy.png", "metrics.jsonl", "recipe.json"):
        assert (workdir / name).stat().st_size > 0


def test_files_begin_at_the_lowest_quality_and_avif_at_64_pixels(images, monkeypatch):
    def of(side):
        return images.take(np.arange(2)).resized(side)

    monkeypatch.setattr(baselines.PIL.features, "check", lambda name: True)

    small, large = (
        [file.title for file in baselines._files(of(side))] for side in (63, 64)
    )
    assert "edge-only WebP q=0" in small and not any("AVIF" in name for name in small)
    assert [name for name in large if "AVIF" not in name] == small
    assert "edge-only AVIF q=0" in large
    monkeypatch.setattr(baselines.PIL.features, "check", lambda name: False)
    assert [file.title for file in baselines._files(of(64))] == small
    smaller = [file.title for file in baselines._files(of(128))][len(small) :]
    assert smaller[0] == "edge-only JPEG 90 px q=20"
    assert smaller[-1] == "edge-only WebP 64 px q=90"


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


def test_one_trained_network_reports_a_row_for_each_rate(run, tmp_path, caplog):
    knobs = recipes.tiny("entropic_student") | {"rates": 2}
    source = Source("entropic_student", knobs)
    recipe = source.build()
    training.train(recipe, tmp_path, source, reuse=run_folder.teacher_of(run[0]))
    test = run_folder.dataset_of(recipe, "test").take(np.arange(20))
    rows = rate_runs.student_rows(recipe, tmp_path, test)
    assert [row.method for row in rows] == ["Entropic Student, 2 rates"] * 2
    assert [row.setting for row in rows] == rate_runs.settings(recipe)
    assert {rate_runs.without_level(row.setting) for row in rows} == {recipe.setting}
    assert rows[1].payload_bytes[0] > rows[0].payload_bytes[0] > 0
    assert "differ" not in caplog.text  # decoded bytes answer as the net at the level
    loaded = loading.load(tmp_path)
    for level in (0, 1):
        data = loading.encode(loaded, test.images[0], level)
        assert frame.unpack(data).payload[0] == level
        assert loading.decode(loaded, data)["logits"].shape == (10,)


def test_points_of_a_sweep_that_no_setting_tells_apart_are_named(tmp_path, monkeypatch):
    line = report.Row(
        "Classifier", "", "reference", 0.5, 1, None, None, None, None, 0, 0
    )
    written = []
    monkeypatch.setattr(training, "train", lambda *_, **__: (None, None))
    monkeypatch.setattr(rate_runs, "student_row", lambda *_: line)
    monkeypatch.setattr(rate_runs, "conclude", lambda rows, *_: written.extend(rows))
    source = Source("classifier", recipes.tiny("classifier"))
    sweep.run(source, tmp_path, sweep="seed:0,1", baselines=False)
    assert [row.setting for row in written] == ["seed=0", "seed=1"]


def test_the_first_point_of_a_sweep_has_a_row_beside_its_baselines(
    tmp_path, monkeypatch
):
    own, png = (
        report.Row(name, "", "reference", 0.5, 1, None, None, None, None, 0, 0)
        for name in ("Classifier", "edge-only PNG")
    )
    written = []
    monkeypatch.setattr(training, "train", lambda *_, **__: (None, None))
    monkeypatch.setattr(rate_runs, "student_row", lambda *_: own)
    monkeypatch.setattr(run_folder, "restore", lambda *_: (None, {}))
    monkeypatch.setattr(baselines, "rows", lambda *_: [png])
    monkeypatch.setattr(rate_runs, "conclude", lambda rows, *_: written.extend(rows))
    source = Source("classifier", recipes.tiny("classifier"))
    sweep.run(source, tmp_path, sweep="seed:0,1")
    found = [(row.method, row.setting) for row in written]
    points = [("Classifier", "seed=0"), ("Classifier", "seed=1")]
    assert found == [("edge-only PNG", ""), *points]
    # Alone it has none: the whole net is the run itself.
    written.clear()
    sweep.run(source, tmp_path)
    assert [row.method for row in written] == ["edge-only PNG"]


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


def test_a_folder_of_nothing_is_named_in_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"recipe\.json") as caught:
        run_folder.recipe_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_needs_neither_data_nor_the_package_of_its_recipe(run, monkeypatch):
    """The teacher's too: both open from what they keep of their data."""
    workdir, _, recipe = run

    def gone(*_, **__):
        raise AssertionError("the data set was opened")

    monkeypatch.setattr(run_folder.sources, "load", gone)
    monkeypatch.setattr(common.pipeline, "opened", gone)
    common._measured.cache_clear()
    for folder, expected in ((workdir, recipe), (workdir / "teacher", recipe.teacher)):
        found = run_folder.recipe_of(folder)
        assert found == expected
        variables, codecs = run_folder.restore(found, folder)
        assert variables.params.keys() == set(expected.net.parts)
        assert len(codecs) == len(expected.net.splits)
    facts = run_folder.facts_of(workdir)
    assert facts.task == "classification" and len(facts.classes) == 10
    assert facts.shape == (28, 28, 1) and facts.dtype == "uint8"


def test_a_file_of_ones_own_is_kept_in_the_folder(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from sc_jax.recipes.classifier import classifier\n"
        "def mine(*, epochs: float = 0.01, **shared):\n"
        "    return classifier(epochs=epochs, **shared)\n"
    )
    source = Source(str(file), {"batch_size": 16})
    recipe = source.build()
    run_folder.claim(tmp_path / "run", source, recipe, None)
    file.unlink()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert run_folder.recipe_of(tmp_path / "moved") == recipe


def test_only_the_answers_of_a_reused_teacher_count(run, tmp_path):
    """Not how it was trained; another net is refused by its first field."""
    workdir, source, _ = run
    slower = dataclasses.replace(
        source, knobs=source.knobs | {"teacher_epochs": 0.02, "augment": "none"}
    )
    teacher = workdir / "teacher"
    assert run_folder.is_finished(teacher) and not run_folder.is_finished(tmp_path)
    other = run_folder.check_answers(slower.build().teacher, teacher)
    assert "data.augment is 'flip' there, 'none' here" in other
    wider = dataclasses.replace(source, knobs=source.knobs | {"backbone": "resnet20"})
    with pytest.raises(UsageError, match=r"the teacher in .* has another net \(net\."):
        training.train(wider.build(), tmp_path / "new", wider, reuse=teacher)
    assert not (tmp_path / "new").exists()


OWN = """
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.recipes.classifier import classifier


def net(*, classes: int):
    return cnn(classes=classes, width=4)


def mine(*, backbone: str = "cnn", **shared):
    return classifier(epochs=0.01, batch_size=16, backbone=backbone, **shared)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """(workdir, recipe) of mine.py, whose backbone stands in mine.py too; claimed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    source = Source("mine.py:mine", {"backbone": "mine.py:net"})
    recipe = source.build()
    run_folder.claim(tmp_path / "run", source, recipe, None)
    return tmp_path / "run", recipe


def test_a_file_that_is_recipe_and_backbone_is_found_again(own):
    assert run_folder.recipe_of(own[0]).net.names == own[1].net.names


@pytest.mark.parametrize("recipe", ["{}/mine.py:mine", "mine.py:mine"])
def test_a_file_under_two_names_is_copied_once(tmp_path, monkeypatch, recipe):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    source = Source(recipe.format(tmp_path), {"backbone": "./mine.py:net"})
    built = source.build()
    run_folder.claim(tmp_path / "run", source, built, None)
    (copied,) = (tmp_path / "run").rglob("*.py")
    (tmp_path / "mine.py").unlink()
    again = run_folder.recipe_of(tmp_path / "run")
    assert copied.name == "mine.py" and again == built
    assert again.backbone == "./mine.py:net"  # as it was trained, for its traces


def test_a_trace_is_known_by_the_files_as_the_run_named_them(own, monkeypatch):
    monkeypatch.setattr(run_folder, "finished_step", lambda recipe, workdir: 5)
    workdir, recipe = own
    again = run_folder.recipe_of(workdir)
    assert exit_runs.name_of(again, workdir) == exit_runs.name_of(recipe, workdir)
    assert again.backbone == "mine.py:net"


@pytest.fixture
def begun(run, tmp_path):
    """A copy of what `run` keeps of its recipe, and a folder as if it had a step."""
    for name in (".", "teacher"):
        (tmp_path / name / "checkpoints" / "2").mkdir(parents=True)
        shutil.copy(run[0] / name / run_folder.FILE, tmp_path / name)
    return tmp_path


def test_a_run_that_teaches_never_goes_on(run, begun):
    teacher = run[2].teacher
    last = teacher.phases[-1]
    phases = (*teacher.phases[:-1], dataclasses.replace(last, steps=last.steps + 1))
    longer = dataclasses.replace(teacher, phases=phases)
    assert run_folder.refuse(begun / "teacher", longer, None)
    with pytest.raises(UsageError, match=r"steps is .*give --teacher another"):
        run_folder.refuse(begun / "teacher", longer, None, teaches=True)


def test_a_begun_run_keeps_its_teacher(run, begun):
    recipe = run[2]
    assert not run_folder.refuse(begun, recipe, begun / "teacher")
    with pytest.raises(UsageError, match=r"is taught by .*give --teacher"):
        run_folder.refuse(begun, recipe, run[0] / "teacher")
    shutil.rmtree(begun / "teacher")  # moved elsewhere: it may be named again
    assert not run_folder.refuse(begun, recipe, run[0] / "teacher")


def test_a_begun_run_keeps_what_it_started_from(run, begun, tmp_path):
    recipe = run[2].teacher
    init, other = (run_folder.Init("a", digest) for digest in ("1", "2"))
    with pytest.raises(UsageError, match="was begun without, not from a"):
        run_folder.refuse(begun / "teacher", recipe, None, init)
    new = tmp_path / "new"
    run_folder.claim(new, None, recipe, None, init)
    assert run_folder.read_json(new / run_folder.FILE)["init"] == vars(init)
    assert not run_folder.refuse(new, recipe, None, init)
    with pytest.raises(UsageError, match="--init=a: give it"):
        run_folder.refuse(new, recipe, None)
    with pytest.raises(UsageError, match="leave out --init"):
        run_folder.refuse(new, recipe, None, other)
    (new / "checkpoints" / "2").mkdir(parents=True)
    assert not run_folder.refuse(new, recipe, None)


def test_evaluating_a_run_without_a_teacher_keeps_its_baselines(monkeypatch, tmp_path):
    recipe = recipes.build("classifier", recipes.tiny("classifier"))
    monkeypatch.setattr(run_folder, "recipe_of", lambda _: recipe)
    monkeypatch.setattr(run_folder, "check_same_classes", lambda *_: None)
    monkeypatch.setattr(run_folder, "restore", lambda *_: ("weights", {}))
    monkeypatch.setattr(baselines, "rows", lambda *_: ["teacher", "local-only"])
    written = []
    monkeypatch.setattr(rate_runs, "conclude", lambda rows, *_: written.extend(rows))
    evaluation.measure(tmp_path)
    assert written == ["teacher", "local-only"]


def test_other_data_is_known_by_the_facts_of_the_folder(run, images, monkeypatch):
    workdir, _, recipe = run
    small = dataclasses.replace(images, images=images.images[:, :20])
    fewer = dataclasses.replace(images, classes=images.classes[:9])
    monkeypatch.setattr(run_folder.sources, "load", lambda *_, **__: 1 / 0)
    run_folder.check_same_classes(recipe, images, workdir)
    assert run_folder.example_of(recipe, workdir).shape == (1, 28, 28, 1)
    known = run_folder.facts_of(workdir)
    teacher = run_folder.teacher_of(workdir)
    assert run_folder.check_answers(recipe.teacher, teacher, known) is None
    for other, line in ((small, r"\[28, 28, 1\] is not the \[20,"), (fewer, "10 cl")):
        with pytest.raises(UsageError, match=line):
            run_folder.check_same_classes(recipe, other, workdir)
