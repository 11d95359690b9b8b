"""One experiment's results: rows, a table, report.json, report.md and a picture."""

import contextlib
import dataclasses
import importlib.metadata
import math
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sc_jax import foreign
from sc_jax.errors import UsageError
from sc_jax.evaluate import bd_rate
from sc_jax.evaluate.reports import plots, sending

NONE, SHARE = "–", "%"
COLLAPSED = (
    "the rate collapsed: each payload has 0 bytes, so that all images get one answer "
    "behind the split; train with a smaller weight of the rate"
)

AGAIN = "measure it again: python -m launch.evaluate --workdir=..."


@dataclass(frozen=True)
class Row:
    """One method at one setting, measured on one split."""

    method: str  # rows of one method form one curve: "edge-only PNG"
    setting: str  # the point on the curve: "", "q=50", "beta=0.32"
    family: str  # "reference" | "classical" | "learned" | ...
    quality: float  # the task's figure of the set, higher is better
    examples: int  # how many it was measured on
    payload_bytes: tuple[float, float] | None  # mean, 95th percentile an example
    framed_bytes: tuple[float, float] | None  # the same with headers and checksums
    pickle_bytes: tuple[float, float] | None  # of a dict of bytes and shape
    estimated_bits: float | None  # mean an example, by the prior of training
    head_parameters: int  # what the device holds
    head_macs: int  # what the device runs an example
    seconds: dict[str, float] | None = None
    metric: str = "top-1"  # what quality is
    unit: str = SHARE  # of quality; a share in 0..1 is shown in percent
    data_bytes: tuple[float, float] | None = None  # of a file without its container
    forwarded_bytes: tuple[float, float] | None = None  # payload from edge to cloud

    def __post_init__(self) -> None:
        if self.unit == SHARE and not 0 <= self.quality <= 1:
            raise UsageError(
                f"{self.method}: {self.metric} is a share in 0..1, not {self.quality}"
            )


def write(rows: Sequence[Row], workdir: str | Path, *, title: str, facts: dict) -> None:
    """Writes report.json, report.md and rate_accuracy.png, each in one step.

    facts: what it takes to repeat the run (date, seed, command, data set, machine);
    `facts["split"]`, "test" unless said, is named beside every number.
    """
    if not rows:
        raise UsageError("a report takes at least one row")
    if len(found := {heading(row) for row in rows}) > 1:
        raise UsageError(
            f"rows of one report share a metric: {', '.join(sorted(found))}"
        )
    facts = {**facts, "split": facts.get("split", "test")}
    split = facts["split"]
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    document = {
        "title": title,
        "facts": facts,
        "rows": [{"split": split, **dataclasses.asdict(row)} for row in rows],
        "bd_rates": [{"split": split, **entry} for entry in bd_rate.of_rows(rows)],
    }
    # All text first: what cannot be written must not leave half a report behind.
    text = foreign.sealed(document, indent=2, allow_nan=False, default=plain)
    page = _markdown(rows, title, facts)
    with draft(workdir / "report.json") as path:
        path.write_bytes(text)
    with draft(workdir / "report.md") as path:
        path.write_text(page, "utf-8")
    with draft(workdir / "rate_accuracy.png") as path:
        plots.rate_accuracy(rows, path, title, split=split)


def read(workdir: str | Path) -> list[Row]:
    """The rows `write` left in a directory."""
    path = Path(workdir) / "report.json"
    if not path.is_file():
        raise UsageError(f"no report in {str(workdir)!r}: {path.name} is missing")
    with foreign.reading(path, "report", AGAIN):
        rows = foreign.read_json(path, "report", AGAIN)["rows"]
        return [row_of(entry) for entry in rows]


def row_of(entry: dict) -> Row:
    """A row from its JSON; of reports of before there were other tasks, too."""
    if "top1" in entry:
        entry = {**entry, "quality": entry["top1"]}
    names = [field.name for field in dataclasses.fields(Row) if field.name in entry]
    values = {name: entry[name] for name in names}
    pairs = [name for name in names if name.endswith("_bytes")]
    return Row(**{**values, **{n: values[n] and tuple(values[n]) for n in pairs}})


def is_collapsed(row: Row) -> bool:
    """Whether a method that is to send something learnt to send nothing."""
    return (
        row.family == "learned"
        and row.payload_bytes is not None
        and not any(row.payload_bytes)
    )


