"""Sections of the results page on speed: coder, training step, heads, executors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results_page import page
from benchmarks.speed import step_rounds


def coder(path: str) -> list[str]:
    """speed.coder_speed, and how often our C kernel does the work of each coder."""
    report = json.loads(Path(path).read_text())
    columns = ["bit/symbol", "coder", "bytes", "over ideal", "encode M symbols/s"]
    columns += ["decode", "ours over it, encode", "decode"]
    cells = []
    for row in report["rows"]:
        same = [r for r in report["rows"] if r["rate"] == row["rate"]]
        ours = next(r for r in same if r["coder"] == "sc_jax C")
        over = row["size_bytes"] / row["ideal_bytes"] - 1
        speeds = [row[key] for key in ("encode_median", "decode_median")]
        ratios = [ours[key] / row[key] for key in ("encode_median", "decode_median")]
        line = [f"{row['bits_per_symbol']:.2f}", row["coder"], row["size_bytes"]]
        line.append(f"{100 * over:+.3f} %")
        cells.append([*line, *(f"{number:.1f}" for number in speeds + ratios)])
    facts = (
        f"{report['date'][:10]}; {report['machine']}; {report['threads']} thread; "
        f"seed {report['seed']}; medians of {report['runs']} interleaved rounds on a "
        f"24 x 55 x 55 latent; versions {report['versions']}."
    )
    command = f"python -m benchmarks.speed.coder_speed --runs={report['runs']}"
    return page.section("Entropy coder", facts, command, page.rows(columns, cells))


def throughput(paths: Sequence[str]) -> list[str]:
    """Stage-1 steps of speed.train_throughput beside PyTorch's in the same run."""
    reports = [json.loads(Path(path).read_text()) for path in paths]
    columns = ["side", "batch", "CPU-s a step", "examples per CPU-s"]
    columns += ["share of GEMM rate", "best PyTorch CPU-s a step", "ratio"]
    cells = []
    for r in sorted(reports, key=lambda r: (-r["flags"]["side"], r["flags"]["batch"])):
        best = min((t["cpu_s_per_step"] for t in r["torch"]), default=float("nan"))
        step, rate = f"{r['cpu_s_per_step']:.3g}", f"{r['examples_per_cpu_s']:.3g}"
        line = [r["flags"]["side"], r["flags"]["batch"], step, rate]
        line += [f"{r['peak_share_cpu']:.2f}", f"{best:.3g}"]
        cells.append([*line, f"{r['cpu_s_per_step'] / best:.2f}"])
    first = reports[0]
    facts = (
        f"{first['date'][:10]}; {first['machine']}; {first['device']}; seed "
        f"{first['flags']['seed']}; versions {first['versions']}. Stage 1 of the "
        "Entropic Student on ResNet-50, random images, one core. The machine was "
        "shared, so only CPU seconds and their ratios within a run are given."
    )
    command = "python -m benchmarks.speed.train_throughput --side=SIDE --batch=BATCH"
    return page.section("Training step", facts, command, page.rows(columns, cells))


def shallow(path: str) -> list[str]:
    """speed.training_step: images a CPU second, what each change gave, the parts."""
    report = json.loads(Path(path).read_text())
    columns = ["window", "batch", "channels", "subject", "ms an image"]
    columns += ["images per CPU-s", "this step is quicker"]
    cells = []
    for row in report["cases"]:
        sizes = [row["case"][name] for name in ("window", "batch", "channels")]
        for name, own in row["subjects"].items():
            line = [*sizes, name, f"{own['ms_an_image']:.2f}"]
            line += [f"{own['images_per_cpu_s']:.1f}", f"{own['step_is_quicker']:.2f}"]
            cells.append(line)
    parts = step_rounds.in_parts(report)
    shares = [
        [part, *(f"{own[part]:.2f}" for own in parts.values())]
        for part in step_rounds.PARTS
    ]
    before, after = report["load"]
    facts = (
        f"{report['date'][:10]}; {report['machine']}; load {before:.1f} to "
        f"{after:.1f}; versions {report['versions']}. The Entropic Student's shallow "
        f"phase on {report['cases'][0]['case']['backbone']}, random images and "
        f"weights; CPU seconds, medians of {report['rounds']} interleaved rounds."
    )
    body = [
        "Subjects: step, this library; before, the one without these changes; no "
        "pages, no prior, no teacher, without one of them: memory that the process "
        "keeps, the prior's gradient in chunks, the teacher in portions; plain, XLA's "
        "own forms.",
        "",
        *page.rows(columns, cells),
        "",
        "Milliseconds an image of the parts of the first case:",
        "",
        *page.rows(["part", *parts], shares),
    ]
    return page.section("Shallow training step", facts, report["command"], body)


def designs(path: str) -> list[str]:
    """speed.head_designs: time and multiplications of every stem at one size."""
    report = json.loads(Path(path).read_text())
    columns = ["pair", "dtype", "float ops", "MMAC", "kB", "delegate partitions"]
    columns += ["median ms", "ratio", "share of GEMM rate"]
    cells = [
        [
            head["pair"],
            head["dtype"],
            ", ".join(head["float_ops"]),
            f"{head['macs'] / 1e6:.0f}",
            f"{head['model_bytes'] / 1e3:.0f}",
            head["partitions"],
            f"{head['median_ms']:.2f}",
            f"{head['ratio']:.2f}",
            f"{head['gemm_share']:.2f}",
        ]
        for head in report["heads"]
    ]
    side = report["image_size"]
    facts = (
        f"{page.where(report)}; one thread, random weights, medians of "
        f"{report['runs']} interleaved rounds; GEMM "
        f"{report['gemm_gflop_per_s']:.1f} GFLOP/s in the same run."
    )
    title = f"Head designs at {side} x {side}{page.machine_kind(report)}"
    return page.section(title, facts, report["command"], page.rows(columns, cells))


def executors(path: str) -> list[str]:
    """speed.exit_speed: how much of the saved MACs each executor turns into time."""
    report = json.loads(Path(path).read_text())
    before, after = report["load"]
    columns = ["batch", "executor", "ms (median)", "speed-up", "ideal"]
    columns += ["of the ideal, wall-clock", "of the ideal, CPU", "bar"]
    cells = []
    for row in (row for part in report["batches"] for row in part["rows"]):
        bar = report["bars"].get(row["executor"])
        line = [row["batch"], row["executor"], f"{row['wall_ms']['median']:.1f}"]
        line += [f"{row['speed_up']:.2f}", f"{row['ideal']:.2f}"]
        line += [f"{row['of_ideal']:.0%}", f"{row['of_ideal_cpu']:.0%}"]
        cells.append([*line, f"{bar:.0%}" if bar else ""])
    for part in report["batches"]:
        lossless = f"{part['could']['wall']:.2f}"
        cells.append([part["batch"], "could", "", lossless, "", "", "", ""])
    title = (
        f"Executors of early exits, {report['net']} at {report['side']} px, "
        f"{report['machine'].rpartition(', ')[2]}, load {before:.1f}"
    )
    facts = (
        f"{report['date']}; {report['machine']}; {report['device']}; load "
        f"{before:.1f} to {after:.1f}; untrained weights, "
        f"thresholds solved on the timed batch for shares {report['shares']}."
    )
    body = [
        "Speed-up over the network without exits, in turns within one run; ideal is "
        "the ratio of MACs with exit classifiers. Could is each segment's own time at "
        "the full batch times who gets there: a share over 100 % comes from late "
        "segments that are slow for their MACs, not from the executor.",
        "",
        *page.rows(columns, cells),
    ]
    return page.section(title, facts, report["command"], body)
