"""Section of benchmarks.speed.layer_regression: layers' seconds predicted, held out."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.results_page import page
from benchmarks.speed.layer_errors import lines


def regression(file: Path) -> list[str]:
    """Errors by kind of layer and by network, each family predicted from the others."""
    report = json.loads(file.read_text())
    families = {layer["family"] for layer in report["layers"]}
    whole = {name: each["error"] for name, each in report["errors"].items()}
    count = len(report["layers"])
    facts = (
        f"{page.where(report)}. {count} layers of {len(report['whole_s'])} untrained "
        f"networks in {len(families)} families ({', '.join(sorted(families))}), "
        f"{report['threads']} thread, the least of {report['rounds']} inferences: "
        "other programs had the machine too. Every family is predicted from the others "
        "alone (blocks of MobileNetV2 and of EfficientNet-Lite are alike). paper: the "
        "linear or the logarithmic form of Neurosurgeon, whichever held-out networks "
        "of the fit prefer; ours: a price for multiplications and bytes beside them. "
        "error, layers: sum of |predicted - measured| over the sum measured; median: "
        "of relative errors of layers of 10 us or more; sum: of the whole network. "
        + "; ".join(f"all layers, {n}: {100 * e:.0f} %" for n, e in whole.items())
        + "."
    )
    title = "Layers' seconds by regression, on networks held out"
    return page.section(title, facts, report["command"], lines(report["errors"]))
