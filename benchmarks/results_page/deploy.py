"""Sections of the results page on exported heads and the edge server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results_page import page


def bundles(folders: Sequence[str]) -> list[str]:
    """Manifests of launch.export: what each head keeps of accuracy and bytes."""
    columns = ["input", "student", "dtype", "kB", "other symbols than JAX"]
    columns += ["top-1 % (JAX)", "bytes (JAX)", "before refitting"]
    manifests = [
        json.loads((Path(folder) / "manifest.json").read_text()) for folder in folders
    ]
    facts = (
        "Test images through the exported head, its tables, the decoder and the tail; "
        "calibration and refitting saw training images only. "
        f"{manifests[-1]['facts']['versions']}."
    )
    command = "python -m launch.export --workdir=WORKDIR --out=BUNDLE --dtype=DTYPE"
    body = page.rows(columns, map(_bundle, manifests))
    return page.section("Heads as .tflite", facts, command, body)


def _bundle(manifest: dict) -> list[str]:
    """One line: size, symbols that differ from JAX's, accuracy and bytes of both."""
    facts, parts = manifest["facts"], manifest["parts"]
    size = sum(parts[f"{name}.tflite"]["bytes"] for name in manifest["segments"])
    proof = facts["proof"]
    parities = [each["parity"] for each in facts["segments"].values()]
    different = sum(p["different"] for p in parities)
    share = 100 * different / sum(p["symbols"] for p in parities)
    sent, sent_jax = proof["payload_bytes"], proof["payload_bytes_jax"]
    return [
        " x ".join(map(str, facts["input"])),
        facts["setting"],
        facts["dtype"],
        f"{size / 1e3:.0f}",
        f"{share:.2f} %",
        f"{100 * proof['quality']:.2f} ({100 * proof['quality_jax']:.2f})",
        f"{sent:.2f} ({sent_jax:.2f})",
        f"{proof['payload_bytes_before_refit']:.2f}",
    ]


def serving(path: str) -> list[str]:
    """benchmarks.serving.load: throughput and latency, batched and not."""
    report = json.loads(Path(path).read_text())
    columns = ["max batch", "clients", "answers/s", "p50 ms", "p95 ms", "p99 ms"]
    columns += ["mean batch", "errors"]
    cells = [
        [
            row["max_batch"],
            row["clients"],
            f"{row['answers_per_s']:.0f}",
            *(f"{1e3 * row[f'p{q}_s']:.1f}" for q in (50, 95, 99)),
            f"{row['mean_batch']:.1f}",
            row["errors"],
        ]
        for row in report["rows"]
    ]
    facts = (
        f"{page.where(report)}. {report['net']}, frames of "
        f"{report['frame_bytes']:.0f} bytes, {report['seconds']:g} s a row; server and "
        "clients share the cores."
    )
    body = page.rows(columns, cells)
    return page.section("Edge server under load", facts, report["command"], body)


def protocol(path: str) -> list[str]:
    """benchmarks.serving.protocol_comparison: two checkouts serve in turns."""
    report = json.loads(Path(path).read_text())
    figures = {
        "answers_per_s": "answers/s",
        "p50_s": "p50",
        "p95_s": "p95",
        "cpu_s": "CPU",
    }
    columns = ["clients", "answers/s before", "now"]
    columns += [f"{name} ratio (best round)" for name in figures.values()] + ["errors"]
    cells = [
        [
            row["clients"],
            f"{row['answers_per_s']['before']:.0f}",
            f"{row['answers_per_s']['now']:.0f}",
            *(f"{row[f]['ratio']:.2f} ({row[f]['best_ratio']:.2f})" for f in figures),
            row["errors"],
        ]
        for row in report["rows"]
    ]
    facts = (
        f"{page.where(report)}. The edge server and its client before they took up the "
        "Open Inference Protocol, and now, each from its own checkout, one tail "
        f"file, frames of {report['frame_bytes']:.0f} bytes; both servers up, "
        f"{report['rounds']} rounds of {report['seconds']:g} s in turns on cores that "
        "other programs shared. Ratios are now / before, medians over the rounds; CPU "
        "is what server and clients computed an answer."
    )
    body = page.rows(columns, cells)
    return page.section("Edge server, two protocols", facts, report["command"], body)
