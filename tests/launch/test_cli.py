"""What a user types: recipes, knobs, overrides, and mistakes in one line."""

import subprocess
import sys

import pytest

from launch import cli
from sc_jax import recipes
from sc_jax.errors import UsageError
from sc_jax.train.serialisation import override


def launch(*arguments):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_recipe_text_is_name_and_literal_knobs():
    text = "ghnd:channels=6,epochs=0.5,data=folder:a.zip,b.zip,backbone=cnn"
    name, knobs = cli.parse_recipe(text)
    assert name == "ghnd"
    assert knobs == {
        "channels": 6,
        "epochs": 0.5,
        "data": "folder:a.zip,b.zip",
        "backbone": "cnn",
    }
    assert cli.parse_recipe("hnd") == ("hnd", {})


def test_recipe_text_without_a_knob_name_is_refused():
    with pytest.raises(UsageError, match="name:knob=value"):
        cli.parse_recipe("hnd:3")


def test_help_lists_every_recipe_and_its_knobs():
    page = recipes.catalogue()
    for name in recipes.RECIPES:
        assert f"  {name}: " in page
        for knob, parameter in recipes.knobs_of(name).items():
            assert f"{knob}={parameter.default!r}" in page


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
        (["launch.evaluate", "--workdir={tmp}/none"], "recipe.json"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, names, tmp_path):
    done = launch(*(a.format(tmp=tmp_path) for a in arguments))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert names in done.stderr
    assert not (tmp_path / "new").exists()
