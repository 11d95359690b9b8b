"""The Entropic Student of the field's public code beside a finished run of ours.

    python -m benchmarks.methods.peer_student --run=runs/sweep \\
        --peer_python=/path/to/venv/bin/python --out=peer.json

--run: folders of launch.train with --recipe=entropic_student and a CIFAR ResNet
(backbone=resnet20): runs of one teacher, or a sweep over beta. Its teacher, training
images without the validation tenth, test images, batch size, augmentation, steps and
order go to peers/torch_student.py, run by --peer_python, which has torch, compressai
and sc2bench. There sc2bench's bottleneck is trained for each of --betas, and every test
image becomes bytes of CompressAI's coder and an answer from what they decode to.

--settings tell recipe from architecture: "published" is the SC2 benchmark's (hints are
sums, Adam 1e-3 x0.1 at half and four fifths, then SGD 1e-3 x0.1 at half), "ours" has
the run's own losses, optimisers and rates. Both train the published architecture,
without biases and with a linear end. --betas are on the scale of ours; published ones
are larger by the features of the decoder's hint, over which ours is a mean (8,192 of a
32-pixel image: 0.00015 becomes 1.2). After each beta --out is written.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from absl import flags

from benchmarks.methods import peer_case
from benchmarks.origin import origin
from launch import cli
from sc_jax.evaluate import bd_rate
from sc_jax.evaluate.reports.report import aligned, machine
from sc_jax.runs import rate_runs, run_folder
from sc_jax.train import devices

RUN = flags.DEFINE_list("run", [], "folders of finished runs, or of sweeps")
PEER_PYTHON = flags.DEFINE_string("peer_python", None, "python of the peer")
SETTINGS = flags.DEFINE_list("settings", ["published"], "published, ours, or both")
BETAS = flags.DEFINE_list("betas", [], "on the scale of ours; default: the runs' own")
THREADS = flags.DEFINE_integer("threads", 1, "of the peer", 1)
STEPS = flags.DEFINE_integer("limit_steps", 0, "of a stage, for tries; 0: the run's", 0)
LIMIT = flags.DEFINE_integer("limit_test", 0, "test images, for tries; 0: all", 0)
OUT = flags.DEFINE_string("out", None, "JSON file; default: printed only")

PEER = Path(__file__).parents[1] / "peers" / "torch_student.py"
OURS, PUBLIC = "sc_jax", "sc2bench"


def answers(python: str, case: Path) -> Iterator[dict[str, Any]]:
    """The peer's lines, as they come: facts, then a row for each beta."""
    command = [python, str(PEER), str(case)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS.value)}
    environment.pop("PYTHONPATH", None)  # it leads to packages of this interpreter
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        )
    except OSError as error:
        raise cli.UsageError(f"--peer_python={python}: {error.strerror}") from None
    try:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        if process.wait():
            raise cli.UsageError(
                f"the peer ended with code {process.returncode} (see above): does "
                "--peer_python have torch, compressai and sc2bench?"
            )
    finally:
        process.kill()


def our_rows(points: list[Path], test) -> list[dict[str, Any]]:
    """Each run through its own codec, on the images that the peer gets."""
    rows = []
    for folder in points:
        recipe = run_folder.recipe_of(folder)
        for row in rate_runs.student_rows(recipe, folder, test):
            assert row.payload_bytes is not None
            found = {"by": OURS, "setting": row.setting, "top1": row.quality}
            found |= dict(zip(("bytes", "bytes_p95"), row.payload_bytes))
            bits = {"estimated_bits": row.estimated_bits, "examples": row.examples}
            rows.append(found | bits)
    return rows


def compared(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """BD-rate of ours against a setting of the peer; a reason where it has none."""
    who = f"{PUBLIC}, {name}"
    pairs = [(row["by"], (row["bytes"], row["top1"])) for row in rows]
    peer, ours = ([point for by, point in pairs if by == one] for one in (who, OURS))
    why = bd_rate.undefined(peer, ours)
    found = None if why else bd_rate.bd_rate(peer, ours), bd_rate.overlap(peer, ours)
    return {"against": who, **dict(zip(("percent", "overlap"), found)), "reason": why}


def printed(report: dict[str, Any]) -> None:
    cells = [["by", "setting", "bytes", "p95", "bits / 8", "top-1 %", "images"]]
    for row in report["rows"]:
        sizes = row["bytes"], row["bytes_p95"], row["estimated_bits"] / 8
        figures = [*(f"{n:.1f}" for n in sizes), f"{100 * row['top1']:.2f}"]
        cells += [[row["by"], row["setting"], *figures, str(row["examples"])]]
    print(aligned(cells))
    for entry in report["bd_rates"]:
        share, why = f", over {entry['overlap']:.0%} of our qualities", entry["reason"]
        found = why or f"{entry['percent']:+.1f} %{share}"
        print(f"BD-rate of ours against {entry['against']}: {found}")


def main(_):
    if not RUN.value or not PEER_PYTHON.value:
        raise cli.UsageError("give --run and --peer_python (--help)")
    cli.writable(OUT.value)
    devices.start(multihost=False)
    points = peer_case.points(RUN.value)
    run = peer_case.of_points(points, BETAS.value, LIMIT.value)
    limits = THREADS.value, STEPS.value
    cases = {name: peer_case.case(run, name, *limits) for name in SETTINGS.value}
    rows = our_rows(points, run.test)
    report = {
        **origin(),
        "machine": machine(),
        "runs": [folder.name for folder in points],
        "steps": {n: [len(c["rates1"]), len(c["rates2"])] for n, c in cases.items()},
        "peer": {},
        "rows": rows,
        "bd_rates": [],
    }
    for name, arrays in cases.items():
        with TemporaryDirectory() as folder:
            np.savez(Path(folder) / "case.npz", **arrays)
            lines = answers(PEER_PYTHON.value, Path(folder) / "case.npz")
            report["peer"][name] = next(lines)
            for line in lines:
                setting = f"beta={line['beta']:g}"
                rows.append({"by": f"{PUBLIC}, {name}", "setting": setting, **line})
                report["bd_rates"] = [compared(rows, n) for n in report["peer"]]
                if OUT.value:
                    Path(OUT.value).write_text(json.dumps(report, indent=1) + "\n")
    printed(report)


if __name__ == "__main__":
    cli.start(main)
