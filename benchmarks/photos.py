"""Trains heads for photographs on a CPU: small crops, a public teacher, real answers.

  python -m benchmarks.photos --weights=mobilenet_v2.pth --workdir=runs/photos \\
      --data=indexed:1000:photos.zip --pairs=fp,patch --betas=1.5e-5

The teacher is torchvision's MobileNetV2 as published (no training). Each student's
encoder, prior and decoder learn its features (stage 1 of the Entropic Student, hints at
the cut and all later groups) on crops of --train_size; both are convolutional, so the
same weights then run at --image_size. The tail stays the teacher's. Writes a finished
run for launch.export under WORKDIR/PAIR/beta=BETA, and a report beside the classical
codecs in WORKDIR. Stopped runs go on when the same command is given again.
"""

import sys
from pathlib import Path

from absl import flags

from launch import cli
from sc_jax import experiment
from sc_jax.codec import codecs
from sc_jax.compressors.freeze import freeze_all
from sc_jax.config import Recipe, describe
from sc_jax.nets.run import Variables
from sc_jax.train import devices
from sc_jax.train.checkpoint import Checkpoints

WEIGHTS = flags.DEFINE_string("weights", None, "torchvision's mobilenet_v2 checkpoint")
DATA = flags.DEFINE_string("data", None, "a source with the checkpoint's 1000 classes")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of all runs; resumed")
PAIRS = flags.DEFINE_list("pairs", ["fp", "patch"], "bottleneck pairs")
BETAS = flags.DEFINE_list("betas", ["1.5e-5"], "weights of the rate")
CHANNELS = flags.DEFINE_integer("channels", 24, "of the latent", 1)
EPOCHS = flags.DEFINE_float("epochs", 45.0, "of stage 1")
RAMP = flags.DEFINE_float("beta_ramp", 0.3, "share of stage 1 until beta is whole")
RATE = flags.DEFINE_float("learning_rate", 2e-3, "of stage 1")
BATCH = flags.DEFINE_integer("batch_size", 8, "of stage 1", 1)
TRAIN_SIZE = flags.DEFINE_integer("train_size", 112, "side of training crops", 32)
SIZE = flags.DEFINE_integer("image_size", 224, "side of test images", 32)
SEED = flags.DEFINE_integer("seed", 0, "of weights and crops")


def source(pair: str, beta: str, size: int) -> experiment.Source:
    """How launch.train would be asked for one student, on images of side `size`."""
    knobs = {
        "backbone": "mobilenetv2",
        "data": DATA.value,
        "pretrained": WEIGHTS.value,
        "teacher_epochs": 0,
        "image_size": size,
        "batch_size": BATCH.value,
        "augment": "resized_crop",
        "pair": pair,
        "channels": CHANNELS.value,
        "beta": float(beta),
        "beta_ramp": RAMP.value,
        "stage1_epochs": EPOCHS.value,
        "stage1_rate": RATE.value,
        "stage2_epochs": 0,
        "seed": SEED.value,
    }
    return experiment.Source("entropic_student", knobs)


def enlarged(small: Variables, asked: experiment.Source, folder: Path) -> Recipe:
    """Writes a finished run at the test size with the weights of a smaller one's."""
    recipe = asked.build()
    example = experiment.example_of(recipe)
    if Checkpoints(folder / "checkpoints").latest() is None:
        frozen = freeze_all(recipe.net, small, example)
        tables = {split: codecs.to_arrays(codec) for split, codec in frozen.items()}
        experiment.claim(folder, asked, recipe, None)
        checkpoints = Checkpoints(folder / "checkpoints")
        meta = {"phase": len(recipe.phases), "recipe": describe(recipe)}
        checkpoints.save(recipe.steps, small, meta, tables)
        checkpoints.wait()
        checkpoints.close()
    return recipe


def main(_):
    if not (WEIGHTS.value and DATA.value and WORKDIR.value):
        raise cli.UsageError("give --weights, --data and --workdir (see --help)")
    devices.start(multihost=False)
    workdir = Path(WORKDIR.value)
    teacher = workdir / f"teacher_{TRAIN_SIZE.value}"
    first = source(PAIRS.value[0], BETAS.value[0], SIZE.value).build()
    test, rows = experiment.dataset_of(first, "test"), []
    for pair in PAIRS.value:
        for beta in BETAS.value:
            asked = source(pair, beta, TRAIN_SIZE.value)
            name = f"{pair}/beta={beta}"
            folder = workdir / f"{TRAIN_SIZE.value}" / name
            small, taught = experiment.train(
                asked.build(), folder, asked, teacher_dir=teacher, log_every=25
            )
            assert taught is not None and first.teacher is not None
            large = source(pair, beta, SIZE.value)
            recipe = enlarged(small, large, workdir / name)
            if not rows:
                rows = experiment.baselines(first.teacher, taught, test)
            rows.append(experiment.student_row(recipe, workdir / name, test))
            print(f"{name}: {100 * rows[-1].top1:.2f} %, {rows[-1].payload_bytes}")
    command = "python -m benchmarks.photos " + " ".join(sys.argv[1:])
    experiment.conclude(rows, first, workdir, test, command)


if __name__ == "__main__":
    cli.start(main)
