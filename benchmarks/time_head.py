"""Times the heads of bundles on this machine, beside its own matrix product.

  python -m benchmarks.time_head bundle --threads=1 --runs=50
  python -m benchmarks.time_head bundle bundle_int8 --out=runs/heads.json

All bundles and one float32 matrix product (1024 x 1024) take turns in one process, so
that a busy machine slows them alike: compare the ratios. Image -> symbols (LiteRT) and
symbols -> bytes (the coder) are timed apart, on the images of the embedded set resized
to the bundle's input, or of --images. Energy is given where Linux exposes RAPL.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one-core product

import json
import platform
import resource
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from launch import cli
from sc_jax.codec.codecs import ImageCodec
from sc_jax.data import sources
from sc_jax.deploy import bundle
from sc_jax.deploy.runtime import Runner

THREADS = flags.DEFINE_integer("threads", 1, "of the interpreter", 1)
RUNS = flags.DEFINE_integer("runs", 50, "rounds, after the warm-up", 1)
WARM_UP = flags.DEFINE_integer("warm_up", 5, "rounds that are not counted", 0)
IMAGES = flags.DEFINE_string("images", "fashion_mnist_12k", "a data source")
OUT = flags.DEFINE_string("out", None, "JSON file; default: printed only")
SIDE = 1024
RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


def pictures(shape: tuple[int, ...], count: int = 16) -> np.ndarray:
    """uint8 [count, H, W, C] of real images, resized to the bundle's input."""
    images = sources.load(IMAGES.value, "test").images
    found = []
    for i in range(min(count, len(images))):
        image = images[i]
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        picture = picture.convert("L" if shape[2] == 1 else "RGB")
        found.append(np.asarray(picture.resize((shape[1], shape[0]))).reshape(shape))
    return np.stack(found)


class Subject:
    """One bundle's head and coder, with their times of every round in ms."""

    def __init__(self, path: str):
        self.path, self.bundle = path, bundle.read(Path(path))
        if isinstance(self.bundle.codec, ImageCodec):
            raise cli.UsageError(f"{path} has no head: its codec is an image format")
        self.codec = self.bundle.codec
        (model,) = self.bundle.segments.values()
        self.runner = Runner(model, THREADS.value)
        self.images = pictures(tuple(self.bundle.manifest["facts"]["input"]))
        self.model_bytes = len(model)
        self.times: dict[str, list[float]] = {"head": [], "code": [], "cpu": []}
        self.sent: list[int] = []

    def round(self, number: int) -> None:
        image = self.images[number % len(self.images)][None]
        begun, cpu = time.perf_counter(), time.process_time()
        outputs = self.runner(image)
        ran, spent = time.perf_counter(), time.process_time()
        payload = self.codec.pack(**{k: v[0] for k, v in outputs.items()})
        done = time.perf_counter()
        self.times["head"].append(1e3 * (ran - begun))
        self.times["code"].append(1e3 * (done - ran))
        self.times["cpu"].append(1e3 * (spent - cpu))
        self.sent.append(len(payload))

    def result(self) -> dict:
        facts = self.bundle.manifest["facts"]
        return {
            "bundle": Path(self.path).name,
            "model": self.bundle.manifest["model"],
            "dtype": facts["dtype"],
            "model_bytes": self.model_bytes,
            "delegate_partitions": self.runner.partitions(),
            "payload_bytes": float(np.mean(self.sent)),
            **{f"{name}_ms": summary(values) for name, values in self.times.items()},
        }


def summary(values: list[float]) -> dict[str, float]:
    kept = np.array(values[WARM_UP.value :])
    return {
        "median": float(np.median(kept)),
        "p95": float(np.percentile(kept, 95)),
        "min": float(kept.min()),
    }


def product_ms(a: np.ndarray) -> float:
    begun = time.perf_counter()
    np.matmul(a, a)
    return 1e3 * (time.perf_counter() - begun)


def joules() -> float | None:
    try:
        return 1e-6 * int(RAPL.read_text())
    except (OSError, ValueError):
        return None


def main(argv):
    if len(argv) < 2:
        raise cli.UsageError("name one bundle or more: benchmarks.time_head bundle")
    subjects = [Subject(path) for path in argv[1:]]
    square = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    products, before = [], joules()
    for number in range(WARM_UP.value + RUNS.value):
        for subject in subjects:
            subject.round(number)
        products.append(product_ms(square))
    after = joules()
    product = summary(products)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.time_head " + " ".join(sys.argv[1:]),
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "versions": {n: version(n) for n in ("ai-edge-litert", "numpy")},
        "threads": THREADS.value,
        "runs": RUNS.value,
        "gemm_gflop_per_s": {
            "median": 2e-6 * SIDE**3 / product["median"],
            "best": 2e-6 * SIDE**3 / product["min"],
        },
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "energy_j": None if before is None or after is None else after - before,
        "heads": [subject.result() for subject in subjects],
    }
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(report, indent=1))
    first = report["heads"][0]["head_ms"]["median"]
    print(
        f"{'bundle':20} dtype         kB  head ms: median  p95  min  ratio  code ms  B"
    )
    for head in report["heads"]:
        ms = head["head_ms"]
        print(
            f"{head['bundle']:20} {head['dtype']:12} {head['model_bytes'] / 1e3:5.0f}"
            f"  {ms['median']:14.3f} {ms['p95']:6.3f} {ms['min']:6.3f}"
            f"  {ms['median'] / first:5.2f}  {head['code_ms']['median']:7.3f}"
            f"  {head['payload_bytes']:.0f}"
        )
    print(f"GEMM {report['gemm_gflop_per_s']['median']:.1f} GFLOP/s (median)")


if __name__ == "__main__":
    cli.start(main, arguments=True)
