"""Checkpoints of a run: arrays, data-iterator state and, at the end, codec tables.

Beside the arrays stand their SHA-256, which whoever reads them compares: a bit that a
disk or a copy changed would else restore other weights without a word.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sc_jax import foreign, notices
from sc_jax.errors import Damaged, UsageError
from sc_jax.train import devices
from sc_jax.writing import room, writing

TABLES = "tables.npz"
DIGESTS = "sha256"  # in the meta data: of each item, and of the meta data itself
ROOM_BYTES = 1 << 16  # of a step beside its arrays
FIX = "launch.train with the same command goes on from the newest whole one"


class Checkpoints:
    """The checkpoints under one folder, newest last; saves run in the background.

    writing: without, nothing is made or removed, as on a disk that cannot be written.
    """

    def __init__(self, folder: Path, *, keep: int = 3, writing: bool = True):
        self.folder = folder.absolute()
        if writing:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, enable_async_checkpointing=True
            )
        else:
            options = ocp.CheckpointManagerOptions(create=False)
        # It reads every step's notes, in which no weights stand.
        fix = f"delete {self.folder}/*/_CHECKPOINT_METADATA: only times stand there"
        with foreign.reading(self.folder, "folder of checkpoints", fix):
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def set_aside(self, step: int) -> Path:
        """Moves a damaged step out of the way of those that training will save.

        All processes come here together; the first one moves it.
        """
        # Kept, not deleted: a disk that fails for a moment looks the same.
        place = self.folder.with_name("damaged") / str(step)
        while place.exists():
            place = place.with_name(place.name + "_")
        if jax.process_index() == 0:
            place.parent.mkdir(exist_ok=True)
            os.replace(self.folder / str(step), place)
        devices.together(f"{step} of {self.folder} is set aside")
        self._manager.reload()
        return place

    def save(self, step: int, arrays: Any, meta: dict, optimiser: Any = None):
        """Copies `arrays` first: the next step may donate their buffers.

        optimiser: at the end of a run, the last phase's state: to train on from there.
        """
        digests = {"arrays": digest(arrays)}
        if jax.tree.leaves(optimiser):
            digests["optimiser"] = digest(optimiser)
        meta = meta | {DIGESTS: digests}
        digests["meta"] = _digest_of_json(meta)
        items = {
            # Saved in the background, while the next step donates the originals.
            "arrays": ocp.args.StandardSave(_snapshot(arrays)),
            "meta": ocp.args.JsonSave(meta),
        }
        # None but at the end of a run; and orbax saves no tree without leaves.
        if jax.tree.leaves(optimiser):
            items["optimiser"] = ocp.args.StandardSave(_snapshot(optimiser))
        # force: when to save is for the trainer to say, not for an interval here.
        leaves = jax.tree.leaves((arrays, optimiser))
        room(self.folder, ROOM_BYTES + sum(leaf.nbytes for leaf in leaves))
        with writing(self.folder):
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def save_tables(self, step: int, tables: Mapping[str, Mapping]) -> None:
        """Adds codec tables, by split, to the checkpoint of `step`, which is on disk.

        Not an item of `save`: what makes tables may fail, and the arrays must be safe.
        """
        file = self.folder / str(step) / TABLES
        flat = {f"{s}/{k}": v for s, arr in tables.items() for k, v in arr.items()}
        # Renamed when whole: a kill in between leaves no tables, which are made again.
        draft = file.with_suffix(".tmp")
        with writing(self.folder):
            with draft.open("wb") as out:
                np.savez(out, **flat)
            os.replace(draft, file)

    def meta(self, step: int) -> dict:
        """What was saved beside the arrays; Damaged where it was changed."""
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._read(step, args)["meta"]
        with self._guard(step):
            digests = dict(meta.get(DIGESTS, {}))
            own = digests.pop("meta", None)
            if not digests:
                notices.once(
                    f"{self.folder} keeps no digests, as of an older version: damage "
                    "of its arrays would not show"
                )
            elif own != _digest_of_json(meta | {DIGESTS: digests}):
                raise ValueError("its meta data was changed: its SHA-256 differs")
            return meta

    def arrays(self, step: int, like: Any) -> Any:
        """The arrays of `step`, shaped and sharded as `like` (arrays or abstract)."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(arrays=ocp.args.StandardRestore(abstract))
        return self._checked(step, "arrays", self._read(step, args)["arrays"])

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
        return self._checked(step, "optimiser", self._read(step, args)["optimiser"])

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
        fix = "delete it, and launch.train with this folder makes it again"
        with foreign.reading(file, "table", fix):
            return foreign.read_arrays(file)

    def _read(self, step: int, args: Any) -> Any:
        with _quietly() as settle:
            try:
                return self._manager.restore(step, args=args)
            except Exception as error:
                settle(error)
                with self._guard(step):
                    raise

    def _guard(self, step: int):
        return foreign.reading(self.folder / str(step), "checkpoint", FIX)

    def _checked(self, step: int, item: str, tree: Any) -> Any:
        """The tree, if it has the digest that was saved with it."""
        digests = self.meta(step).get(DIGESTS, {})
        with self._guard(step):
            if digests and digests.get(item) != digest(tree):
                raise Damaged(
                    f"{self.folder}/{step}: its {item} were changed, their SHA-256 "
                    f"differs; {FIX}"
                )
        return tree

    def wait(self) -> None:
        with writing(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


# One at a time: the hook and the filters of warnings are the whole process's.
_QUIET = threading.Lock()


@contextmanager
def _quietly() -> Iterator[Callable[[BaseException], None]]:
    """In which the reads that orbax gives up with are freed without a word.

    It fails at the first bad array and closes the loop of the other reads, which say so
    when they are freed: the one line says it all. Yields what frees those of an error.
    """
    with _QUIET, warnings.catch_warnings():
        message = "coroutine '.*' was never awaited"
        warnings.filterwarnings("ignore", message, RuntimeWarning)
        before = sys.unraisablehook

        def hook(found: Any) -> None:
            if not _given_up(found):
                before(found)

        sys.unraisablehook = hook
        try:
            yield _free
        finally:
            if sys.unraisablehook is hook:  # else another's, who passes on to this one
                sys.unraisablehook = before


def _free(error: BaseException | None) -> None:
    """Ends the reads that an error left, and drops what else its frames hold.

    The error itself can be kept: nothing is left to be freed with it.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            for value in frame.f_locals.values():
                if isinstance(value, asyncio.AbstractEventLoop) and value.is_closed():
                    _end_tasks(value)
        traceback.clear_frames(error.__traceback__)
        seen.append(error)
        error = error.__cause__ or error.__context__
    gc.collect()


def _end_tasks(loop: Any) -> None:
    """Closes what a closed loop has not run; who wakes it later is not to be heard."""
    loop.set_exception_handler(lambda *_: None)
    with suppress(AttributeError):  # a loop that is not Python's own
        # tensorstore's threads, whose reads cannot be recalled.
        loop.call_soon_threadsafe = lambda *_, **__: None
    for task in asyncio.all_tasks(loop):
        with suppress(Exception):  # orbax raises its own on the way out
            task.get_coro().close()


def _given_up(found: Any) -> bool:
    """Whether an unraisable exception is of a read that was given up."""
    code = getattr(found.object, "cr_code", None)
    ended = isinstance(found.exc_value.__cause__, GeneratorExit)
    if code is not None and "orbax" in code.co_filename and ended:
        return True
    return "Event loop is closed" in str(found.exc_value)


def digest(tree: Any) -> str:
    """SHA-256 of every array of a tree, in its order, types and shapes included."""
    found = hashlib.sha256()
    # Of one device: all of them, and all processes, hold the same.
    local = [leaf.addressable_data(0) for leaf in jax.tree.leaves(tree)]
    for leaf in jax.device_get(local):
        found.update(f"{leaf.dtype}{leaf.shape}".encode())
        found.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _digest_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _snapshot(tree: Any) -> Any:
    """A copy to save while training goes on.

    Of several virtual devices of one CPU process one's: orbax would have each slice
    and write its part, programs to compile for every shape and nothing gained.
    """
    if jax.default_backend() == "cpu" and jax.process_count() == 1:
        tree = devices.local(tree)
    return devices.copied(tree)
