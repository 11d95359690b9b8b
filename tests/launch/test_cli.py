"""What a user types: recipes, knobs, overrides, and mistakes in one line."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from launch import cli
from sc_jax import recipes, spec
from sc_jax.errors import UsageError
from sc_jax.runs import catalogue
from sc_jax.train.serialisation import override

BINARIES = ("train", "evaluate", "export", "device", "serve", "prepare_data", "plan")


def launch(*arguments):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("binary", BINARIES)
def test_a_binary_is_flags_with_help_and_one_call(binary):
    text = (Path(cli.__file__).parent / f"{binary}.py").read_text()
    assert text.count("\n") <= 60
    calls = [c for c in ast.walk(ast.parse(text)) if isinstance(c, ast.Call)]
    defined = [c for c in calls if ast.unparse(c.func).startswith("flags.DEFINE")]
    assert defined
    for call in defined:
        name, _, *rest = call.args
        about = rest[-1 if "enum" in ast.unparse(call.func) else 0]
        assert len(ast.unparse(about)) > 8, ast.unparse(name)


def test_help_is_short():
    done = launch("launch.train", "--help")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.count("\n") <= 40
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "--list " in done.stdout and "--list=recipes" in done.stdout
    assert "(25)" in done.stdout and "--[no]baselines" in done.stdout


@pytest.mark.parametrize("kind", catalogue.LISTS)
def test_every_list_has_a_line_on_every_name(kind):
    lines = catalogue.show(kind).splitlines()
    for line, name in zip(lines, catalogue.LISTS[kind], strict=False):
        assert line.split()[0] == name and len(line.split()) > 2, line
    assert catalogue.show(f"{kind}:{name}").strip()


def test_a_page_of_a_policy_in_a_file_tells_what_it_says_of_itself(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from sc_jax.exits.policies import Threshold\n\n"
        "@dataclass(frozen=True)\nclass Mine(Threshold):\n"
        '    """One of my own."""\n'
    )
    page = catalogue.show(f"policies:{tmp_path}/mine.py:Mine")
    assert page.startswith("One of my own.") and "budget=None" in page


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in catalogue.KNOBS for name in catalogue.LISTS[kind]],
)
def test_a_page_tells_every_knob_with_default_range_and_help(kind, name):
    page = catalogue.show(f"{kind}:{name}").split("Knobs, ")[1].splitlines()[1:]
    every = catalogue.KNOBS[kind](name)
    for line, (knob, known) in zip(page, every.items(), strict=True):
        start = f"{knob}={known.default}"
        assert known.knob.help, f"{name}: {knob} has no line of help"
        assert line.split(None, 1)[0] == start and known.knob.help in line
        spec.check_value(name, known, known.default)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("phases.stage3.steps=5", "stage1"),
        ("data.batchsize=5", "batch_size"),
        ("data.batch_size=big", "not a int"),
        ("data", "path=value"),
    ],
)
def test_override_names_the_mistake(assignment, message):
    recipe = recipes.build("entropic_student", recipes.tiny("entropic_student"))
    with pytest.raises(UsageError, match=message) as caught:
        override(recipe, assignment)
    assert "\n" not in str(caught.value)


def test_override_changes_one_field_only():
    recipe = recipes.build("entropic_student", recipes.tiny("entropic_student"))
    changed = override(recipe, "phases.stage2.steps=7")
    assert changed.phases[1].steps == 7
    assert changed.phases[0] == recipe.phases[0]
    assert override(changed, f"phases.stage2.steps={recipe.phases[1].steps}") == recipe


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["launch.train", "--recipe=ghmd", "--workdir={tmp}/new"], "ghnd"),
        (
            ["launch.train", "--recipe=ghnd:data=nothing", "--workdir={tmp}/new"],
            "folder",
        ),
        (["launch.train", "--recip=ghnd"], "recipe"),
        (["launch.device", "--limit=-1"], "limit"),
        (["launch.evaluate", "--workdir={tmp}/none"], "recipe.json"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, names, tmp_path):
    done = launch(*(a.format(tmp=tmp_path) for a in arguments))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert names in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_command_with_any_name_of_a_file_fits_a_report(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--recipe=x:data=folder:p\udce9"])
    assert cli.command().endswith(r"--recipe=x:data=folder:p\xe9")
    cli.command().encode("utf-8")
