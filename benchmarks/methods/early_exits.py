"""Early-exit recipes side by side: trained, recorded, compared at shares of cost.

  python -m benchmarks.methods.early_exits --workdir=runs/exits --seeds=0,1,2
  python -m benchmarks.methods.early_exits --workdir=runs/cifar \\
      --knobs=data=folder:TRAIN.zip,TEST.zip --knobs=augment=crop_flip \\
      --recipes=msdnet,imta,phuong

Each recipe trains as launch.train would, with `--knobs` where it has them; recipes with
the same teacher share it, or take the finished run of --teacher. Thresholds are solved
on the validation split, the results are of the test split. Writes exit_methods.json
after every run; the same command resumes, and finished runs are only read.
"""

import json
import re
from pathlib import Path

import jax
from absl import flags

from benchmarks.methods import exit_risk
from benchmarks.origin import origin
from launch import cli
from sc_jax import recipes, spec
from sc_jax.evaluate import budgets
from sc_jax.evaluate.reports import exit_report, report
from sc_jax.runs import exit_runs, run_folder, training
from sc_jax.train import devices
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import digest

WORKDIR = flags.DEFINE_string("workdir", None, "folder of all runs")
RECIPES = flags.DEFINE_multi_string(
    "recipes", [], "names, or NAME:knob=value,... (default: all that have exits)"
)
KNOBS = flags.DEFINE_multi_string("knobs", [], "knob=value for every recipe")
TEACHER = flags.DEFINE_string(
    "teacher", None, "finished run that teaches all that have a teacher"
)
SEEDS = flags.DEFINE_list("seeds", ["0"], "one run of each recipe a seed")
RESPLITS = flags.DEFINE_integer("resplits", 100, "of the risk control, 0 for none", 0)


def specs() -> list[str]:
    """The recipes as texts: one flag may hold several plain names."""
    texts: list[str] = []
    for text in RECIPES.value:
        texts += [text] if ":" in text else text.split(",")
    if texts:
        return texts
    built = (
        (name, recipes.build(name, recipes.tiny(name))) for name in recipes.RECIPES
    )
    return [name for name, recipe in built if exit_runs.leaves_early(recipe.net)]


def source(text: str, seed: int) -> run_folder.Source:
    """A recipe spec with the common knobs that it has."""
    name, knobs = spec.parse(text, "recipe")
    common: dict = {"seed": seed}
    for pair in KNOBS.value:
        knob, equals, value = pair.partition("=")
        if not equals:
            raise cli.UsageError(f"--knobs takes knob=value, got {pair!r}")
        common[knob] = spec.literal(value)
    known = recipes.knobs_of(name)
    return run_folder.Source(
        name, {k: v for k, v in common.items() if k in known} | knobs
    )


def teacher_folder(folder: Path, recipe: Recipe) -> Path | None:
    """One folder for all recipes that learn from the same teacher."""
    if recipe.teacher is None:
        return None
    words = ["teacher", recipe.teacher.name, recipe.teacher.backbone]
    return folder / "_".join([*words, digest(recipe.teacher)])


def measured(text: str, seed: int, folder: Path) -> dict:
    """One run: trained or read, recorded, evaluated."""
    asked_for = source(text, seed)
    recipe = asked_for.build()
    run = folder / re.sub("[:,/]", "_", text)
    exit_runs.check(recipe)
    if TEACHER.value and recipe.teacher is not None:
        taught = {"reuse": Path(TEACHER.value)}
    else:
        taught = {"teacher_dir": teacher_folder(folder, recipe)}
    training.train(recipe, run, asked_for, **taught)
    fitted, test = (
        exit_runs.recorded(recipe, run, run_folder.dataset_of(recipe, split))
        for split in exit_runs.SPLITS
    )
    evaluation = budgets.report(fitted, test, policy=recipe.policy)
    print(f"\n{text}, seed {seed}")
    print(exit_report.table(exit_report.rows(evaluation), evaluation.exits))
    plain = budgets.report(fitted, test)
    row = {
        "spec": text,
        "recipe": recipe.name,
        "title": recipe.title,
        "setting": recipe.setting,
        "backbone": recipe.backbone,
        "seed": seed,
        "epochs": {p.name: p.steps for p in recipe.phases},
        "teacher_steps": recipe.teacher.steps if recipe.teacher else 0,
        "max_probability": [
            point and exit_report.entry(point) for point in plain.quarters
        ],
        **exit_report.document(evaluation),
    }
    if RESPLITS.value:
        row["resplits"] = exit_risk.resplit(fitted, test, RESPLITS.value)
    return row


def main(_):
    if WORKDIR.value is None:
        raise cli.UsageError("give --workdir, the folder of all runs")
    devices.start(multihost=False)
    folder = Path(WORKDIR.value)
    texts, seeds = specs(), [int(seed) for seed in SEEDS.value]
    for text in texts:  # every mistake shows before training
        source(text, seeds[0]).build()
    first = source(texts[0], seeds[0]).build()
    document = {
        **origin(),
        "data": first.data.name,
        "machine": report.machine() | {"backend": jax.default_backend()},
        "rows": [],
    }
    file = folder / "exit_methods.json"
    if file.exists():  # what other calls measured stays
        document["rows"] = json.loads(file.read_text())["rows"]
    for seed in seeds:
        for text in texts:
            row = measured(text, seed, folder / f"seed={seed}")
            key = (text, seed)
            others = [r for r in document["rows"] if (r["spec"], r["seed"]) != key]
            document["rows"] = [*others, row]
            with report.draft(file) as path:
                path.write_text(json.dumps(document, indent=1, default=report.plain))


if __name__ == "__main__":
    cli.start(main)
