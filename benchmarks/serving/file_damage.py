"""Damage to files, seeded, and what a reader makes of it: refused, right, or silent."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks.untrained import untrained
from sc_jax.deploy import bundle
from sc_jax.deploy.server import portable, tails
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import report
from sc_jax.evaluate.reports.report import Row
from sc_jax.runs import loading, run_folder
from sc_jax.traces import record
from sc_jax.traces.trace import Trace
from sc_jax.train.log import Log
from sc_jax.train.recipe import Recipe

Damage = Callable[[bytearray, np.random.Generator], object]
REFUSED, RIGHT, SILENT, RAISED = "refused", "right", "silent", "raised"


def _bits(data: bytearray, rng: np.random.Generator):
    for at in rng.integers(0, 8 * len(data), rng.integers(1, 5)):
        data[at // 8] ^= 1 << at % 8


def _cut(data: bytearray, rng: np.random.Generator):
    del data[rng.integers(len(data)) :]


def _spans(data: bytearray, rng: np.random.Generator) -> tuple[int, int]:
    """(start, length) of up to 64 bytes."""
    length = int(rng.integers(1, min(64, len(data)) + 1))
    return int(rng.integers(len(data) - length + 1)), length


def _deleted(data: bytearray, rng: np.random.Generator):
    start, length = _spans(data, rng)
    del data[start : start + length]


def _zeros(data: bytearray, rng: np.random.Generator):
    start, length = _spans(data, rng)
    data[start : start + length] = bytes(length)


def _swapped(data: bytearray, rng: np.random.Generator):
    start, length = _spans(data, rng)
    other = int(rng.integers(len(data) - length + 1))
    first, second = data[start : start + length], data[other : other + length]
    data[start : start + length] = second
    data[other : other + length] = first


def _grown(data: bytearray, rng: np.random.Generator):
    at = int(rng.integers(len(data) + 1))
    data[at:at] = rng.bytes(int(rng.integers(1, 40)))


def _emptied(data: bytearray, rng: np.random.Generator):
    data.clear()


def _edited(data: bytearray, rng: np.random.Generator):
    """One value of JSON text in another's place, gone, or of another kind."""
    content = json.loads(bytes(data))
    places = list(_places(content))
    where, key = places[rng.integers(len(places))]
    others: tuple[Any, ...] = (None, -1, 1e300, True, "x", [], {}, [[]] * 9)
    if rng.integers(3) == 0 and isinstance(where, dict):
        del where[key]
    elif rng.integers(2):
        there, other = places[rng.integers(len(places))]
        where[key] = copy.deepcopy(there[other])  # which may hold `where` itself
    else:
        where[key] = others[rng.integers(len(others))]
    data[:] = json.dumps(content, indent=1).encode()


def _nested(data: bytearray, rng: np.random.Generator):
    data[:] = b"[" * 100_000


BYTES: dict[str, Damage] = {
    "bits": _bits, "cut": _cut, "deleted": _deleted, "zeros": _zeros,
    "swapped": _swapped, "grown": _grown, "emptied": _emptied,
}  # fmt: skip
TEXT = BYTES | {"edited": _edited, "nested": _nested}


def _places(node: Any) -> Iterable[tuple[Any, Any]]:
    """(container, key) of every value of a JSON document."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def mutant(good: bytes, rng: np.random.Generator, *, text: bool) -> bytes:
    """A file with one damage, its own bytes if it is empty."""
    kinds = TEXT if text else BYTES
    data = bytearray(good)
    if data:
        kinds[tuple(kinds)[rng.integers(len(kinds))]](data, rng)
    return bytes(data)


def digest(value: Any) -> str:
    """Of arrays, texts and numbers in any nest of containers."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(value):
        found.update(jax.tree_util.keystr(path).encode())
        array = np.asarray(leaf)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(repr(leaf).encode() if array.dtype == object else array.tobytes())
    return found.hexdigest()


RECORDS = 8  # of a training, in the run below
# Gone they are as if they had never been made: a folder opens without.
OPTIONAL = ("report.json", "metrics.jsonl", "model.npz")


def of_run(folder: Path) -> str:
    """All that opening a run reads, but for compiling it.

    Of the records of its training those that are left: a log may end anywhere.
    """
    recipe = run_folder.recipe_of(folder)
    # Tracing the net takes most of the time, and reads no file but for what is known.
    with mock.patch.object(run_folder, "shapes_of", _shapes):
        variables, codecs = run_folder.restore(recipe, folder)
    tables = {name: codec.to_arrays() for name, codec in codecs.items()}
    facts = repr(run_folder.facts_of(folder))
    kept = {name: c.to_arrays() for name, c in bundle.registered(folder).items()}
    told = repr(loading.report(folder)) + repr(_wrong_records(folder))
    return digest((repr(recipe), facts, variables, tables, told, kept))


