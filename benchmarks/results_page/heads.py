"""Sections of docs/results.md about exported heads and the edge server."""

import json
from pathlib import Path


def where(report: dict) -> str:
    """Date and machine of a benchmark's JSON."""
    machine = ", ".join(f"{k} {v}" for k, v in report["machine"].items())
    return f"{report['date'][:10]}; {machine}"


def machine_kind(report: dict) -> str:
    """ ", avx2": what a title adds, so that runs of other processors stay beside."""
    kind = report["machine"].get("instructions")
    return f", {kind}" if kind else ""


def bundles(folders: list[str]) -> list[str]:
    """Manifests of launch.export: what each head keeps of accuracy and bytes."""
    lines = [
        "| input | student | dtype | kB | other symbols than JAX | top-1 % (JAX) |"
        " bytes (JAX) | before refitting |",
        "|---|---|---|---|---|---|---|---|",
    ]
    versions: dict = {}
    for folder in folders:
        manifest = json.loads((Path(folder) / "manifest.json").read_text())
        facts, parts = manifest["facts"], manifest["parts"]
        size = sum(parts[f"{name}.tflite"]["bytes"] for name in manifest["segments"])
        proof, versions = facts["proof"], facts["versions"]
        parities = [each["parity"] for each in facts["segments"].values()]
        share = sum(p["different"] for p in parities)
        share *= 100 / sum(p["symbols"] for p in parities)
        lines.append(
            f"| {' x '.join(map(str, facts['input']))} | {facts['setting']} "
            f"| {facts['dtype']} | {size / 1e3:.0f} | "
            f"{share:.2f} % | {100 * proof['top1']:.2f} "
            f"({100 * proof['top1_jax']:.2f}) | {proof['payload_bytes']:.2f} "
            f"({proof['payload_bytes_jax']:.2f}) | "
            f"{proof['payload_bytes_before_refit']:.2f} |"
        )
    return [
        "## Heads as .tflite",
        "",
        "Test images through the exported head, its tables, the decoder and the tail; "
        f"calibration and refitting saw training images only. {versions}.",
        "",
        "    python -m launch.export --workdir=WORKDIR --out=BUNDLE --dtype=DTYPE",
        "",
        *lines,
        "",
    ]


def designs(path: str) -> list[str]:
    """speed.head_designs: time and multiplications of every stem at one size."""
    report = json.loads(Path(path).read_text())
    lines = [
        "| pair | dtype | float ops | MMAC | kB | delegate partitions | median ms |"
        " ratio | share of GEMM rate |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for head in report["heads"]:
        lines.append(
            f"| {head['pair']} | {head['dtype']} | {', '.join(head['float_ops'])} | "
            f"{head['macs'] / 1e6:.0f} | {head['model_bytes'] / 1e3:.0f} | "
            f"{head['partitions']} | {head['median_ms']:.2f} | {head['ratio']:.2f} | "
            f"{head['gemm_share']:.2f} |"
        )
    return [
        f"## Head designs at {report['image_size']} x {report['image_size']}"
        + machine_kind(report),
        "",
        f"{where(report)}; one thread, random weights, medians of "
        f"{report['runs']} interleaved rounds; GEMM {report['gemm_gflop_per_s']:.1f} "
        "GFLOP/s in the same run.",
        "",
        f"    {report['command'].strip()}",
        "",
        *lines,
        "",
    ]


def serving(path: str) -> list[str]:
    """benchmarks.serving.load: throughput and latency, batched and not."""
    report = json.loads(Path(path).read_text())
    lines = [
        "| max batch | clients | answers/s | p50 ms | p95 ms | p99 ms | mean batch |"
        " errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        times = " | ".join(f"{1e3 * row[f'p{q}_s']:.1f}" for q in (50, 95, 99))
        lines.append(
            f"| {row['max_batch']} | {row['clients']} | {row['answers_per_s']:.0f} | "
            f"{times} | {row['mean_batch']:.1f} | {row['errors']} |"
        )
    return [
        "## Edge server under load",
        "",
        f"{where(report)}. {report['net']}, frames of "
        f"{report['frame_bytes']:.0f} bytes, {report['seconds']:g} s a row; server and "
        "clients share the cores.",
        "",
        f"    {report['command'].strip()}",
        "",
        *lines,
        "",
    ]
