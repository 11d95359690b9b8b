"""Times the heads of bundles on this machine, beside its own matrix product.

  python -m benchmarks.speed.time_head bundle --threads=1 --runs=50
  python -m benchmarks.speed.time_head bundle bundle_int8 --out=runs/heads.json
  python -m benchmarks.speed.time_head bundle --from-benchmark-model=phone.txt

All bundles and one float32 matrix product (1024 x 1024) take turns in one process, so
that a busy machine slows them alike: compare the ratios. Image -> symbols (LiteRT) and
symbols -> bytes (the coder) are timed apart, on the images of the embedded set resized
to the bundle's input, or of --images. LiteRT's own profiler then times every operation,
in a process of its own, and a meter gives joules where the machine has one.

With --from-benchmark-model nothing runs: what LiteRT's tool printed on a device
(docs/on_device.md) becomes the same table and JSON; the bundle may be left out.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one-core product

import json
import platform
import resource
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.origin import origin
from benchmarks.speed import logged_head, timed_head
from benchmarks.speed.head_report import Report, table
from launch import cli

THREADS = flags.DEFINE_integer("threads", 1, "of the interpreter", 1)
RUNS = flags.DEFINE_integer("runs", 50, "rounds, after the warm-up", 1)
WARM_UP = flags.DEFINE_integer("warm_up", 5, "rounds that are not counted", 0)
IMAGES = flags.DEFINE_string("images", "fashion_mnist_12k", "a data source")
PROFILE = flags.DEFINE_boolean("profile", True, "time every operation too")
ENERGY_S = flags.DEFINE_float("energy_s", 5.0, "seconds a meter is read; 0: none", 0)
LOG = flags.DEFINE_string("from_benchmark_model", None, "file: its output on a device")
flags.DEFINE_alias("from-benchmark-model", "from_benchmark_model")
OUT = flags.DEFINE_string("out", None, "JSON file; default: printed only")
SIDE = 1024


def here(paths: list[str]) -> Report:
    """Times the heads of these bundles in turn."""
    subjects = [timed_head.load(path, THREADS.value, IMAGES.value) for path in paths]
    square = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    products: list[float] = []
    for number in range(WARM_UP.value + RUNS.value):
        for subject in subjects:
            timed_head.turn(subject, number)
        begun = time.perf_counter()
        np.matmul(square, square)
        products.append(time.perf_counter() - begun)
    # macOS counts ru_maxrss in bytes, Linux in kilobytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = products[WARM_UP.value :]
    gflop = 2e-9 * SIDE**3
    heads = [
        timed_head.result(
            subject,
            skip=WARM_UP.value,
            profile_runs=RUNS.value if PROFILE.value else 0,
            energy_s=ENERGY_S.value,
        )
        for subject in subjects
    ]
    return Report(
        **origin(),
        by="ai_edge_litert.interpreter",
        heads=tuple(heads),
        machine=platform.platform(),
        processor=cpu(),
        versions={n: version(n) for n in ("ai-edge-litert", "numpy")},
        threads=THREADS.value,
        warm_up=WARM_UP.value,
        runs=RUNS.value,
        gemm_gflop_per_s={
            "median": gflop / float(np.median(kept)),
            "best": gflop / min(kept),
        },
        peak_memory_bytes=peak,
    )


def cpu() -> str:
    """The processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return named[0] if named else platform.processor() or platform.machine()


def main(argv):
    cli.writable(OUT.value)
    if LOG.value is None and len(argv) < 2:
        raise cli.UsageError("name one bundle or more: speed.time_head bundle")
    if LOG.value is None:
        report = here(argv[1:])
    else:
        text = cli.read(LOG.value).decode("utf-8", "replace")
        report = logged_head.report(text, LOG.value, argv[1:], **origin())
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(asdict(report), indent=1))
    print(table(report))


if __name__ == "__main__":
    cli.start(main, arguments=True)
