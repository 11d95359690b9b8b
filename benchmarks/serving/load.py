"""Loads a real edge server: throughput and latency, batched against one by one.

    python -m benchmarks.serving.load --workdir=runs/first --out=serve_load.json

Server and clients are two processes on this machine, so they share its cores; clients
are threads that each send the next frame when the last is answered. All servers run
at once and take turns --rounds times, so their ratios hold on a machine whose speed
drifts; each row is the round of median throughput. Without --workdir an untrained net
is served: the work is the same.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from absl import flags

from benchmarks.serving import report
from benchmarks.serving.clients import load
from benchmarks.serving.server import serving
from benchmarks.untrained import frames, untrained
from launch import cli
from sc_jax.data import pipeline
from sc_jax.runs import run_folder
from sc_jax.train import devices

_WORKDIR = flags.DEFINE_string("workdir", None, "a finished run of one split")
_CLIENTS = flags.DEFINE_list("clients", ["1", "8", "64"], "concurrent clients")
_BATCHES = flags.DEFINE_list("max_batch", ["64", "1"], "--max_batch of launch.serve")
_SECONDS = flags.DEFINE_float("seconds", 3.0, "of each measurement")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "interleaved repetitions", 1)
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")

EXAMPLES = 40


def interleaved(workdir: Path, sent: Sequence[bytes]) -> list[dict]:
    """A row per --max_batch and number of clients, the servers taking turns."""
    found: dict[tuple[int, int], list[dict]] = {}
    batches, counts = map(int, _BATCHES.value), tuple(map(int, _CLIENTS.value))
    with ExitStack() as stack:
        servers = {
            batch: stack.enter_context(serving(workdir, f"--max_batch={batch}"))
            for batch in batches
        }
        for _ in range(_ROUNDS.value):
            for clients in counts:
                for batch, (address, _) in servers.items():
                    row = load(address, sent, clients, _SECONDS.value)
                    found.setdefault((batch, clients), []).append(row)
    rows = []
    for batch, clients in sorted(found, key=lambda key: (-key[0], key[1])):
        # A round of its own, not a mean of several: its quantiles belong together.
        rounds = sorted(found[batch, clients], key=lambda row: row["answers_per_s"])
        middle = rounds[len(rounds) // 2]
        each = [row["answers_per_s"] for row in rounds]
        errors = sum(row["errors"] for row in rounds)
        more = {"max_batch": batch, "all_answers_per_s": each, "errors": errors}
        rows.append(middle | more)
    return rows


def table(rows: list[dict]) -> str:
    lines = ["max batch  clients  answers/s   p50 ms   p95 ms   p99 ms  batch  errors"]
    for row in rows:
        quantiles = "".join(f"{1e3 * row[f'p{q}_s']:9.2f}" for q in (50, 95, 99))
        lines.append(
            f"{row['max_batch']:9} {row['clients']:8} {row['answers_per_s']:10.1f}"
            f"{quantiles} {row['mean_batch']:6.1f} {row['errors']:7}"
        )
    return "\n".join(lines)


def main(_):
    devices.start(multihost=False)
    with tempfile.TemporaryDirectory() as scratch:
        workdir = Path(_WORKDIR.value or untrained(Path(scratch)))
        recipe = run_folder.recipe_of(workdir)
        test = run_folder.dataset_of(recipe, "test")
        images, _, _ = next(iter(pipeline.evaluation_batches(test, EXAMPLES)))
        sent = frames(recipe.net, *run_folder.restore(recipe, workdir), images)
        rows = interleaved(workdir, sent)
    print(table(rows))
    times = {"seconds": _SECONDS.value, "rounds": _ROUNDS.value}
    report.write(_OUT.value, rows, sent, net=recipe.title, **times)


if __name__ == "__main__":
    cli.start(main)
