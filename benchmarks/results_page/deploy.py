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
        f"{100 * proof['top1']:.2f} ({100 * proof['top1_jax']:.2f})",
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
