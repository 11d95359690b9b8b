"""Head and coder beside the whole net here, image files, and the peer: one run.

  python -m benchmarks.methods.head_vs_baselines \\
      --workdirs=fp=runs/fp,patch=runs/patch --bundles=runs/bundles \\
      --out=trained.json --picture=trained.png
  python -m benchmarks.methods.head_vs_baselines --image_size=224 \\
      --peer_python=/path/to/venv/bin/python --out=224.json --picture=224.png

--workdirs: finished runs of launch.train with a teacher and a report. Each gives its
head in every --dtypes, the whole teacher on the device, and of PNG, JPEG and WebP the
smallest file at which the teacher is as accurate as the head (over the whole test
split, from report.json). Seconds are medians of rounds in which every deployment has
one turn (the image twice, the second counts), on one thread. Latency = device + framed
bytes over the link + round trip + server; server is decoding and the jitted rest of the
net at batch 1 on this machine. Exported heads are kept in --bundles, and their tables
with the run, as launch.export leaves them.

--image_size: the published and the patch encoder, MobileNetV2, ResNet-50 and Pillow's
JPEG and WebP with random weights at that size: times, and how many bytes a head must
save against JPEG q=75 to be as early on each link. --peer_python: an interpreter with
torch and compressai; it encodes the same images with the same weights in turn.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy and jax: one core
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import json
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from absl import flags

from benchmarks.methods import (
    latency_picture,
    trained_deployments,
    untrained_deployments,
)
from benchmarks.methods.deployments import (
    PEER,
    REFERENCE,
    SERVER,
    Deployment,
    add_latencies,
    measure,
)
from benchmarks.origin import origin
from launch import cli
from sc_jax.deploy.export.convert import DTYPES
from sc_jax.errors import unknown
from sc_jax.evaluate.reports.report import machine
from sc_jax.plan.link import ASSUMED_RTT, LINKS
from sc_jax.spec import named

WORKDIRS = flags.DEFINE_list("workdirs", [], "finished runs: FOLDER or LABEL=FOLDER")
SIZE = flags.DEFINE_integer(
    "image_size", 0, "also random weights at this size; 0: no", 0, 1024
)
TYPES = flags.DEFINE_list(
    "dtypes", ["float32", "float16", "int8_weights", "int8"], "of heads"
)
WHOLE = flags.DEFINE_list("whole_dtypes", ["float32", "int8"], "of whole nets")
BUNDLES = flags.DEFINE_string(
    "bundles", None, "folder that keeps the exported heads; default: a temporary one"
)
TEACHER = flags.DEFINE_string("teacher", None, "folder; default: each run's own")
REPORT = flags.DEFINE_string(
    "report", None, "folder of the report.json with image files; default: each run's"
)
BELOW = flags.DEFINE_float(
    "points_below", 0.0, "of accuracy that a matched file may be below the head", 0.0
)
PEER_PYTHON = flags.DEFINE_string("peer_python", None, "python of the peer")
ROUNDS = flags.DEFINE_integer("rounds", 50, "after three that do not count", 1)
OUT = flags.DEFINE_string("out", None, "JSON file; default: printed only")
PICTURE = flags.DEFINE_string("picture", None, "PNG file")


def trained(store: Path) -> list[Deployment]:
    pairs = [named(text, "--workdirs") for text in WORKDIRS.value]
    runs = [(name or Path(path).resolve().name, Path(path)) for name, path in pairs]
    if len({label for label, _ in runs}) < len(runs):
        raise cli.UsageError("two runs of one name: give --workdirs LABEL=FOLDER")
    settings = trained_deployments.Settings(
        TYPES.value,
        WHOLE.value,
        store,
        BELOW.value / 100,
        Path(TEACHER.value) if TEACHER.value else None,
        Path(REPORT.value) if REPORT.value else None,
    )
    return [
        deployment
        for run in runs
        for deployment in trained_deployments.of_run(*run, settings)
    ]


def untrained(
    images, folder: Path, stack: ExitStack
) -> tuple[list[Deployment], untrained_deployments.Peer | None]:
    """All deployments at --image_size; the peer stays open as long as `stack`."""
    group, peer = f"{SIZE.value} x {SIZE.value}, random weights", None
    if PEER_PYTHON.value:
        peer = untrained_deployments.Peer(PEER_PYTHON.value, folder, images)
        stack.callback(peer.close)
    else:
        print("no --peer_python: the peer's encode() is left out")
    deployments = untrained_deployments.heads(group, TYPES.value, images)
    if peer:
        deployments.append(Deployment(group, PEER, "float32", peer.once))
    deployments += untrained_deployments.wholes(group, WHOLE.value, images)
    return deployments + untrained_deployments.files(group, images), peer


def facts() -> dict[str, Any]:
    return {
        **origin(),
        "machine": machine(),
        "versions": {n: version(n) for n in ("ai-edge-litert", "Pillow")},
        "threads": 1,
        "rounds": ROUNDS.value,
        "links": {name: asdict(link) for name, link in LINKS.items()},
        "assumed_rtt": list(ASSUMED_RTT),
        "reference": REFERENCE,
        "points_below": BELOW.value,
    }


def printed(report: dict[str, Any]) -> None:
    links = "".join(f"{name:>9}" for name in report["links"])
    print(
        f"\n{'':32} {'':12} top-1 %  framed B  device ms (p95)  server ms{links}  peer"
    )
    for i, row in enumerate(report["rows"]):
        if not i or row["group"] != report["rows"][i - 1]["group"]:
            what = "latency, ms" if "latency_s" in row else "bytes to save"
            print(f"{row['group']} ({what} over each link)")
        top1, sent = row["top1"], row["framed_bytes"]
        server = row["seconds"].get(SERVER)
        cells = [1e3 * s for s in row.get("latency_s", {}).values()]
        cells = cells or list(
            row.get("break_even_bytes", dict.fromkeys(LINKS)).values()
        )
        print(
            f"  {row['deployment']:30} {row['dtype']:12}"
            f" {'' if top1 is None else format(100 * top1, '.2f'):>7}"
            f" {'' if sent is None else format(sent, '.1f'):>9}"
            f" {1e3 * row['device_s']:9.3f} {'(%.3f)' % (1e3 * row['device_p95_s']):>8}"
            f" {'' if server is None else format(1e3 * server, '.2f'):>9}"
            + "".join(f"{'' if c is None else format(c, ',.1f'):>9}" for c in cells)
            + (f"{row['peer_ratio']:6.2f}" if "peer_ratio" in row else "")
        )


def main(_):
    if not WORKDIRS.value and not SIZE.value:
        raise cli.UsageError("give --workdirs, --image_size or both (--help)")
    cli.writable(OUT.value, PICTURE.value)
    # Before minutes of exporting.
    for dtype in TYPES.value + WHOLE.value:
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        store = Path(BUNDLES.value) if BUNDLES.value else folder
        deployments, report, peer = trained(store), facts(), None
        if SIZE.value:
            images = untrained_deployments.photographs(SIZE.value)
            more, peer = untrained(images, folder, stack)
            deployments += more
        rows = measure(deployments, ROUNDS.value)
    add_latencies(rows)
    if peer:
        report["peer"] = peer.facts()
    report["rows"] = rows
    printed(report)
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(report, indent=1) + "\n")
    if PICTURE.value:
        latency_picture.draw(report, PICTURE.value)


if __name__ == "__main__":
    cli.start(main)
