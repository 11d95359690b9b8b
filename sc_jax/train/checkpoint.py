"""Checkpoints of a run: arrays, data-iterator state and, at the end, codec tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from sc_jax.errors import UsageError


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

    def save(self, step: int, arrays: Any, meta: dict, tables: dict | None = None):
        """Copies `arrays` first: the next step may donate their buffers."""
        items = {
            "arrays": ocp.args.StandardSave(jax.tree.map(jnp.copy, arrays)),
            "meta": ocp.args.JsonSave(meta),
        }
        if tables:
            flat = {f"{s}/{k}": v for s, arr in tables.items() for k, v in arr.items()}
            items["tables"] = ocp.args.StandardSave(flat)
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def meta(self, step: int) -> dict:
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._read(step, args)["meta"]

    def arrays(self, step: int, like: Any) -> Any:
        """The arrays of `step`, shaped and sharded as `like` (arrays or abstract)."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(arrays=ocp.args.StandardRestore(abstract))
        return self._read(step, args)["arrays"]

    def tables(self, step: int) -> dict[str, dict[str, np.ndarray]]:
        """Split name -> the arrays of its codec; empty if the step holds none."""
        if not (self.folder / str(step) / "tables").exists():
            return {}
        args = ocp.args.Composite(tables=ocp.args.StandardRestore())
        nested: dict[str, dict] = {}
        for name, value in self._read(step, args)["tables"].items():
            split, _, field = name.rpartition("/")
            nested.setdefault(split, {})[field] = np.asarray(value)
        return nested

    def _read(self, step, args):
        try:
            return self._manager.restore(step, args=args)
        except (ValueError, KeyError, OSError, json.JSONDecodeError) as error:
            reason = str(error).strip().splitlines()[0][:160]
            raise UsageError(
                f"checkpoint {self.folder}/{step} cannot be read ({reason}); "
                "delete that step's folder to go back to the one before"
            ) from error

    def wait(self) -> None:
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()
