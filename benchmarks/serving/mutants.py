"""Damages every file of a run, a bundle, a tail and a trace, and reads what is left.

  python -m benchmarks.serving.mutants --mutants=200

Each damaged file must be refused in one line, or the answer must be right to the last
bit; anything else is printed and ends with exit code 1. --page writes the counts as a
part of docs/results.md.
"""

import datetime
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.results_page import page
from benchmarks.serving import file_damage
from launch import cli
from sc_jax.evaluate.reports import report

MUTANTS = flags.DEFINE_integer("mutants", 200, "of each file", 1)
SEED = flags.DEFINE_integer("seed", 0, "of the damage")
PAGE = flags.DEFINE_bool("page", False, "write the part of docs/results.md")
TITLE = "Damaged files"


def main(_):
    ends: dict[str, Counter[str]] = {}
    counts, why, begun = {}, [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = file_damage.artefacts(Path(folder))
        for kind, (root, read) in found.items():
            right, files = read(root), file_damage.files_of(root)
            ends[kind], counts[kind] = Counter(), len(files)
            for file in files:
                # By its name: how many files orbax leaves is not always the same.
                number = zlib.crc32(str(file.relative_to(Path(folder))).encode())
                rng = np.random.default_rng([SEED.value, number])
                got, bad = file_damage.tried(
                    read, root, file, MUTANTS.value, rng, right
                )
                ends[kind] += got
                why += bad
            print(kind, counts[kind], dict(ends[kind]), flush=True)
    columns = file_damage.REFUSED, file_damage.RIGHT, file_damage.SILENT, "raised"
    cells = [
        [kind, counts[kind], sum(end.values()), *(end[name] for name in columns)]
        for kind, end in ends.items()
    ]
    lines = page.rows(["artefact", "files", "mutants", *columns], cells)
    print("\n".join([*lines, *why]))
    if PAGE.value:
        page.put(_section(lines, time.monotonic() - begun))
    if why:
        cli.fail(f"{len(why)} mutants were neither refused nor right", 1)


def _section(lines: list[str], seconds: float) -> list[str]:
    machine = report.machine()
    where = ", ".join(
        str(machine[name]) for name in ("processor", "cores") if name in machine
    )
    facts = (
        f"{datetime.date.today()}, {where} cores, seed {SEED.value}, {seconds:.0f} s; "
        "every file that a reader opens, one damage a mutant: bits flipped, cut, spans "
        "deleted, zeroed, swapped or put in, emptied, gone; of JSON also values of "
        "another place or kind, and 100,000 brackets. Refused: one line that names the "
        "file. Right: the same arrays and texts to the last bit, as where bytes are "
        "hit that hold nothing. Silent: another answer; raised: a traceback."
    )
    command = f"python -m benchmarks.serving.mutants --mutants={MUTANTS.value} --page"
    return page.section(TITLE, facts, command, lines)


if __name__ == "__main__":
    cli.start(main)
