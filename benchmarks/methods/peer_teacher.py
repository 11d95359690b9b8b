"""Trains a CIFAR ResNet in PyTorch, as a teacher for our recipes.

    python -m benchmarks.methods.peer_teacher --peer_python=/path/to/venv/bin/python \\
        --recipe=classifier:backbone=resnet20,data=folder:TRAIN.zip,TEST.zip,\\
            augment=crop_flip,batch_size=128,epochs=30 --out=resnet20.pth

Data (without the validation tenth), first weights, order of the images, batch size,
augmentation, seed and whole epochs are the recipe's; the rates are one cycle of SGD
(peers/torch_teacher.py). The same command goes on after the last whole epoch. Any
recipe takes the file by pretrained=resnet20.pth,teacher_epochs=0. Facts of the training
are printed, and written beside the file as JSON.
"""

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
from absl import flags

from benchmarks.methods import peer_case, teacher_files
from benchmarks.origin import origin
from launch import cli
from sc_jax import spec
from sc_jax.evaluate.reports.report import machine
from sc_jax.nets.net import FINAL
from sc_jax.nets.run import init, run
from sc_jax.recipes import common
from sc_jax.runs import run_folder

RECIPE = flags.DEFINE_string("recipe", None, "classifier:backbone=resnet20,...")
PEER_PYTHON = flags.DEFINE_string("peer_python", None, "python of the peer")
RATE = flags.DEFINE_float("learning_rate", 0.3, "at the peak of the cycle", 0.0)
WARMUP = flags.DEFINE_float("warmup", 0.2, "share of the steps up to it", 0.01, 0.9)
DECAY = flags.DEFINE_float("weight_decay", 5e-4, "of all parameters", 0.0)
SMOOTHING = flags.DEFINE_float("smoothing", 0.0, "of the labels", 0.0, 0.5)
THREADS = flags.DEFINE_integer("threads", os.cpu_count() or 1, "of the peer", 1)
LIMIT = flags.DEFINE_integer("limit_train", 0, "images, for tries; 0: all", 0)
OUT = flags.DEFINE_string("out", None, "the checkpoint to write, .pth")

PEER = Path(__file__).parents[1] / "peers" / "torch_teacher.py"


def case(source: run_folder.Source) -> dict:
    """What the peer reads, by name; UsageError where it does not fit."""
    recipe = source.build()
    if recipe.name != "classifier" or recipe.backbone not in peer_case.BACKBONES:
        known = ", ".join(peer_case.BACKBONES)
        raise cli.UsageError(f"--recipe: a classifier with backbone= one of {known}")
    net = common.published(recipe.backbone, recipe.data)
    parts = {
        name: run_folder.dataset_of(recipe, name)
        for name in ("train", "validation", "test")
    }
    train = parts["train"]
    if not (train.in_memory and train.shape[-1] == 3):
        raise cli.UsageError(f"{train.name}: colour images of one size are needed")
    epochs = round(recipe.steps * recipe.data.batch_size / len(train))
    if LIMIT.value:
        train = train.take(np.arange(0, len(train), max(1, len(train) // LIMIT.value)))
    variables = init(net, jax.random.key(recipe.seed), np.stack([train.image(0)]))
    test = parts["test"]
    shown = np.stack([test.image(i) for i in range(peer_case.CHECKED)])
    normalise = net.stages[0].module
    settings = {
        "learning_rate": RATE.value,
        "warmup": WARMUP.value,
        "weight_decay": DECAY.value,
        "smoothing": SMOOTHING.value,
        "epochs": epochs,
        "batch_size": recipe.data.batch_size,
        "augment": recipe.data.augment,
        "seed": recipe.seed,
        "mean": list(normalise.mean),
        "std": list(normalise.std),
        "threads": THREADS.value,
    }
    return {
        **peer_case.flat(variables),
        "logits": np.asarray(run(net, variables, shown)[0].predictions[FINAL]),
        "images": train.images,
        "labels": train.labels,
        "held_images": parts["validation"].images,
        "held_labels": parts["validation"].labels,
        "test_images": parts["test"].images,
        "test_labels": parts["test"].labels,
        "settings": np.array(json.dumps(settings)),
    }


def main(_):
    if not RECIPE.value or not PEER_PYTHON.value or not OUT.value:
        raise cli.UsageError("give --recipe, --peer_python and --out (--help)")
    arrays = case(run_folder.Source(*spec.parse(RECIPE.value, "recipe")))
    settings = json.loads(str(arrays["settings"]))
    # Threads change no answer that a training goes on with.
    own = {name: each for name, each in settings.items() if name != "threads"}
    own["limit_train"] = LIMIT.value
    file, facts = teacher_files.places(OUT.value, own | {"recipe": RECIPE.value})
    env = {**os.environ, "OMP_NUM_THREADS": str(THREADS.value)}
    env.pop("PYTHONPATH", None)  # it leads to packages of this interpreter
    with TemporaryDirectory() as folder:
        np.savez(Path(folder) / "case.npz", **arrays)
        command = [PEER_PYTHON.value, str(PEER), f"{folder}/case.npz", str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        raise cli.UsageError(
            f"the peer ended with code {done.returncode} (see above): does "
            "--peer_python have torch, compressai and sc2bench?"
        )
    found = {**origin(), "machine": machine(), "recipe": RECIPE.value}
    found |= {"settings": settings, **json.loads(done.stdout)}
    facts.write_text(json.dumps(found, indent=1) + "\n")
    # Or the next training under this name would begin at its end.
    for suffix in (".partial", ".partial.json"):
        file.with_suffix(suffix).unlink(missing_ok=True)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    cli.start(main)
