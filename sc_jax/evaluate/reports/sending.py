"""What sending takes, modelled: the survey's columns of latency and energy.

Tables 1 to 4 of Matsubara et al. 2022 (https://arxiv.org/abs/2103.04505) have them
beside accuracy, complexity and transferred bytes, which a report measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sc_jax.plan.link import LINKS, latency_s

if TYPE_CHECKING:
    from sc_jax.evaluate.reports.report import Row

ABOUT = """\
Milliseconds from the first byte sent to the answer: the mean framed bytes over a link's
rate, and its round trip (`--list=links`). A model, without anybody's computing; that is
timed on the device (docs/on_device.md). Energy has no column: the
links' presets state no watts of a radio, and `sc_jax.plan.device_j` takes yours."""


def lines(rows: Sequence[Row]) -> list[list[str]]:
    """Headings and a line for each row that sends something; [] where none does."""
    found = [
        [
            row.method,
            row.setting,
            *(f"{1e3 * latency_s(link, sent):,.1f}" for link in LINKS.values()),
        ]
        for row in rows
        if (sent := row.framed_bytes[0] if row.framed_bytes else 0)
    ]
    return [["method", "setting", *LINKS], *found] if found else []
