"""The report of a head that benchmark_model timed on a device, and of its bundle."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from benchmarks.speed import timed_head
from benchmarks.speed.head_report import Head, Report
from sc_jax.errors import UsageError
from sc_jax.plan import benchmark_model

ABSENT = "not in the output of benchmark_model"


def report(text: str, file: str, bundles: Sequence[str], **origin: Any) -> Report:
    """What `file` holds, `text`; bundles: the one that ran there, or none.

    UsageError for a log without a timing, or of another file than the bundle's.
    """
    if len(bundles) > 1:
        raise UsageError("--from-benchmark-model takes one bundle or none")
    found = benchmark_model.read(text, file)
    graph = PurePosixPath(found.graph).name if found.graph else None
    size = found.model_bytes
    known: dict[str, Any] = {"bundle": graph, "model_bytes": size}
    if bundles:
        known = timed_head.facts(bundles[0])
    own = known["model_bytes"]
    # The log has six digits of a size: equal within them is the same file.
    if size is not None and abs(size - own) > 1e-5 * size:
        raise UsageError(
            f"{file} timed a file of {size} bytes, the head of {bundles[0]} has {own}: "
            "give the bundle whose head.tflite ran there"
        )
    missing, profile = {"energy": ABSENT}, None
    if found.operations:
        rows = [asdict(row) for row in found.operations]
        profile = {"by": "benchmark_model", "runs": found.runs, "operations": rows}
    else:
        missing["profile"] = f"{ABSENT}: run it with --enable_op_profiling=true"
    head = Head(
        **known,
        head_ms=found.head_ms,
        delegate=found.delegate,
        delegate_partitions=found.delegate_partitions,
        init_ms=found.init_ms,
        first_ms=found.first_ms,
        memory_bytes=found.memory_bytes,
        profile=profile,
        missing=missing,
    )
    return Report(
        **origin,
        by="benchmark_model",
        heads=(head,),
        machine=found.device,
        processor=found.cores,
        threads=found.threads,
        warm_up=found.warm_up,
        runs=found.runs,
        peak_memory_bytes=found.peak_memory_bytes,
    )
