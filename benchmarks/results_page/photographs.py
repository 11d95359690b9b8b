"""Section of the results page on learned heads at 224 pixels, beside image files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.methods.bits import draw
from benchmarks.results_page import page
from sc_jax.evaluate import bd_rate
from sc_jax.evaluate.reports import plots, report
from sc_jax.evaluate.reports.report import Row

TITLE = "Photographs at 224 x 224: heads behind the teacher's own stages, and files"
PICTURE, BITS = "photographs.png", "bits.png"
AGREEMENT = "agreement"  # folder in a run's, of launch.evaluate --agreement
COLUMNS = (
    "what is sent", "top-1 %", "against the teacher", "agreement %", "bytes (p95)",
    "best file as accurate", "its bytes", "share",
)  # fmt: skip


def against_files(folders: Sequence[Path], out: Path) -> list[str]:
    """launch.train's runs of one teacher and test set; the first has the files' rows.

    A file as accurate: its bytes at the top-1 of the row, on its own curve of qualities
    (interpolated as BD-rate is); of all formats the fewest.
    """
    files = [row for row in report.read(folders[0]) if row.family != "learned"]
    learned = {folder: _learned(folder) for folder in folders}
    rows = [row for found in learned.values() for row, _ in found]
    plots.rate_accuracy([*rows, *files], out / PICTURE, "Photographs at 224 x 224")
    teacher = next(row.quality for row in files if row.method == "teacher")
    curves = {
        method: bd_rate.frontier([(plots.mean_bytes(r), r.quality) for r in curve])
        for method, curve in plots.curves(files).items()
        if curve[0].family == "classical" and len(curve) > 1
    }
    lines = [
        _line(row, agreement, teacher, curves)
        for folder in folders
        for row, agreement in learned[folder]
    ]
    facts = json.loads((folders[0] / "report.json").read_text())["facts"]
    body = [
        f"Teacher {100 * teacher:.1f} % of {files[0].examples} photographs. Trained on "
        "photographs without labels; one seed.",
        "",
        *map(_training, folders),
        "",
        *page.rows(COLUMNS, lines),
        "",
        "BD-rate (bytes at equal top-1, negative is fewer):",
        "",
        *map(bd_rate.sentence, bd_rate.of_rows([*rows, *files])),
        "",
        f"![top-1 against bytes]({PICTURE})",
        "",
        "The files in full:",
        "",
        "```",
        *report.table(files).splitlines(),
        "```",
    ]
    command = "\n    ".join(map(command_of, folders))
    return page.section(TITLE, f"{page.where(facts)}.", command, body)


def bits(file: Path, out: Path) -> list[str]:
    """benchmarks.methods.where_bits_go: by channel and by place, with its picture."""
    report = json.loads(file.read_text())
    rows = report["rows"]
    draw(rows, out / BITS)
    columns = ("run", "bytes", "latent", "bits a symbol", "most usual value %")
    columns += ("channels of half the bits", "of 90 %", "silent", "edge / middle")
    lines = [
        (
            row["name"],
            f"{row['bytes']:,.0f}",
            " x ".join(map(str, row["shape"])),
            f"{row['bits_a_symbol']:.3f}",
            f"{100 * row['most_usual']:.1f}",
            row["channels_of_half"],
            row["channels_of_90"],
            row["silent_channels"],
            f"{row['edge_to_middle']:.2f}",
        )
        for row in rows
    ]
    facts = (
        f"{page.where(report)}. Means over {report['examples']} test photographs. A "
        "symbol costs -log2 of its share in the table that codes it. silent: channels "
        "with less than a hundredth of an even share; edge / middle: bits of a place "
        "on the latent's border against one inside."
    )
    body = [*page.rows(columns, lines), "", f"![bits by channel and place]({BITS})"]
    return page.section(
        "Where the bits of heads at 224 x 224 go", facts, report["command"], body
    )


def command_of(folder: Path) -> str:
    """What trained a run, by its recipe.json: a report names what measured it last."""
    saved = json.loads((folder / "recipe.json").read_text())
    source, init = saved["source"], saved["init"]
    knobs = ",".join(f"{name}={value}" for name, value in source["knobs"].items())
    text = f"python -m launch.train --recipe={source['recipe']}:{knobs}"
    text += "".join(f" --set={override}" for override in source.get("overrides", ()))
    text += f" --workdir={folder.name}" + (f" --init={init}" if init else "")
    return page.anonymous(text)


def _training(folder: Path) -> str:
    """Images seen and hours of a run."""
    facts = json.loads((folder / "report.json").read_text())["facts"]
    saved = json.loads((folder / "recipe.json").read_text())["recipe"]
    images = sum(facts["phases"].values()) * saved["data"]["batch_size"]
    row = next(row for row in report.read(folder) if row.family == "learned")
    seconds = (row.seconds or {}).get("training", float("nan"))
    return f"- `{folder.name}`: {images:,} images seen in {seconds / 3600:.2f} hours."


def _learned(folder: Path) -> list[tuple[Row, float | None]]:
    """Each learned row of a run, and its agreement with the teacher where measured."""
    rows = [row for row in report.read(folder) if row.family == "learned"]
    # Several rates of one network are a curve of their own.
    if len(rows) > 1:
        rows = [replace(r, method=f"{r.method}, one network") for r in rows]
    measured = folder / AGREEMENT
    found: list[float | None] = [None] * len(rows)
    if measured.exists():
        same = [row for row in report.read(measured) if row.family == "learned"]
        found = [row.quality for row in same]
    return list(zip(rows, found, strict=True))


def _line(
    row: Row,
    agreement: float | None,
    teacher: float,
    curves: Mapping[str, np.ndarray],
) -> tuple[str, ...]:
    sizes = {name: bytes_at(curve, row.quality) for name, curve in curves.items()}
    fits = {name: size for name, size in sizes.items() if size is not None}
    name = min(fits, key=fits.__getitem__, default="")
    mean, tail = row.payload_bytes or (0.0, 0.0)
    best = fits.get(name, np.nan)
    return (
        f"{row.method}, {row.setting}",
        f"{100 * row.quality:.1f}",
        f"{100 * (row.quality - teacher):+.1f}",
        "" if agreement is None else f"{100 * agreement:.1f}",
        f"{mean:,.0f} ({tail:,.0f})",
        name.removeprefix("edge-only ") or "none",
        f"{best:,.0f}" if name else "",
        f"{100 * mean / best:.0f} %" if name else "",
    )


def bytes_at(frontier: np.ndarray, quality: float) -> float | None:
    """Bytes at a quality on a frontier (bytes and quality rising); None: out of it."""
    if quality > frontier[-1, 1]:
        return None
    if quality <= frontier[0, 1]:  # its least file is as good, or better
        return float(frontier[0, 0])
    logs = np.log(frontier[:, 0])
    return float(np.exp(np.interp(quality, frontier[:, 1], logs)))
