"""What a training took, from the records that it left."""

from __future__ import annotations

from pathlib import Path

from sc_jax import foreign
from sc_jax.train.log import read_record
from sc_jax.train.recipe import Recipe


def training_s(recipe: Recipe, folder: Path) -> float | None:
    """Seconds of all steps by metrics.jsonl, measured; None where that lacks any.

    With compilation, waiting for data and saving between two records; of a resumed run
    the sum over its processes. Not in it: the last save, evaluation, and the teacher's
    own training.
    """
    done, seconds = 0, 0.0
    try:
        data = foreign.read_bytes(folder / "metrics.jsonl", foreign.JSON_BYTES)
        for line in data.splitlines():
            record = read_record(line) or {}
            examples = (record["step"] - done) * recipe.data.batch_size
            seconds += examples / record["examples_per_s"]
            done = record["step"]
    # A log is no part of a measurement: one that is damaged costs its own figure.
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError):
        return None
    return seconds if done == recipe.steps else None
