"""The survey's training methods compared: equal steps, one bottleneck, one teacher.

  python -m benchmarks.methods.training --workdir=runs/cifar \\
      --data=folder:TRAIN.zip,TEST.zip --epochs=3 --teacher_epochs=8 \\
      --betas=0.0001,0.0003,0.001

Cross-entropy, knowledge distillation, HND and GHND send the same 4-bit latent; Entropic
Students (one a beta) send what their prior needs. All use the FP bottleneck, the same
number of steps, one learning rate and one teacher, hints are means over a feature, so
only the training differs. Writes a report (accuracy against bytes) a seed and
methods.json; the same command resumes.
"""

import dataclasses
import json
from pathlib import Path

from absl import flags

from benchmarks.origin import origin
from launch import cli
from sc_jax import recipes
from sc_jax.runs import baselines, rate_runs, run_folder, training
from sc_jax.train import devices

DATA = flags.DEFINE_string("data", "fashion_mnist_12k", "as --recipe takes it")
BACKBONE = flags.DEFINE_string("backbone", "cnn", "name in sc_jax.nets.backbones")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of all runs")
SEEDS = flags.DEFINE_list("seeds", ["0"], "one report a seed")
EPOCHS = flags.DEFINE_float("epochs", 6.0, "of every student, all its phases together")
TEACHER_EPOCHS = flags.DEFINE_float("teacher_epochs", 12.0, "of the teacher")
BETAS = flags.DEFINE_list("betas", ["0.0001", "0.0003", "0.001"], "one student each")
AUGMENT = flags.DEFINE_string("augment", "crop_flip", "as in Data")
CHANNELS = flags.DEFINE_integer("channels", 6, "of the quantised latent", 1)
BITS = flags.DEFINE_integer("bits", 4, "a value of the quantised latent", 1, 16)
STUDENT_CHANNELS = flags.DEFINE_integer("student_channels", 12, "of the prior", 1)
COSINE = "phases.0.optimiser.schedule=cosine"
BATCH = flags.DEFINE_integer("batch_size", 64, "examples a step, teacher too", 1)
LEARNING_RATE = flags.DEFINE_float("learning_rate", 2e-3, "of Adam, every method")
METHODS = flags.DEFINE_list(
    "methods",
    ["cross_entropy", "knowledge_distillation", "hnd", "ghnd", "bottlefit"],
    "recipes with the quantised latent",
)


def sources(seed: int) -> list[run_folder.Source]:
    """Every run of one seed: the quantised methods, then the betas."""
    shared = {
        "data": DATA.value,
        "backbone": BACKBONE.value,
        "teacher_epochs": TEACHER_EPOCHS.value,
        "augment": AUGMENT.value,
        "batch_size": BATCH.value,
        "seed": seed,
    }
    epochs = EPOCHS.value
    halves = {"stage1_epochs": 0.6 * epochs, "stage2_epochs": 0.4 * epochs}
    rate = LEARNING_RATE.value
    fixed = {"pair": "fp", "channels": CHANNELS.value, "bits": BITS.value}
    found = []
    for name in METHODS.value:
        own = {"learning_rate": rate, **fixed}
        own |= halves if name == "bottlefit" else {"epochs": epochs}
        # Sums over features would weigh them by size; one rate must suit all methods.
        own |= {"over": "mean"} if "over" in recipes.knobs_of(name) else {}
        found.append(run_folder.Source(name, shared | own, (COSINE,)))
    for beta in map(float, BETAS.value):
        own = {"beta": beta, "channels": STUDENT_CHANNELS.value, **halves}
        own |= {"stage1_rate": rate, "stage2_rate": rate, "over": "mean"}
        found.append(run_folder.Source("entropic_student", shared | own, (COSINE,)))
    return found


def main(_):
    if WORKDIR.value is None:
        raise cli.UsageError("give --workdir, the folder of all runs")
    devices.start(multihost=False)
    command = origin()["command"]
    collected = {}
    for seed in map(int, SEEDS.value):
        folder, rows = Path(WORKDIR.value) / f"seed={seed}", []
        for source in sources(seed):
            recipe = source.build()
            test = run_folder.dataset_of(recipe, "test")
            run = folder / f"{source.recipe} {recipe.setting}".replace(" ", "_")
            _, teacher = training.train(
                recipe, run, source, teacher_dir=folder / "teacher"
            )
            if not rows and recipe.teacher is not None and teacher is not None:
                rows = baselines.rows(recipe.teacher, teacher, test, folder / "teacher")
            rows.append(rate_runs.student_row(recipe, run, test))
            rate_runs.conclude(rows, recipe, folder, test, command)
        collected[seed] = [dataclasses.asdict(row) for row in rows]
    out = Path(WORKDIR.value) / "methods.json"
    out.write_text(json.dumps({"command": command, "seeds": collected}, indent=1))


if __name__ == "__main__":
    cli.start(main)
