"""The JSON and the table of timed heads: one shape, wherever they were timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NONE = "–"


@dataclass(frozen=True)
class Head:
    """One timed head; None is what nobody measured, `missing` says why where known.

    *_ms: median, p95, min, mean. operations: of the file, as plan.op_cost has
    them. profile: {"by", "runs", "operations"}, as op_profile or benchmark_model do.
    """

    bundle: str | None
    head_ms: dict[str, float | None]
    model: str | None = None
    dtype: str | None = None
    model_bytes: int | None = None
    payload_bytes: float | None = None
    delegate: str | None = None
    delegate_partitions: int | None = None
    init_ms: float | None = None
    first_ms: float | None = None
    code_ms: dict[str, float | None] | None = None  # symbols to bytes
    cpu_ms: dict[str, float | None] | None = None  # of all threads together
    memory_bytes: dict[str, int] | None = None  # growth of the process: init, overall
    energy: dict[str, Any] | None = None
    macs: int | None = None
    operations: list[dict] | None = None
    profile: dict[str, Any] | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A run and its heads. `by`: the program that called the interpreter."""

    date: str
    command: str
    by: str
    heads: tuple[Head, ...]
    machine: str | None = None
    processor: str | None = None
    versions: dict[str, str] | None = None
    threads: int | None = None
    warm_up: int | None = None
    runs: int | None = None
    gemm_gflop_per_s: dict[str, float] | None = None
    peak_memory_bytes: int | None = None


def table(report: Report, rows: int = 5) -> str:
    """Lines for a terminal: a head a line, then its `rows` slowest operations."""
    heading = ["bundle", "dtype", "kB", "median ms", "p95", "min", "ratio"]
    heading += ["code ms", "B", "MMAC", "mJ"]
    first = _main(report.heads[0])
    cells = [heading, *(_cells(head, first) for head in report.heads)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "  ".join(f"{c:{'<' if i < 2 else '>'}{w}}" for i, (c, w) in enumerate(pairs))
        for pairs in (list(zip(line, widths)) for line in cells)
    ]
    if report.gemm_gflop_per_s:
        lines.append(f"GEMM {report.gemm_gflop_per_s['median']:.1f} GFLOP/s (median)")
    if report.peak_memory_bytes:
        lines.append(f"peak memory {report.peak_memory_bytes / 2**20:.0f} MiB")
    for head in report.heads:
        if head.profile:
            lines += ["", *_slowest(head, head.profile, rows)]
        lines += [f"{head.bundle}: no {k}: {why}" for k, why in head.missing.items()]
    return "\n".join(lines)


def _cells(head: Head, first: float | None) -> list[str]:
    ms, own = head.head_ms, _main(head)
    return [
        head.bundle or NONE,
        head.dtype or NONE,
        _number(head.model_bytes, 1e-3, 0),
        _number(ms["median"], 1, 3),
        _number(ms["p95"], 1, 3),
        _number(ms["min"], 1, 3),
        _number(own / first if own and first else None, 1, 2),
        _number((head.code_ms or {}).get("median"), 1, 3),
        _number(head.payload_bytes, 1, 0),
        _number(head.macs, 1e-6, 1),
        _number((head.energy or {}).get("j_per_inference"), 1e3, 2),
    ]


def _slowest(head: Head, profile: dict, rows: int) -> list[str]:
    found: Sequence[dict] = profile["operations"]
    whole = sum(row["ms"] for row in found)
    top = sorted(found, key=lambda row: -row["ms"])[:rows]
    title = f"{head.bundle}: {len(found)} operations, {whole:.3f} ms"
    return [f"{title}, {profile['by']}"] + [
        f"  {row['ms']:8.3f} ms {row['share']:6.1%}  {row['node']} {row['name']}"
        for row in top
    ]


def _main(head: Head) -> float | None:
    """What ratios are to: the median, or the mean of a tool too old to print it."""
    return head.head_ms["median"] or head.head_ms["mean"]


def _number(value: float | None, scale: float, digits: int) -> str:
    return NONE if value is None else f"{scale * value:.{digits}f}"
