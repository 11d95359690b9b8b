"""The sections of benchmarks.methods.contexts: what coding in context saves."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.results_page import page

COLUMNS = ("level", "tables a channel", "fitted to", "bytes", "in context", "change %")
MORE = ("images that differ", "plain ms, encode", "decode", "in context ms, encode")
LAST = ("decode", "tables and weights", "fit, s")


def contexts(file: Path) -> list[str]:
    """One network's latents coded plainly and in context, by the context's size."""
    report = json.loads(file.read_text())
    lines = []
    for row in report["rows"]:
        (before, after), ms = row["bytes"], row["ms"]
        lines.append(
            (
                *(row["level"], row["classes"], row["fitted"]),
                *(f"{before:,.1f}", f"{after:,.1f}"),
                f"{100 * (after / before - 1):+.1f}",
                row["differing"],
                *(f"{value:.2f}" for value in ms.values()),
                f"{row['kept_bytes']:,}",
                f"{row['fit_s']:.1f}",
            )
        )
    facts = (
        f"{page.where(report)}. {report['recipe']}, {report['setting']}, latent "
        f"{' x '.join(map(str, report['latent']))}; means over {report['examples']} "
        f"examples of {report['data']}, contexts fitted to training images. "
        "Milliseconds are medians of an example alone, both coders in turn."
    )
    title = f"Latents in context: {report['recipe']} ({report['data']})"
    body = page.rows((*COLUMNS, *MORE, *LAST), lines)
    return page.section(title, facts, report["command"], body)
