"""Training speed: the Entropic Student's first stage, the library's own jitted step.

    python -m benchmarks.speed.train_throughput --side=224 --batch=16 \\
        --out=train_224.json
    python -m benchmarks.speed.train_throughput --side=32 --batch=128 \\
        --torch_python=/path/to/venv/bin/python

Frozen ResNet-50 teacher to layer4, encoder, noise, prior, decoder, frozen layer2 to
layer4, four summed hints, bits, Adam, on random images and weights. With
--torch_python the PyTorch peer (benchmarks/peers) runs too, before and after, on one
thread: start under `taskset -c 0` to give both one core, and compare CPU seconds. On a
GPU give --peak_tflops of the compute type.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from sc_jax.data import sources
from sc_jax.data.dataset import Dataset
from sc_jax.nets.run import init
from sc_jax.recipes import RECIPES
from sc_jax.traces.cost import macs
from sc_jax.train import devices
from sc_jax.train.loop import first_variables
from sc_jax.train.recipe import Recipe
from sc_jax.train.step import begin, divide, make_step

_SIDE = flags.DEFINE_integer("side", 224, "pixels of the square images")
_BATCH = flags.DEFINE_integer("batch", 16, "examples a step")
_STEPS = flags.DEFINE_integer("steps", 3, "timed steps, after one untimed")
_BACKBONE = flags.DEFINE_string("backbone", "resnet50", "teacher and tail")
_CHANNELS = flags.DEFINE_integer("channels", 24, "of the latent")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "compute type")
_SEED = flags.DEFINE_integer("seed", 0, "of weights, images and noise")
_PEAK = flags.DEFINE_float("peak_tflops", None, "else a matrix product is timed here")
_TORCH = flags.DEFINE_string("torch_python", None, "an interpreter that has torch")
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")
_CASE = (_SIDE, _BATCH, _STEPS, _BACKBONE, _CHANNELS, _DTYPE, _SEED)

Times = list[tuple[float, float]]  # (wall, CPU) seconds of each step


def random_images(argument: str, part: str, data_dir: str | None) -> Dataset:
    """A source "random:SIDExCOUNT": uniform uint8 colour images of 1000 classes."""
    del data_dir
    side, count = map(int, argument.split("x"))
    draw = np.random.default_rng(_SEED.value)
    images = draw.integers(0, 256, (count, side, side, 3), np.uint8)
    classes = tuple(map(str, range(1000)))
    return Dataset("random", part, classes, images, np.zeros(count, np.int32))


def recipe_of(side: int, batch: int) -> Recipe:
    """The registered recipe on random images, first stage only."""
    # A source of this process alone: the recipe then loads like any other.
    sources.SOURCES["random"] = random_images
    recipe = RECIPES["entropic_student"](
        backbone=_BACKBONE.value,
        channels=_CHANNELS.value,
        data=f"random:{side}x{batch * 2}",
        augment="none",
        seed=_SEED.value,
    )
    data = replace(recipe.data, batch_size=batch)
    phase = replace(recipe.phases[0], steps=1000)
    return replace(recipe, data=data, phases=(phase,), dtype=_DTYPE.value)


def timed(once: Callable[[], object], rounds: int) -> Times:
    """Of each call, after a first that compiles."""
    jax.block_until_ready(once())
    times = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(once())
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def measure_step(side: int, batch: int, rounds: int) -> tuple[Times, int]:
    """Times of the step, and its multiply-accumulates."""
    recipe = recipe_of(side, batch)
    phase, teacher = recipe.phases[0], recipe.teacher
    images = random_images(f"{side}x{batch}", "train", None).images
    assert isinstance(images, np.ndarray)
    example, key = images[:1], jax.random.key(_SEED.value)
    assert teacher is not None
    teacher_variables = init(teacher.net, key, example)
    variables = first_variables(recipe, teacher_variables, example)
    _, cold = divide(recipe, phase, variables)
    batch_of = {"image": jnp.asarray(images), "label": jnp.zeros(batch, jnp.int32)}
    step = make_step(recipe, phase)
    # The step takes its state's buffers; grafted ones are the teacher's too.
    state = jax.tree.map(jnp.copy, begin(recipe, phase, variables))
    work = macs(step, state, cold, teacher_variables, batch_of, jnp.int32(0), key)
    count = 0

    def once():
        nonlocal state, count
        now = jnp.int32(count)
        state, metrics = step(
            state,
            cold,
            teacher_variables,
            batch_of,
            now,
            jax.random.fold_in(key, count),
        )
        count += 1
        return metrics

    return timed(once, rounds), work


def measure_peak(size: int) -> tuple[float, float]:
    """FLOP per wall and per CPU second of a square matrix product, best of ten."""
    a = jnp.ones((size, size), _DTYPE.value)
    product = jax.jit(lambda a: a @ a)
    times = timed(lambda: product(a), 10)
    return tuple(2 * size**3 / min(column) for column in zip(*times))


def measure_torch(side: int, batch: int, rounds: int) -> list[dict]:
    """Rows of the peer in both memory layouts, on one thread.

    Two threads on a shared machine wait for each other by spinning: seen to cost ten
    times the CPU seconds, which would flatter any comparison.
    """
    if not _TORCH.value:
        return []
    script = Path(__file__).parents[1] / "peers" / "torch_stage1.py"
    command = [_TORCH.value, str(script), f"--side={side}", f"--batch={batch}"]
    command += [f"--steps={rounds}", "--threads=1"]
    rows = []
    for layout in ([], ["--channels_last"]):
        done = subprocess.run([*command, *layout], capture_output=True, check=True)
        rows.append(json.loads(done.stdout))
    return rows


def main(argv):
    del argv
    devices.start(multihost=False)
    case = _SIDE.value, _BATCH.value, _STEPS.value
    peers = measure_torch(*case)
    peaks = [measure_peak(2048)]
    times, work = measure_step(*case)
    peaks.append(measure_peak(2048))
    per_wall, per_cpu = (max(column) for column in zip(*peaks))
    peers += measure_torch(*case)
    wall, cpu = (statistics.median(column) for column in zip(*times))
    batch, flop = _BATCH.value, 2 * work
    peak = _PEAK.value * 1e12 if _PEAK.value else per_wall
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {len(os.sched_getaffinity(0))} cores",
        "device": jax.devices()[0].device_kind,
        "versions": {n: importlib.metadata.version(n) for n in names},
        "flags": {f.name: f.value for f in _CASE},
        "gflop_per_example": flop / batch / 1e9,
        "wall_s_per_step": wall,
        "cpu_s_per_step": cpu,
        "examples_per_s": batch / wall,
        "examples_per_cpu_s": batch / cpu,
        "peak_gflop_per_s": peak / 1e9,
        "peak_share_wall": flop / wall / peak,
        "torch": peers,
    }
    if jax.default_backend() == "cpu":
        report["peak_share_cpu"] = flop / cpu / per_cpu
    if peers:
        best = min(row["cpu_s_per_step"] for row in peers)
        report["cpu_s_ratio_to_torch"] = cpu / best
    text = json.dumps(report, indent=1)
    print(text)
    if _OUT.value:
        Path(_OUT.value).write_text(text + "\n")


if __name__ == "__main__":
    app.run(main)
