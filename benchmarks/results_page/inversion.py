"""Section of benchmarks.methods.inversion: what an attacker sees of each cut."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.methods.inversion_attack import COLUMNS, line
from benchmarks.results_page import page


def inversion(file: Path, out: Path) -> list[str]:
    """PSNR and SSIM by cut; the picture, of the file's name, where `out` has it.

    Photographs need not be anybody's to publish.
    """
    report = json.loads(file.read_text())
    seen = report["steps"] * report["batch"]
    facts = (
        f"{page.where(report)}. {report['network']} on {report['data']}, "
        f"{report['side']} pixels; latents as {report['codec']}, decoded from their "
        f"bytes. The attacker's decoder ({report['width']} channels) saw {seen:,} "
        f"examples of {report['fitted']:,} training images; figures are of "
        f"{report['images']} test images, ± a standard error. A better attack sees "
        "more: they are no upper bound. no message: the mean training image."
    )
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    body = [*table, *map(line, report["rows"])]
    if (out / (picture := f"{file.stem}.png")).exists():
        body += ["", f"![by cut]({picture})"]
    title = f"What messages show of the image: {report['network']} ({report['data']})"
    return page.section(title, facts, report["command"], body)
