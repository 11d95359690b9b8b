"""Where a peer's training of a teacher writes: nothing lost, nothing mixed."""

from __future__ import annotations

import json
from pathlib import Path

from launch import cli


def places(out: str, settings: dict) -> tuple[Path, Path]:
    """(checkpoint, its facts) to be written; UsageError where something would be lost.

    settings: kept beside the unfinished training, which only the same may go on with.
    """
    file = Path(out)
    if file.suffix != ".pth":
        raise cli.UsageError(f"--out is a checkpoint, NAME.pth, not {file}")
    facts, note = file.with_suffix(".json"), file.with_suffix(".partial.json")
    for each in (file, facts):
        if each.exists():
            raise cli.UsageError(f"{each} is there: move it, or give another --out")
    unfinished = file.with_suffix(".partial")
    known = unfinished.exists() and note.exists()
    if known and json.loads(note.read_text()) != settings:
        raise cli.UsageError(
            f"{unfinished} is of other settings: move it, or give another --out"
        )
    cli.writable(str(facts))
    note.write_text(json.dumps(settings))
    return file, facts
