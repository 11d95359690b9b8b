"""Writes docs/results.md and docs/results.png from the reports of finished runs.

  python -m benchmarks.results_page.make --embedded=runs/seed=0,runs/seed=1 \\
      --methods=runs/cifar --coder=runs/coder.json --throughput=runs/throughput.json

--embedded: folders of launch.train runs of the default recipe, one a seed. --methods: a
folder of benchmarks.methods.training. Every number is read from those files; none is
typed in. Sections whose files are not given stay as they are.
"""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.results_page import baselines, early_exits, executors, heads, trade
from benchmarks.results_page.page import anonymous, merged
from launch import cli
from sc_jax.evaluate.reports import plots, report
from sc_jax.evaluate.reports.report import Row

EMBEDDED = flags.DEFINE_list("embedded", [], "folders of launch.train, one a seed")
METHODS = flags.DEFINE_string("methods", None, "folder of benchmarks.methods.training")
CODER = flags.DEFINE_string("coder", None, "JSON of benchmarks.speed.coder_speed")
THROUGHPUT = flags.DEFINE_list("throughput", [], "JSONs of speed.train_throughput")
BUNDLES = flags.DEFINE_list("bundles", [], "folders of launch.export")
DESIGNS = flags.DEFINE_string("designs", None, "JSON of benchmarks.speed.head_designs")
TRADE = flags.DEFINE_list("trade", [], "JSONs of head_vs_baselines, several pairs")
BASELINES = flags.DEFINE_list("baselines", [], "JSONs of methods.head_vs_baselines")
SERVING = flags.DEFINE_string("serving", None, "JSON of benchmarks.serving.load")
EXITS = flags.DEFINE_list("exits", [], "JSONs of benchmarks.methods.early_exits")
EXECUTORS = flags.DEFINE_list("executors", [], "JSONs of benchmarks.speed.exit_speed")
OUT = flags.DEFINE_string("out", "docs", "folder of results.md and results.png")
WITHIN = 0.01  # of the teacher's accuracy: the bar for a classical codec


def facts_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())["facts"]


def best_classical(rows: list[Row]) -> Row:
    """The smallest image file that stays within a point of the teacher."""
    teacher = next(r for r in rows if r.method == "teacher")
    close = [
        r
        for r in rows
        if r.family == "classical" and r.quality >= teacher.quality - WITHIN
    ]
    return min(close, key=plots.mean_bytes)