def heading(row: Row) -> str:
    """Of a column of qualities: "top-1 %"."""
    return f"{row.metric} {row.unit}".strip()


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned plain text for a terminal."""
    return aligned(_tabled(rows))


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Headings and lines as plain text, the first two columns to the left."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    sides = "<<" + ">" * (len(widths) - 2)
    lines = [
        "  ".join(f"{c:{side}{w}}" for c, side, w in zip(line, sides, widths)).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


# The first that a processor has decides whether integers are faster than floats.
_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimddp", "asimd")


def machine() -> dict:
    """Where the numbers come from: processor, cores, platform, versions."""
    model, instructions = platform.processor(), {}
    info = Path("/proc/cpuinfo")
    if info.is_file():
        text = info.read_text()
        named = [s for s in text.splitlines() if s.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
        widest = [name for name in _INSTRUCTIONS if name in text.split()]
        instructions = {"instructions": widest[0]} if widest else {}
    versions = {p: importlib.metadata.version(p) for p in ("jax", "flax", "numpy")}
    return {
        "cpu": model or platform.machine(),
        **instructions,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **versions,
    }


_SIZES = ("bytes mean", "bytes p95", "data only", "framed", "pickled", "est. bits")


def _tabled(rows: Sequence[Row], split: str = "") -> list[list[str]]:
    """Headings, then the cells of each row; bytes to the cloud where any go there."""
    cells = [_headings(rows, split), *map(_cells, rows)]
    if any(row.forwarded_bytes for row in rows):
        onward = [row.forwarded_bytes and row.forwarded_bytes[0] for row in rows]
        column = ["to cloud", *(NONE if b is None else f"{b:,.1f}" for b in onward)]
        place = 3 + len(_SIZES)
        cells = [[*c[:place], new, *c[place:]] for c, new in zip(cells, column)]
    return cells


def _headings(rows: Sequence[Row], split: str = "") -> list[str]:
    of = heading(rows[0]) + (f" ({split})" if split else "")
    return ["method", "setting", of, *_SIZES, "encoder params", "encoder MACs"]


def _cells(row: Row) -> list[str]:
    p95 = row.payload_bytes and row.payload_bytes[1]
    pairs = (row.payload_bytes, row.data_bytes, row.framed_bytes, row.pickle_bytes)
    mean, data, framed, pickled = (pair and pair[0] for pair in pairs)
    sizes = (mean, p95, data, framed, pickled, row.estimated_bits)
    return [
        row.method,
        row.setting or NONE,
        f"{plots.shown(row):.2f}" if row.unit == SHARE else f"{row.quality:.4g}",
        *(NONE if size is None else f"{size:,.1f}" for size in sizes),
        human(row.head_parameters),
        human(row.head_macs),
    ]


def human(count: float) -> str:
    """Three digits and a unit: 0, 950, 12.3 k, 4.10 M, 1.20 G."""
    # Rounded before its unit is chosen: 999.7 thousand is 1.00 M, not 1000 k.
    count = float(f"{count:.3g}")
    power = min(int(math.log10(max(count, 1))), 14)
    unit = ["", " k", " M", " G", " T"][power // 3]
    digits = 2 - power % 3 if unit else 0
    return f"{count / 1000 ** (power // 3):.{digits}f}{unit}"


_HOW_TO_READ = """\
Every number is measured on the {split} split ({examples} examples). *Bytes* are what
one example's payload takes, mean and 95th percentile; *data only* leaves out what of a
file is no image data: container, headers, tables, nearly all that a file of one colour
has (its bytes are under the facts); *framed* adds the headers and checksums of the
wire; *pickled* is a pickled dict of payload and shape, as the SC2 benchmark (Matsubara
et al. 2023) takes it of entropy-coded latents (quantised ones it pickles as tensors,
about 1,050 bytes more); *est. bits* is what the training prior expects, beside what the
coder produced; *to cloud*, where an edge forwards, what its own split sends on (mean
payload). *Encoder* is what the device holds and runs for one example. {none}
means that it does not apply: nothing is sent, or nothing was measured. Up and
to the left is better in the picture."""


def _markdown(rows: Sequence[Row], title: str, facts: dict) -> str:
    examples = ", ".join(f"{n:,}" for n in sorted({row.examples for row in rows}))
    split = facts["split"]
    (headings, *cells), metric = _tabled(rows, split), rows[0].metric
    rules = ["---", "---", *["---:"] * (len(headings) - 2)]
    rates = [bd_rate.sentence(entry) for entry in bd_rate.of_rows(rows)]
    nought = [row for row in rows if is_collapsed(row)]
    collapsed = [f"- {row.method} {row.setting}: {COLLAPSED}" for row in nought]
    timed = [row for row in rows if row.seconds]
    times = [f"- {row.method} {row.setting}: {fact(row.seconds)}" for row in timed]
    modelled = sending.lines(rows)
    parts = [
        f"# {title}",
        _HOW_TO_READ.format(split=split, examples=examples, none=NONE),
        "\n".join(map(markdown_line, [headings, rules, *cells])),
        *(["\n".join(collapsed)] if collapsed else []),
        f"![{metric} against bytes](rate_accuracy.png)",
        f"## Bytes at equal {metric} (BD-rate, {split})",
        "\n".join(rates or ["- no learned curve has two settings"]),
        *(_sending(modelled, split) if modelled else []),
        *([f"## Seconds ({split})", "\n".join(times)] if times else []),
        "## Facts",
        "\n".join(f"- {name}: {fact(value)}" for name, value in facts.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _sending(modelled: Sequence[Sequence[str]], split: str) -> list[str]:
    headings, *cells = modelled
    rules = ["---", "---", *["---:"] * (len(headings) - 2)]
    table = "\n".join(map(markdown_line, [headings, rules, *cells]))
    return [f"## Latency of sending, modelled ({split})", sending.ABOUT, table]


def markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in value.items()
        )
    return f"`{value}`"


def plain(value: object) -> object:
    """NumPy and JAX numbers and arrays as JSON knows them; the rest as text."""
    return np.asarray(value).tolist() if hasattr(value, "dtype") else str(value)


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """A reader sees the old file or the new one, never half of one."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