def _shapes(recipe: Recipe, folder: Path) -> Any:
    key = repr((recipe, run_folder.facts_of(folder)))
    if key not in _traced:
        _traced[key] = _real_shapes(recipe, folder)
    return _traced[key]


_traced: dict[str, Any] = {}
_real_shapes = run_folder.shapes_of


def _wrong_records(folder: Path) -> list[Any]:
    """Rows of the metrics that are not the first of those that `artefacts` logs."""
    columns = loading.metrics(folder)
    found = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return found if found != [_record(1 + i) for i in range(len(found))] else []


def _record(step: int) -> dict[str, Any]:
    return {"phase": "phase", "step": step, "examples_per_s": 100.0, "loss": 1 / step}


def of_bundle(path: Path) -> str:
    read = bundle.read(path)
    codec = read.codec and read.codec.to_arrays()
    manifest = json.dumps(read.manifest, sort_keys=True)
    return digest((manifest, read.segments, codec, repr(read.policy)))


def of_tail(path: Path) -> str:
    read = portable.read(path)
    return digest([
        (name, tail.codec.to_arrays(), tail.variables, tail.labels, tail.task,
         tail.outputs())
        for name, tails in read.items() for tail in tails
    ])  # fmt: skip


def of_trace(path: Path) -> str:
    found = record.load(path)
    trace = {k: v for k, v in vars(found.trace).items() if v is not None}
    return digest((trace, found._asdict() | {"trace": None}))


def artefacts(folder: Path) -> dict[str, tuple[Path, Callable[[Path], str]]]:
    """Kind -> (a small one in `folder`, its reader): run, bundle, its zip, tail, trace.

    The run is that of a net that nobody trained; its tables are fitted to it.
    """
    run = untrained(folder / "run")
    log = Log(run / "metrics.jsonl", "train", 9, 0, True)
    for step in range(1, 1 + RECORDS):
        log.record("phase", step, {"loss": 1 / step}, 100.0)
    log.close()
    size = (9.0, 1.0)
    row = Row("method", "setting", "learned", 0.5, 1, size, size, size, 8.0, 1, 1)
    report.write([row], run, title="title", facts={"split": "test"})
    (own,) = tails.load(run, "run")["run"]
    bundle.write(
        folder / "bundle", {"head": b"flatbuffer" * 99}, own.codec,
        model="model", split=0, exits=("final",), cost=(1.0,), labels=("a", "b"),
        facts={"cut": "encoder", "input": [28, 28, 1]},
    )  # fmt: skip
    bundle.register(run, "model", own.codec)
    tails.pack(run, folder / "run.tail")
    record.save(_recorded(), folder / "trace.npz")
    return {
        "run": (run, of_run),
        "bundle": (folder / "bundle", of_bundle),
        "bundle.zip": (folder / "bundle.zip", of_bundle),
        "tail": (folder / "run.tail", of_tail),
        "trace": (folder / "trace.npz", of_trace),
    }


def _recorded() -> record.Recorded:
    rng, names = np.random.default_rng(0), ("exit@a", "exit@b", "final")
    trace = Trace(
        rng.normal(size=(3, 40, 5)), rng.integers(0, 5, 40), np.array([1.0, 2.0, 9.0]),
        "net", names, "validation", rng.random((3, 40)),
    )  # fmt: skip
    sent = rng.integers(1, 99, 40)
    return record.Recorded(trace, np.array([0.1, 0.2, 0.2]), sent, 1)


def files_of(root: Path) -> list[Path]:
    """Those that a reader opens: pictures and pages are for people."""
    if root.is_file():
        return [root]
    found = (file for file in root.rglob("*") if file.is_file())
    return sorted(f for f in found if f.suffix not in (".png", ".md"))


def outcome(read: Callable[[Path], str], path: Path, right: str) -> tuple[str, str]:
    """(one of the four, what it said)."""
    try:
        found = read(path)
    except UsageError as error:
        text = str(error)
        return (RAISED, f"lines: {text!r}") if "\n" in text else (REFUSED, text)
    except Exception as error:
        return RAISED, f"{type(error).__name__}: {error}"
    return (RIGHT, "") if found == right else (SILENT, "another answer")


def tried(
    read: Callable[[Path], str],
    root: Path,
    file: Path,
    mutants: int,
    rng: np.random.Generator,
    right: str,
) -> tuple[Counter[str], list[str]]:
    """How `mutants` of `file` end for a reader of `root`; of the bad ones, why.

    The file is as it was afterwards.
    """
    good = file.read_bytes()
    ends: Counter[str] = Counter()
    why: list[str] = []
    text = _is_json(good)
    for number in range(mutants):
        file.write_bytes(mutant(good, rng, text=text))
        if number == 0 and file.name not in OPTIONAL:
            file.unlink()
        end, words = outcome(read, root, right)
        ends[end] += 1
        if end in (SILENT, RAISED):
            why.append(f"{file.name} #{number}: {end}, {words[:200]}")
    file.write_bytes(good)
    return ends, why


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict | list)
    except ValueError:
        return False
