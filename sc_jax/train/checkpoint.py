"""Checkpoints of a run: arrays, data-iterator state and, at the end, codec tables."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sc_jax.errors import UsageError
from sc_jax.train import devices

TABLES = "tables.npz"


class Checkpoints:
    """The checkpoints under one folder, newest last; saves run in the background."""

    def __init__(self, folder: Path, *, keep: int = 3):
        self.folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def save(self, step: int, arrays: Any, meta: dict, optimiser: Any = None):
        """Copies `arrays` first: the next step may donate their buffers.

        optimiser: at the end of a run, the last phase's state: to train on from there.
        """
        items = {
            # Saved in the background, while the next step donates the originals.
            "arrays": ocp.args.StandardSave(_snapshot(arrays)),
            "meta": ocp.args.JsonSave(meta),
        }
        # None but at the end of a run; and orbax saves no tree without leaves.
        if jax.tree.leaves(optimiser):
            items["optimiser"] = ocp.args.StandardSave(_snapshot(optimiser))
        # force: when to save is for the trainer to say, not for an interval here.
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def save_tables(self, step: int, tables: Mapping[str, Mapping]) -> None:
        """Adds codec tables, by split, to the checkpoint of `step`, which is on disk.

        Not an item of `save`: what makes tables may fail, and the arrays must be safe.
        """
        file = self.folder / str(step) / TABLES
        flat = {f"{s}/{k}": v for s, arr in tables.items() for k, v in arr.items()}
        # Renamed when whole: a kill in between leaves no tables, which are made again.
        draft = file.with_suffix(".tmp")
        with draft.open("wb") as out:
            np.savez(out, **flat)
        os.replace(draft, file)

    def meta(self, step: int) -> dict:
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._read(step, args)["meta"]

    def arrays(self, step: int, like: Any) -> Any:
        """The arrays of `step`, shaped and sharded as `like` (arrays or abstract)."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(arrays=ocp.args.StandardRestore(abstract))
        return self._read(step, args)["arrays"]

    def optimiser(self, step: int, like: Any) -> Any:
        """The optimiser's state of a finished run; UsageError where none was kept."""
        # What has no state was not saved, and needs none.
        if not jax.tree.leaves(like):
            return like
        if not (self.folder / str(step) / "optimiser").exists():
            raise UsageError(
                f"checkpoint {self.folder}/{step} keeps no optimiser state to train on "
                "with; start a new folder from its weights (--init)"
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(optimiser=ocp.args.StandardRestore(abstract))
        return self._read(step, args)["optimiser"]

    def tables(self, step: int) -> dict[str, dict[str, np.ndarray]] | None:
        """Split name -> the arrays of its codec; None where the step has none yet."""
        file = self.folder / str(step) / TABLES
        if file.exists():
            flat = self._read_file(file)
        elif (self.folder / str(step) / "tables").exists():  # older runs
            args = ocp.args.Composite(tables=ocp.args.StandardRestore())
            flat = self._read(step, args)["tables"]
        else:
            return None
        nested: dict[str, dict] = {}
        for name, value in flat.items():
            # From the right: a split's name may hold a slash, a field's does not.
            split, _, field = name.rpartition("/")
            nested.setdefault(split, {})[field] = np.asarray(value)
        return nested

    def _read_file(self, file: Path) -> dict[str, np.ndarray]:
        try:
            with np.load(file) as arrays:
                return dict(arrays)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"{file} cannot be read ({error}); delete it, and launch.train with "
                "this folder makes it again from the weights"
            ) from error

    def _read(self, step, args):
        try:
            return self._manager.restore(step, args=args)
        except (ValueError, KeyError, OSError, json.JSONDecodeError) as error:
            # orbax explains over pages; its first line says what is wrong.
            reason = str(error).strip().splitlines()[0][:160]
            raise UsageError(
                f"checkpoint {self.folder}/{step} cannot be read ({reason}); "
                "delete that step's folder to go back to the one before"
            ) from error

    def wait(self) -> None:
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def _snapshot(tree: Any) -> Any:
    """A copy to save while training goes on.

    Of several virtual devices of one CPU process one's: orbax would have each slice
    and write its part, programs to compile for every shape and nothing gained.
    """
    if jax.default_backend() == "cpu" and jax.process_count() == 1:
        tree = devices.local(tree)
    return devices.copied(tree)
