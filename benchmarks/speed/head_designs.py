"""Times the encoder's stems, activations and number formats at one image size.

  python -m benchmarks.speed.head_designs --runs=30 --out=runs/designs.json

Random weights: time and operations depend on the design alone; accuracy needs training
(--recipe=entropic_student:pair=patch). Every head is exported, compared with JAX, and
timed in turn with all others and a float32 matrix product in one process, on one
thread: compare the ratios. "share" is the head's rate over the product's.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one-core product

import json
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags

from benchmarks.origin import origin
from launch import cli
from sc_jax.compressors import FactorizedPrior
from sc_jax.compressors.splits import codecs_of
from sc_jax.data import sources
from sc_jax.data.dataset import centre_crop
from sc_jax.deploy.device.runtime import Runner
from sc_jax.deploy.export import convert, segments
from sc_jax.evaluate.reports.report import machine
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.nets.layers.blocks import Normalise
from sc_jax.nets.net import Net, SplitPoint, Stage
from sc_jax.nets.run import init, run
from sc_jax.traces.cost import macs

SIZE = flags.DEFINE_integer("image_size", 224, "side of the square images", 8)
CHANNELS = flags.DEFINE_integer("channels", 24, "of the latent", 1)
RUNS = flags.DEFINE_integer("runs", 30, "rounds, after three that do not count", 1)
IMAGES = flags.DEFINE_string("images", "fashion_mnist_12k", "a data source")
OUT = flags.DEFINE_string("out", None, "JSON file; default: printed only")
# pair, dtype, operations kept in float; the first is what ratios are to
DESIGNS = (
    ("fp", "float32", ()),
    ("fp", "int8_weights", ()),
    ("fp", "int8", ()),
    ("fp", "int8", ("DIV",)),
    ("fp_sigmoid", "float32", ()),
    ("fp_sigmoid", "int8", ()),
    ("fp_relu", "float32", ()),
    ("fp_relu", "int8", ()),
    ("space_to_depth_relu", "float32", ()),
    ("space_to_depth_relu", "int8", ()),
    ("depthwise", "float32", ()),
    ("depthwise_relu", "float32", ()),
    ("patch", "float32", ()),
    ("patch_relu", "float32", ()),
    ("patch_relu", "int8", ()),
)
SIDE = 1024


def pictures(count: int = 8) -> np.ndarray:
    """uint8 [count, S, S, 3]."""
    images = sources.load(IMAGES.value, "test").images
    some = [centre_crop(images[i], SIZE.value) for i in range(count)]
    return np.stack([np.broadcast_to(image, (*image.shape[:2], 3)) for image in some])


def design(pair: str, dtype: str, float_ops, images: np.ndarray) -> dict:
    """The exported head and what is known of it before it is timed."""
    encoder, _ = PAIRS[pair](CHANNELS.value, 256, (2, 2), False)
    stages = (Stage("normalise", Normalise()), Stage("encoder", encoder))
    net = Net(stages, splits=(SplitPoint("encoder", FactorizedPrior()),))
    variables = init(net, jax.random.key(0), images[:1])
    codec = codecs_of(net, variables, images[:1])["split@encoder"]
    segment = segments.head_segment(
        net, variables, "encoder", codec, images, dtype=dtype, float_ops=float_ops
    )
    through = lambda x: run(net, variables, x)[0].features["encoder"]  # noqa: E731
    runner = Runner(segment.model)
    return {
        "pair": pair,
        "dtype": dtype,
        "float_ops": list(float_ops),
        "macs": macs(through, images[:1]),
        "model_bytes": len(segment.model),
        "operations": len(convert.operations(segment.model)),
        "different": segment.parity.different / segment.parity.symbols,
        "runner": runner,
        "ms": [],
    }


def main(_):
    images = pictures()
    heads = [design(*each, images) for each in DESIGNS]
    square = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    products: list[float] = []
    for number in range(3 + RUNS.value):
        for head in heads:
            begun = time.perf_counter()
            head["runner"](images[number % len(images)][None])
            head["ms"].append(1e3 * (time.perf_counter() - begun))
        # The product is timed in the same rounds: a ratio to it survives other load.
        begun = time.perf_counter()
        np.matmul(square, square)
        products.append(1e3 * (time.perf_counter() - begun))
    gemm = 2e-6 * SIDE**3 / float(np.median(products[3:]))
    for head in heads:
        head["partitions"] = head.pop("runner").partitions()
        kept = np.array(head.pop("ms")[3:])
        head["median_ms"], head["min_ms"] = float(np.median(kept)), float(kept.min())
        head["ratio"] = head["median_ms"] / heads[0]["median_ms"]
        head["gemm_share"] = 2e-6 * head["macs"] / head["median_ms"] / gemm
    print("pair, dtype, float ops, MMAC, kB, partitions, median ms, min, ratio, share")
    for head in heads:
        print(
            f"{head['pair']:20} {head['dtype']:12} {','.join(head['float_ops']):4}"
            f"{head['macs'] / 1e6:5.0f} {head['model_bytes'] / 1e3:5.0f}"
            f"{head['partitions']:3} {head['median_ms']:7.2f} {head['min_ms']:7.2f}"
            f" {head['ratio']:5.2f} {head['gemm_share']:5.2f}"
        )
    print(f"GEMM {gemm:.1f} GFLOP/s")
    if OUT.value:
        report = {
            **origin(),
            "machine": machine(),
            "image_size": SIZE.value,
            "threads": 1,
            "runs": RUNS.value,
            "gemm_gflop_per_s": gemm,
            "heads": heads,
        }
        Path(OUT.value).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    cli.start(main)
