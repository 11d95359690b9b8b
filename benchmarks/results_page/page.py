"""docs/results.md as parts: one short file a section, joined in the order of names.

A part is Markdown from its "## title" on. What was measured anew replaces the part of
the same title; a new title comes last. Parts are also data: `table` reads one back, so
that a picture over several runs needs no more than the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PARTS = Path(__file__).parent / "parts"
INTRODUCTION = """\
# Results

Made by `python -m benchmarks.results_page.make` from the files that real runs left;
each section has its own date and machine, and compares only what one run measured.
Bytes are measured: each test image through the stored tables and the coder, and
accuracy is that of the decoded latent. The default's bottleneck, batch, beta and rates
were chosen on 20,000 images of the whole Fashion-MNIST training set that are in neither
split of the embedded cut, with the teachers of seeds 0 and 2; test tables of earlier
defaults had been seen by then.
"""


def joined(folder: Path = PARTS) -> str:
    """The whole page."""
    texts = [INTRODUCTION, *(path.read_text() for path in sorted(folder.glob("*.md")))]
    return "\n".join(texts)


def put(lines: Iterable[str], folder: Path = PARTS) -> None:
    """Writes each "## " section of these lines as a part."""
    text = "\n".join(anonymous(line) for line in lines) + "\n"
    paths = {title(path.read_text()): path for path in sorted(folder.glob("*.md"))}
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        name = title(part)
        last = max((int(p.name.partition("_")[0]) for p in paths.values()), default=0)
        # Steps of ten leave room to move a new part by renaming its file.
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower())[:40].strip("_")
        paths.setdefault(name, folder / f"{last - last % 10 + 10:03}_{slug}.md")
        paths[name].write_text(part.strip() + "\n")


def title(text: str) -> str:
    """ "## Entropy coder" and what follows -> "Entropy coder"."""
    return text.splitlines()[0].removeprefix("## ").strip()


def parts_of(start: str, folder: Path = PARTS) -> list[str]:
    """The parts whose titles start so."""
    texts = [path.read_text() for path in sorted(folder.glob("*.md"))]
    return [text for text in texts if title(text).startswith(start)]


def section(name: str, facts: str, command: str, body: Sequence[str]) -> list[str]:
    """Lines of a part: when and where it was measured, by what, and what came out."""
    return [f"## {name}", "", facts, "", f"    {command.strip()}", "", *body, ""]


def rows(columns: Sequence[str], cells: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a Markdown table."""
    head, *body = [
        "| " + " | ".join(map(str, line)) + " |" for line in (columns, *cells)
    ]
    return [head, "|" + "---|" * len(columns), *body]


def table(text: str) -> list[dict[str, str]]:
    """The first table of a part, a dict a row."""
    lines = text.splitlines()
    found = [line for line in lines if line.startswith("|")]
    # A part may hold several tables: the first ends where its lines do.
    if found:
        at = lines.index(found[0])
        stop = (i for i in range(at, len(lines)) if not lines[i].startswith("|"))
        found = lines[at : next(stop, len(lines))]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found]
    return [dict(zip(cells[0], row)) for row in cells[2:]]


def where(report: dict[str, Any]) -> str:
    """Date and machine of a benchmark's JSON."""
    machine = ", ".join(f"{k} {v}" for k, v in report["machine"].items())
    return f"{report['date'][:10]}; {machine}"


def machine_kind(report: dict[str, Any]) -> str:
    """ ", avx2": what a title adds, so that runs of other processors stay beside."""
    kind = report["machine"].get("instructions")
    return f", {kind}" if kind else ""


def anonymous(command: str) -> str:
    """A command without the folders that its data stood in; other lines as they are."""
    if not command.lstrip().startswith("python "):
        return command
    return re.sub(r"(?<![^\s=:,'\"])(?:/|~|\.\.?/)[^\s=:,'\"]*/", "", command)