def embedded(folders: list[Path]) -> list[str]:
    """The default run over seeds: accuracy, bytes, share of the best image codec."""
    lines = [
        "| seed | teacher top-1 % | best image codec within 1 point | its bytes |"
        " Entropic Student top-1 % | points below teacher | bytes mean (p95) |"
        " share of codec's bytes | estimated bytes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    columns = []
    for folder in folders:
        rows = report.read(folder)
        teacher, student = rows[0], rows[-1]
        codec = best_classical(rows)
        mean, tail = student.payload_bytes or (0.0, 0.0)
        drop, share = teacher.quality - student.quality, mean / plots.mean_bytes(codec)
        columns.append((teacher.quality, student.quality, drop, mean, share))
        lines.append(
            f"| {facts_of(folder)['seed']} | {100 * teacher.quality:.2f} "
            f"| {codec.method} {codec.setting} | {plots.mean_bytes(codec):.1f} "
            f"| {100 * student.quality:.2f} "
            f"| {100 * drop:.2f} | {mean:.1f} ({tail:.0f}) | {100 * share:.1f} % | "
            f"{(student.estimated_bits or 0) / 8:.1f} |"
        )
    t, s, d, b, r = np.mean(columns, 0)
    lines.append(
        f"| mean | {100 * t:.2f} | | | {100 * s:.2f} | {100 * d:.2f} | {b:.1f} | "
        f"{100 * r:.1f} % | |"
    )
    return lines


def claims(rows: list[Row]) -> list[str]:
    """The survey's ordering, read at the bytes of the quantised methods."""
    quantised = [r for r in rows if r.family == "learned" and "bit" in r.setting]
    students = sorted(
        (r for r in rows if r.method == "Entropic Student"), key=plots.mean_bytes
    )
    size = plots.mean_bytes(quantised[0])
    points = {r.method: 100 * r.quality for r in quantised}
    where = [plots.mean_bytes(r) for r in students]
    if where[0] <= size:
        curve = np.interp(
            np.log(size), np.log(where), [100 * r.quality for r in students]
        )
        points["Entropic Student"] = float(curve)
    ranked = sorted(points, key=lambda name: -points[name])
    order = " > ".join(f"{name} {points[name]:.2f}" for name in ranked)
    claim = [
        "Entropic Student",
        "GHND",
        "HND",
        "Knowledge distillation",
        "Cross-entropy",
    ]
    held = [
        f"{a} >= {b}: {'holds' if points[a] >= points[b] else 'does not hold'}"
        for a, b in pairwise(claim)
        if a in points and b in points
    ]
    return [
        f"At {size:.0f} bytes (Entropic Student by interpolation on log bytes between "
        f"its betas, or at its largest size if that is below), top-1 %: {order}.",
        "",
        "The survey's order at equal steps: " + "; ".join(held) + ".",
    ]


def section(title: str, folder: Path, body: list[str]) -> list[str]:
    facts = facts_of(folder)
    machine = ", ".join(f"{k} {v}" for k, v in facts["machine"].items())
    return [
        f"## {title}",
        "",
        f"{facts['date'][:10]}; {machine}; split: {facts['split']}.",
        "",
        f"    {anonymous(facts['command'])}",
        "",
        *body,
        "",
    ]


def table(rows: list[Row]) -> list[str]:
    return ["```", *report.table(rows).splitlines(), "```"]


def coder(path: str) -> list[str]:
    """Speeds of speed.coder_speed, and the ratio to our C kernel in that run."""
    report_ = json.loads(Path(path).read_text())
    lines = [
        "| bit/symbol | coder | bytes | over ideal | encode M symbols/s | decode | "
        "ours over it, encode | decode |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report_["rows"]:
        same = [r for r in report_["rows"] if r["rate"] == row["rate"]]
        ours = next(r for r in same if r["coder"] == "sc_jax C")
        over = row["size_bytes"] / row["ideal_bytes"] - 1
        ratios = [ours[k] / row[k] for k in ("encode_median", "decode_median")]
        lines.append(
            f"| {row['bits_per_symbol']:.2f} | {row['coder']} | {row['size_bytes']} | "
            f"{100 * over:+.3f} % | {row['encode_median']:.1f} | "
            f"{row['decode_median']:.1f} | {ratios[0]:.1f} | {ratios[1]:.1f} |"
        )
    return [
        "## Entropy coder",
        "",
        f"{report_['date'][:10]}; {report_['machine']}; {report_['threads']} thread; "
        f"seed {report_['seed']}; medians of {report_['runs']} interleaved rounds on a "
        f"24 x 55 x 55 latent; versions {report_['versions']}.",
        "",
        "    python -m benchmarks.speed.coder_speed --runs=" + str(report_["runs"]),
        "",
        *lines,
        "",
    ]


def throughput(paths: list[str]) -> list[str]:
    """Stage-1 steps of speed.train_throughput beside PyTorch's in the same run."""
    reports = [json.loads(Path(path).read_text()) for path in paths]
    lines = [
        "| side | batch | CPU-s a step | examples per CPU-s | share of GEMM rate | "
        "best PyTorch CPU-s a step | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in sorted(reports, key=lambda r: (-r["flags"]["side"], r["flags"]["batch"])):
        best = min((t["cpu_s_per_step"] for t in r["torch"]), default=float("nan"))
        lines.append(
            f"| {r['flags']['side']} | {r['flags']['batch']} | "
            f"{r['cpu_s_per_step']:.3g} | {r['examples_per_cpu_s']:.3g} | "
            f"{r['peak_share_cpu']:.2f} | {best:.3g} | "
            f"{r['cpu_s_per_step'] / best:.2f} |"
        )
    first = reports[0]
    return [
        "## Training step",
        "",
        f"{first['date'][:10]}; {first['machine']}; {first['device']}; seed "
        f"{first['flags']['seed']}; versions {first['versions']}. Stage 1 of the "
        "Entropic Student on ResNet-50, random images, one core. The machine was "
        "shared, so only CPU seconds and their ratios within a run are given.",
        "",
        "    python -m benchmarks.speed.train_throughput --side=SIDE --batch=BATCH",
        "",
        *lines,
        "",
    ]


def main(_):
    out, page = Path(OUT.value), []
    file = out / "results.md"
    old = file.read_text() if file.exists() else ""
    folders = [Path(folder) for folder in EMBEDDED.value]
    if folders:
        body = [
            *embedded(folders),
            "",
            f"Seed {facts_of(folders[0])['seed']} in full:",
            "",
        ]
        body += table(report.read(folders[0]))
        shutil.copy(folders[0] / "rate_accuracy.png", out / "embedded.png")
        body += ["", "![accuracy against bytes](embedded.png)"]
        page += section("The first command, on the embedded set", folders[0], body)
    if METHODS.value:
        seeds = sorted(Path(METHODS.value).glob("seed=*"))
        for folder in seeds:
            rows = report.read(folder)
            body = [CPU_ONLY, "", *claims(rows), "", *table(rows)]
            title = f"Training methods on CIFAR-10, {folder.name}"
            page += section(title, folder, body)
        plots.rate_accuracy(
            report.read(seeds[0]), out / "results.png", "Training methods on CIFAR-10"
        )
        page += ["![accuracy against bytes](results.png)", ""]
    if CODER.value:
        page += coder(CODER.value)
    if THROUGHPUT.value:
        page += throughput(THROUGHPUT.value)
    if BUNDLES.value:
        page += heads.bundles(BUNDLES.value)
    if DESIGNS.value:
        page += heads.designs(DESIGNS.value)
    if TRADE.value:
        page += trade.trade(TRADE.value, out, old)
    if BASELINES.value:
        page += baselines.head_vs_baselines(BASELINES.value, out)
    if SERVING.value:
        page += heads.serving(SERVING.value)
    for made in EXITS.value:
        page += early_exits.section(made, out)
    for made in EXECUTORS.value:
        page += executors.section(made)
    file.write_text(merged(old, [anonymous(line) for line in page]))


CPU_ONLY = """\
No accelerator was at hand: the teacher is the small `cnn`, not a ResNet, and the
schedules are the short ones of the command, batches of 64."""
if __name__ == "__main__":
    cli.start(main)
