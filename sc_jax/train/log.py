"""Progress for people and metrics for programs."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

LOGGER = logging.getLogger("sc_jax")


class Log:
    """A bar on a terminal, lines otherwise; every record also goes to metrics.jsonl."""

    def __init__(self, path: Path, title: str, total_steps: int, done: int, lead: bool):
        self.total, self.lead, self.title = total_steps, lead, title
        if lead:
            _forget_after(path, done)
        self._file = path.open("a") if lead else None
        self._start, self._first = time.monotonic(), done
        terminal = lead and sys.stderr.isatty()
        self._bar = (
            tqdm(total=total_steps, initial=done, unit="step", desc=title)
            if terminal
            else None
        )

    def record(self, phase: str, step: int, values: dict, examples_per_s: float):
        """One line for `step` (counted over all phases)."""
        if not self.lead or self._file is None:
            return
        record = {"phase": phase, "step": step, "examples_per_s": examples_per_s}
        self._file.write(json.dumps({**record, **values}) + "\n")
        self._file.flush()
        elapsed = time.monotonic() - self._start
        left = elapsed / max(step - self._first, 1) * (self.total - step)
        shown = f"loss {values['loss']:.4g}"
        if "accuracy" in values:
            shown += f", accuracy {100 * values['accuracy']:.1f} %"
        shown += f", {examples_per_s:.0f} examples/s"
        if self._bar is not None:
            self._bar.set_description(f"{self.title} {phase}")
            self._bar.set_postfix_str(shown)
            self._bar.update(step - self._bar.n)
        else:
            line = "%s %s: step %d/%d, %s, %d s left"
            LOGGER.info(line, self.title, phase, step, self.total, shown, left)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._file is not None:
            self._file.close()


def _forget_after(path: Path, done: int) -> None:
    """Drops records of steps that a killed run made but did not save."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= done:
                kept.append(line)
        except ValueError:  # cut short by the kill
            continue
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(kept))
    os.replace(draft, path)
