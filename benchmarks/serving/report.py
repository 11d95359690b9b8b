"""What the load benchmarks of the edge server leave behind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.origin import origin
from sc_jax.evaluate.reports.report import machine


def write(
    out: str | None, rows: list[dict], sent: Sequence[bytes], **facts: Any
) -> None:
    """`rows` and how they were measured as JSON; nothing without `out`."""
    sizes = [len(data) for data in sent]
    report = {
        **origin(),
        "machine": machine(),
        "frame_bytes": float(np.mean(sizes)),
        **facts,
        "rows": rows,
    }
    if out:
        Path(out).write_text(json.dumps(report, indent=1) + "\n")
