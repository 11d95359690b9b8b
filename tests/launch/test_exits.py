"""Nets with exits through the binaries: recorded once, reported, decided again."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from sc_jax import foreign, plugins
from sc_jax.errors import UsageError
from sc_jax.evaluate import budgets
from sc_jax.evaluate.reports import report
from sc_jax.exits.policies import from_json
from sc_jax.runs import exit_runs, run_folder
from sc_jax.traces import record, trace

RECIPE = '''
from dataclasses import replace

from sc_jax.compressors import Affine
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import Exit, Net, cut_at
from sc_jax.recipes.classifier import classifier


def leaving(*, cut: str = "", policy: str = "", **shared):
    """A small net with exits on the stem and layer1."""
    base = classifier(epochs=0.05, batch_size=16, **shared)
    stages = (base.net.stages[0], *cnn(classes=10, width=4))
    exits = tuple(Exit(name, PooledLinear(10)) for name in ("stem", "layer1"))
    net = Net(stages, exits)
    terms = tuple(Term(CrossEntropy(name), name=name) for name in net.exit_names)
    phase = replace(base.phases[0], terms=terms)
    net = cut_at(net, cut, Affine(8)) if cut else net
    return replace(
        base, name="leaving", title="Leaving", net=net, phases=(phase,), policy=policy
    )
'''
EXITS = ("exit@stem", "exit@layer1", "final")
FILES = ("exit_report.json", "exit_report.md", "exits.png")
TRACES = ("trace_validation.npz", "trace_test.npz")


def launch(*arguments):
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "leaving.py"
    path.write_text(RECIPE)
    plugins.trust(path)
    return path


@pytest.fixture(scope="session")
def run(file, tmp_path_factory):
    """(workdir, command, what was printed) of a net that is split behind its stem."""
    workdir = tmp_path_factory.mktemp("exits") / "run"
    knobs = "cut=stem,policy=threshold:score=entropy"
    command = "launch.train", f"--recipe={file}:{knobs}", f"--workdir={workdir}"
    done = launch(*command)
    assert done.returncode == 0, done.stderr
    return workdir, command, done


def content(folder, name="exit_report.json"):
    return foreign.read_json(folder / name, "report")


def test_training_ends_in_traces_and_both_reports(run):
    workdir, _, done = run
    for name in (*FILES, *TRACES, "report.json", "rate_accuracy.png"):
        assert (workdir / name).stat().st_size > 0, name
    found = content(workdir)
    assert tuple(found["exits"]) == EXITS and found["score"] == "entropy"
    facts = found["facts"]
    assert facts["split"] == "test" and facts["thresholds solved on"] == "validation"
    assert facts["command"].startswith("python -m launch.train --recipe=")
    assert {"date", "seed", "machine", "data", "phases"} <= facts.keys()
    assert "solved on" in done.stdout and "Exit classifiers' share" in done.stdout


def test_the_last_exit_is_the_row_of_the_rate_report(run):
    (row,) = report.read(run[0])
    *_, last = content(run[0])["anytime"]
    assert (last["accuracy"], last["examples"]) == (row.quality, row.examples)
    assert last["sent_bytes"] == row.payload_bytes[0] > 0
    first = content(run[0])["anytime"][0]
    assert first["sent_bytes"] == 0 and first["name"] == "exit@stem"


def test_the_methods_own_policy_is_judged_too(run):
    own = content(run[0])["own"]
    assert own["solved_on"]["split"] == "validation" and own["split"] == "test"
    assert own["policy"]["scoring"]["score"] == "entropy"


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        ("treshold", "did you mean 'threshold'"),
        ("threshold:thresholds=(0.9,)", "1 instead of 2"),
        ("patience:patience=2", "nobody would leave"),
        ("threshold:score=confidence", "confidence"),
    ],
)
def test_a_policy_that_does_not_fit_is_told_before_training(file, policy, line):
    recipe = run_folder.Source(str(file), {"policy": policy}).build()
    with pytest.raises(UsageError, match=line):
        exit_runs.check(recipe)


def test_a_trace_is_known_by_everything_that_made_its_net(file, monkeypatch, tmp_path):
    monkeypatch.setattr(run_folder, "finished_step", lambda recipe, workdir: 5)
    knobs = ({}, {}, {"cut": "stem"}, {"augment": "none"})
    made = [run_folder.Source(str(file), each).build() for each in knobs]
    names = [exit_runs.name_of(recipe, tmp_path) for recipe in made]
    assert names[0] == names[1] and len(set(names)) == 3


def test_a_finished_run_is_neither_trained_nor_recorded_again(run):
    workdir, command, _ = run
    before = [(workdir / name).stat().st_mtime_ns for name in TRACES]
    report_before = (workdir / "exit_report.json").stat().st_mtime_ns
    done = launch(*command)
    assert done.returncode == 0, done.stderr
    assert [(workdir / name).stat().st_mtime_ns for name in TRACES] == before
    assert (workdir / "exit_report.json").stat().st_mtime_ns > report_before
    assert "recording again" not in done.stderr


def test_traces_that_do_not_fit_are_recorded_again(run, caplog):
    recipe = run_folder.recipe_of(run[0])
    held = run_folder.dataset_of(recipe, "validation")
    path = run[0] / TRACES[0]
    good = record.load(path)
    other = trace.subset(good.trace, np.arange(50))
    record.save(good._replace(trace=other), path)
    found = exit_runs.recorded(recipe, run[0], held)
    assert np.array_equal(found.trace.answers, good.trace.answers)
    assert np.array_equal(record.load(path).payload_bytes, good.payload_bytes)


def test_evaluate_decides_again_as_the_policy_itself_does(file, run, tmp_path):
    workdir = run[0]
    done = launch(
        "launch.evaluate", f"--workdir={workdir}", f"--out={tmp_path}",
        "--policy=threshold:score=margin", "--budget=0.6", f"--recipe={file}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, _, line, whole = done.stdout.splitlines()
    assert "validation" in line and " test " in line and "whole network" in whole
    decision = content(tmp_path, "decision.json")["decision"]
    found = record.load(workdir / "trace_test.npz")
    policy = from_json(json.dumps(decision["policy"]))
    assert policy.scoring.score == "margin"
    taken = budgets.taken(policy, found.trace)
    direct = trace.outcome(found.trace, taken)
    assert decision["accuracy"] == direct.accuracy
    assert tuple(decision["exit_shares"]) == direct.exit_shares
    assert decision["sent_bytes"] == record.sent_bytes(found, taken).mean()
    assert decision["solved_on"]["cost_share"] <= 0.6 + 1e-9
    assert [p.name for p in tmp_path.iterdir()] == ["decision.json"]


def test_a_net_without_a_split_gets_the_report_of_exits_alone(file, tmp_path):
    workdir, out = tmp_path / "run", tmp_path / "again"
    done = launch("launch.train", f"--recipe={file}", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert not (workdir / "report.json").exists()
    assert {point["sent_bytes"] for point in content(workdir)["budgeted"]} == {None}
    again = f"--workdir={workdir}", f"--out={out}", f"--recipe={file}"
    done = launch("launch.evaluate", *again)
    assert done.returncode == 0, done.stderr
    again, first = content(out), content(workdir)
    assert again.pop("facts")["command"] != first.pop("facts")["command"]
    assert again == first
    assert sorted(p.name for p in out.iterdir()) == sorted((*FILES, TRACES[1]))


def test_mistakes_are_one_line_and_exit_code_2(file, run, tmp_path):
    asked = "launch.evaluate", f"--workdir={run[0]}", f"--recipe={file}"
    for arguments, names in [
        (("--policy=treshold",), "threshold"),
        (("--budget=0.5", "--data=fashion_mnist", f"--out={tmp_path}"), "--data"),
    ]:
        done = launch(*asked, *arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
        assert names in done.stderr


def test_what_cannot_be_decided_is_told_in_one_line(run):
    workdir, recipe = run[0], run_folder.recipe_of(run[0])
    plain = replace(recipe, net=replace(recipe.net, exits=()))
    for which, split, budget, words in [
        (recipe, "test", 0.0001, "the first costs"),
        (recipe, "train", 0.5, "validation, test"),
        (plain, "test", 0.5, "no early exits"),
        (replace(recipe, seed=9), "test", 0.5, "seed=0 .*seed=9"),
    ]:
        with pytest.raises(UsageError, match=words) as caught:
            exit_runs.decide(which, workdir, split, "threshold", budget)
        assert "\n" not in str(caught.value)


def test_a_set_without_validation_examples_is_refused_before_training(run, monkeypatch):
    recipe = run_folder.recipe_of(run[0])
    none = run_folder.dataset_of(recipe, "validation").take(np.arange(0))
    monkeypatch.setattr(run_folder, "dataset_of", lambda *_: none)
    with pytest.raises(UsageError, match="no validation examples"):
        exit_runs.check(recipe)
    exit_runs.check(replace(recipe, net=replace(recipe.net, exits=())))
