"""Two checkouts of this project serve one tail file: throughput and latency in turns.

    git worktree add ../before REVISION
    python -m benchmarks.serving.protocol_comparison --before=../before \\
        --tail=model.tail --out=protocol.json

Each server and each set of clients runs the code of its own checkout. Both servers stay
up and take turns --rounds times, so the ratios (this checkout over the other, a median
over rounds) hold on a machine whose speed drifts; cpu_s, what server and clients
compute an answer, is there for machines whose cores are shared. Beside the medians
stand the ratios of each side's best round, which other programs disturbed least.
--tail: a file of launch.export that both can read. Frames are random latents through
its codec.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.serving import report
from benchmarks.serving.clients import MODEL
from launch import cli
from sc_jax.deploy.server import models
from sc_jax.deploy.wire import frame

_BEFORE = flags.DEFINE_string("before", None, "folder of the other checkout")
_TAIL = flags.DEFINE_string("tail", None, "tail file that both checkouts serve")
_CLIENTS = flags.DEFINE_list("clients", ["1", "8", "64"], "concurrent clients")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "of each measurement")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "interleaved repetitions", 1)
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")

FRAMES = 40
CLIENTS = Path(__file__).with_name("clients.py")
FIGURES = ("answers_per_s", "p50_s", "p95_s", "cpu_s")


def program(stack: ExitStack, tree: Path, *arguments: str) -> subprocess.Popen:
    """A Python program of a checkout; ended with the stack."""
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    stack.callback(process.terminate)
    return process


def serve(stack: ExitStack, tree: Path, tail: Path) -> tuple[str, int]:
    """(address, process id) of a launch.serve of a checkout."""
    server = program(
        stack, tree, "-m", "launch.serve", f"--workdir={MODEL}={tail}", "--port=0"
    )
    assert server.stdout is not None
    # launch.serve prints its address once every batch size is compiled.
    words = server.stdout.readline().split()
    if "at" not in words:
        raise cli.UsageError(f"{tree} does not serve {tail}")
    return words[words.index("at") + 1].rstrip(","), server.pid


def cpu_s(pid: int) -> float:
    """What a process has computed, all its threads; Linux."""
    # Behind the last bracket: a program's name may hold spaces and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def frames(tail: Path) -> list[bytes]:
    """What devices would send for random latents."""
    codec = models.load(tail, MODEL)[MODEL][0].codec
    rng, on_wire = np.random.default_rng(0), codec.id
    latents = rng.normal(0, 3, (FRAMES, *codec.shape)).astype(np.float32)
    return [frame.pack(on_wire, 0, codec.shape, codec.encode(z)) for z in latents]


def interleaved(trees: dict[str, Path], tail: Path, sent: list[bytes]) -> list[dict]:
    """Rows of every round, number of clients and checkout, the checkouts in turns."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        file = Path(scratch) / "frames.npz"
        np.savez(file, *(np.frombuffer(data, np.uint8) for data in sent))
        servers = {name: serve(stack, tree, tail) for name, tree in trees.items()}
        workers = {
            name: program(stack, tree, str(CLIENTS)) for name, tree in trees.items()
        }
        for number in range(_ROUNDS.value + 1):
            # Who goes first changes, so that neither always follows the other.
            names = list(trees) if number % 2 else list(trees)[::-1]
            for clients in map(int, _CLIENTS.value):
                for name in names:
                    address, pid = servers[name]
                    order = {"address": address, "frames": str(file)}
                    order |= {"clients": clients, "seconds": _SECONDS.value}
                    stdin, stdout = workers[name].stdin, workers[name].stdout
                    assert stdin is not None and stdout is not None
                    both = pid, workers[name].pid
                    spent_s = sum(map(cpu_s, both))
                    print(json.dumps(order), file=stdin, flush=True)
                    row = json.loads(stdout.readline())
                    spent_s = sum(map(cpu_s, both)) - spent_s
                    row["cpu_s"] = spent_s / max(row["answers"], 1)
                    if number:  # the first round warms both up
                        rows.append(row | {"code": name, "round": number})
    return rows


def summarised(rows: list[dict]) -> list[dict]:
    """A row per number of clients: medians of both, and of the rounds' ratios."""
    found = []
    for clients in dict.fromkeys(row["clients"] for row in rows):
        sides = {
            code: [r for r in rows if (r["clients"], r["code"]) == (clients, code)]
            for code in ("before", "now")
        }
        summary = {
            "clients": clients,
            "errors": sum(r["errors"] for side in sides.values() for r in side),
        }
        for figure in FIGURES:
            before, now = (
                np.array([row[figure] for row in side]) for side in sides.values()
            )
            # Answers a second are better high, seconds low.
            best = np.max if figure == "answers_per_s" else np.min
            summary[figure] = {
                "before": float(np.median(before)),
                "now": float(np.median(now)),
                "best_ratio": float(best(now) / best(before)),
                "ratio": float(np.median(now / before)),
                "ratios": (now / before).round(3).tolist(),
            }
        found.append(summary)
    return found


def table(rows: list[dict]) -> str:
    lines = [
        "clients  answers/s before    now  ratio   p50    p95    CPU | best rounds"
    ]
    for row in rows:
        rate = row["answers_per_s"]
        lines.append(
            f"{row['clients']:7} {rate['before']:17.0f} {rate['now']:6.0f}"
            + "".join(f"{row[figure]['ratio']:7.3f}" for figure in FIGURES)
            + " |"
            + "".join(f"{row[figure]['best_ratio']:7.3f}" for figure in FIGURES)
            + f"  {row['errors']} errors"
        )
    return "\n".join(lines)


def main(_):
    if not _BEFORE.value or not _TAIL.value:
        raise cli.UsageError("give --before, a checkout, and --tail, a tail file")
    here, tail = Path(__file__).resolve().parents[2], Path(_TAIL.value).resolve()
    trees = {"before": Path(_BEFORE.value).resolve(), "now": here}
    sent = frames(tail)
    rows = summarised(interleaved(trees, tail, sent))
    print(table(rows))
    times = {"seconds": _SECONDS.value, "rounds": _ROUNDS.value}
    report.write(_OUT.value, rows, sent, **times)


if __name__ == "__main__":
    cli.start(main)
