"""Progress for people and metrics for programs."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sc_jax.writing import writing

LOGGER = logging.getLogger("sc_jax")


CRC = "crc32"  # of a record of metrics.jsonl, in it
SILENT_S = 5.0  # after which a line is due: short beside a coffee, long beside a step
# tqdm's own format leaves the bar one character of 100 columns.
_BAR = "{desc} {percentage:3.0f}% |{bar}| {n}/{total}, {remaining} left{postfix}"


class Log:
    """A bar on a terminal, lines otherwise; every record also goes to metrics.jsonl.

    Lines come at the start and end of a phase and between them every SILENT_S at most:
    a log file of a long run is read by people too.
    """

    def __init__(self, path: Path, title: str, total_steps: int, done: int, lead: bool):
        self.total, self.lead, self.title = total_steps, lead, title
        self._path = path
        with writing(path):
            if lead:  # before the file is opened to append: this replaces it
                _forget_after(path, done)
            self._file = path.open("a") if lead else None
        self._start, self._first = time.monotonic(), done
        self._last, self._end = self._start, total_steps
        # One process of all writes; a bar in a file would be one endless line.
        terminal = lead and sys.stderr.isatty()
        self._bar = (
            tqdm(
                total=total_steps, initial=done, desc=title, bar_format=_BAR,
                dynamic_ncols=True,
            )
            if terminal
            else None
        )  # fmt: skip

    def begin(self, phase: str, step: int, end: int) -> None:
        """Before the first step of a phase, which waits until XLA has compiled it."""
        self._end = end
        self._say(phase, step, f"compiling {end - step} steps of {phase}")

    def silent(self) -> bool:
        """Whether nothing was shown for SILENT_S."""
        return self.lead and time.monotonic() - self._last > SILENT_S

    def alive(self, phase: str, step: int) -> None:
        """That `step` is done, without its losses: they would have to be fetched."""
        self._say(phase, step, f"{self._left_s(step):.0f} s left")

    def record(self, phase: str, step: int, values: dict, examples_per_s: float):
        """One line for `step` (counted over all phases)."""
        if not self.lead or self._file is None:
            return
        record = {"phase": phase, "step": step, "examples_per_s": examples_per_s}
        with writing(self._path):
            self._file.write(_line({**record, **values}))
            self._file.flush()  # readers follow the file, and a kill loses no record
        if self._bar is None and step < self._end and not self.silent():
            return  # a line would say what one of the last seconds said
        shown = f"loss {values['loss']:.4g}"
        short = self._bar is not None
        if "accuracy" in values:
            word = "" if short else "accuracy "
            shown += f", {word}{100 * values['accuracy']:.1f} %"
        if short:
            shown += f", {examples_per_s:.0f}/s"
        else:
            left_s = self._left_s(step)
            shown += f", {examples_per_s:.0f} examples/s, {left_s:.0f} s left"
        self._say(phase, step, shown)

    def _left_s(self, step: int) -> float:
        elapsed = time.monotonic() - self._start
        # Of this process alone: what was done before a resume took other seconds.
        return elapsed / max(step - self._first, 1) * (self.total - step)

    def _say(self, phase: str, step: int, shown: str) -> None:
        if not self.lead:
            return
        self._last = time.monotonic()
        if self._bar is not None:
            # One refresh for all three, or the bar flickers.
            self._bar.set_description_str(f"{self.title} {phase}", refresh=False)
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(step - self._bar.n)
            self._bar.refresh()
        else:
            line = "%s %s: step %d/%d, %s"
            LOGGER.info(line, self.title, phase, step, self.total, shown)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._file is not None:
            self._file.close()


def _forget_after(path: Path, done: int) -> None:
    """Drops records of steps that a killed run made but did not save."""
    if not path.exists():
        return
    found = map(read_record, path.read_bytes().splitlines())
    # Written anew, each with its CRC: those of an older version had none.
    kept = [_line(record) for record in found if record and record["step"] <= done]
    # A kill while this is written must not lose the records of the run so far.
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(kept))
    os.replace(draft, path)


def _line(record: dict[str, Any]) -> str:
    """A record of metrics.jsonl, with the CRC-32 of its text without it last."""
    return json.dumps({**record, CRC: zlib.crc32(json.dumps(record).encode())}) + "\n"


_SUMMED = re.compile(rb'(.*), "crc32": (\d+)\}\s*', re.DOTALL)


def has_crc(line: bytes) -> bool:
    return _SUMMED.fullmatch(line) is not None


def read_record(line: bytes) -> dict[str, Any] | None:
    """What `_line` wrote, or a line without a CRC; None where it was cut or changed."""
    found = _SUMMED.fullmatch(line)
    if found is not None and zlib.crc32(found[1] + b"}") != int(found[2]):
        return None
    try:
        record = json.loads(line)
        record.pop(CRC, None)
        return record if isinstance(record["step"], int) else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
