"""What a device installs: segments, integer tables, labels, and a manifest of hashes.

A folder or the same as one zip; docs/bundle.md has the layout. NumPy only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax import foreign
from sc_jax.codec import codecs
from sc_jax.errors import UsageError
from sc_jax.exits import policies
from sc_jax.exits.policies import Policy, Threshold
from sc_jax.tasks import classification

FORMAT = 2  # 1 had thresholds of the largest probability in place of a policy
MANIFEST = "manifest.json"
TABLES = "codec.npz"
EXPORTS = "exports"  # under a workdir: the tables that its bundles carry
TABLE_BYTES = 1 << 28  # of one codec's tables, where no manifest says how many
KINDS: dict[str, type] = {
    "model": str, "split": int, "segments": list, "exits": list, "labels": list,
    "task": str, "parts": dict, "facts": dict,
}  # fmt: skip
Part = Callable[[str, int], bytes]  # name, bytes at most -> a file of a bundle


@dataclass(frozen=True)
class Bundle:
    """manifest: as written by `write`; segments: .tflite bytes by name, in order.

    codec: None where the whole net is on the device and nothing is ever sent.
    """

    manifest: dict[str, Any]
    segments: dict[str, bytes]
    codec: codecs.Codec | None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.manifest["labels"])

    @property
    def policy(self) -> Policy | None:
        """Who leaves at which exit; None: exits answer only where the server cannot."""
        fields = self.manifest["policy"]
        return None if fields is None else policies.from_json(json.dumps(fields))


def write(
    out: Path,
    segments: Mapping[str, bytes],
    codec: codecs.Codec | None,
    *,
    model: str,
    split: int,
    policy: Policy | None = None,
    exits: Sequence[str] = (),
    cost: Sequence[float] = (),
    labels: tuple[str, ...],
    task: str = classification.name,
    facts: Mapping[str, Any],
) -> Bundle:
    """Writes folder `out` and `out`.zip; UsageError where either already exists.

    policy: who leaves where, of all `exits` of the net in order, those behind the split
    and the last too; cost: MACs of an answer at each.
    facts: whatever else the manifest holds (dtype, input, parity, versions).
    """
    refuse_existing(out)
    # What the manifest hashes; the manifest itself is written last.
    parts = {f"{name}.tflite": model for name, model in segments.items()}
    if codec is not None:
        parts[TABLES] = table_bytes(codec)
    manifest = {
        "format": FORMAT,
        "model": model,
        "split": split,
        "codec": codec and codec.kind,
        "latent": list(codec.shape) if codec else [],
        "segments": list(segments),
        "exits": list(exits),
        "cost": list(cost),
        "policy": None if policy is None else json.loads(policies.to_json(policy)),
        "labels": list(labels),
        "task": task,
        "parts": hashes(parts),
        "facts": dict(facts),
    }
    every = parts | {MANIFEST: foreign.sealed(manifest, indent=1)}
    draft = out.with_name(out.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed here
    draft.mkdir(parents=True)
    for name, data in every.items():
        (draft / name).write_bytes(data)
    pack(out.with_name(out.name + ".zip"), every)
    # The folder last and in one step: where it stands, all of the bundle does.
    os.replace(draft, out)
    return Bundle(manifest, dict(segments), codec)


def hashes(parts: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """What a manifest says of each of its parts."""
    return {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in parts.items()
    }


def part_of(path: Path, part: Part, name: str, manifest: Mapping) -> bytes:
    """A part that the manifest of `path` means; UsageError where it was changed."""
    said = manifest["parts"][name]
    # Its size before its bytes: a file that grew is not read into memory.
    data = part(name, said["bytes"])
    if hashlib.sha256(data).hexdigest() != said["sha256"]:
        raise UsageError(f"{path}: {name} was changed: its SHA-256 differs")
    return data


def pack(file: Path, parts: Mapping[str, bytes]) -> None:
    """An uncompressed zip whose bytes depend on the parts alone."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            # A ZipInfo is of 1980; a name alone would get the time of now.
            archive.writestr(zipfile.ZipInfo(name), data)


def refuse_existing(out: Path) -> None:
    """UsageError if folder `out` or `out`.zip is there already."""
    for path in (out, out.with_name(out.name + ".zip")):
        if path.exists():
            raise UsageError(f"{path} exists; give another --out or remove it")


def read(path: Path) -> Bundle:
    """The bundle of a folder or zip; UsageError for what is missing or was changed."""
    if not path.exists():
        raise UsageError(f"no bundle {path}: make one with python -m launch.export")
    with foreign.reading(path, "bundle"), foreign.parts(path) as part:
        return _read(path, part)


def _read(path: Path, part: Part) -> Bundle:
    manifest: dict[str, Any] = foreign.unsealed(part(MANIFEST, foreign.JSON_BYTES))
    # Before anything else is read: another format may mean other things by it.
    if manifest["format"] not in (1, FORMAT):
        raise UsageError(
            f"{path} has bundle format {manifest['format']}, this reader knows "
            f"1 to {FORMAT}"
        )
    # The one task of older bundles.
    manifest = {"task": classification.name, **manifest}
    if manifest["format"] == 1:
        manifest |= _of_thresholds(manifest["thresholds"])
    check_kinds(manifest, KINDS)
    shape = manifest["facts"]["input"]
    if not shape or not all(isinstance(side, int) and side > 0 for side in shape):
        raise UsageError(f"{path}: an input is numbers above 0, not {shape}")
    # Names become paths: no '..', no '/'.
    if not all(name.isidentifier() for name in manifest["segments"]):
        raise UsageError(f"{path}: a segment's name is not a plain word")
    segments = {
        name: part_of(path, part, f"{name}.tflite", manifest)
        for name in manifest["segments"]
    }
    codec = None
    if manifest["codec"] is not None:
        codec = codec_of(part_of(path, part, TABLES, manifest))
    read = Bundle(manifest, segments, codec)
    try:
        _ = read.policy  # now: a wrong one is no surprise of the first image
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return read


def check_kinds(manifest: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """ValueError where a value of a manifest is not of its kind; lists hold texts."""
    for name, kind in kinds.items():
        value = manifest[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(
                f"{name} is a {type(value).__name__}, not a {kind.__name__}"
            )
        if kind is list and not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name} holds something that is no text")


def _of_thresholds(thresholds: Sequence[float]) -> dict[str, Any]:
    """What format 2 says in place of the thresholds of format 1."""
    policy = Threshold(tuple(thresholds)) if thresholds else None
    return {
        "exits": [*(f"exit{e}" for e in range(len(thresholds))), "final"],
        "cost": [],
        "policy": policy and json.loads(policies.to_json(policy)),
    }


def table_bytes(codec: codecs.Codec) -> bytes:
    """The codec as `array_bytes`."""
    return array_bytes(codec.to_arrays())


def array_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An uncompressed npz whose bytes depend on the arrays alone."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            data = io.BytesIO()
            # Not np.savez, whose zip entries carry the time of writing.
            np.lib.format.write_array(data, np.asarray(array), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(name + ".npy"), data.getvalue())
    return out.getvalue()


def codec_of(data: bytes) -> codecs.Codec:
    """The codec of `table_bytes`; ValueError, KeyError and others for anything else."""
    return codecs.from_arrays(foreign.arrays(data))


def register(
    workdir: Path,
    model: str,
    codec: codecs.Codec,
    decision: Mapping[str, Any] | None = None,
) -> None:
    """Leaves a bundle's tables where the server of its run finds them.

    decision: policy, exits and cost of its manifest, by which an edge's exits answer.
    """
    folder = workdir / EXPORTS
    folder.mkdir(exist_ok=True)
    (folder / f"{model}.npz").write_bytes(table_bytes(codec))
    if decision is not None:
        text = foreign.sealed(dict(decision), indent=1)
        (folder / f"{model}.json").write_bytes(text)


def decision_of(workdir: Path, model: str) -> dict[str, Any]:
    """What `register` left of a bundle's policy; {}: nothing."""
    file = workdir / EXPORTS / f"{model}.json"
    if not file.is_file():
        return {}
    with foreign.reading(file, "policy", "delete it, and export its bundle again"):
        return foreign.unsealed(foreign.read_bytes(file, foreign.JSON_BYTES))


def registered(workdir: Path) -> dict[str, codecs.Codec]:
    """Model id -> codec of every bundle that was made from a run."""
    found: dict[str, codecs.Codec] = {}
    for file in sorted((workdir / EXPORTS).glob("*.npz")):
        with foreign.reading(file, "table", "delete it, and export its bundle again"):
            found[file.stem] = codec_of(foreign.read_bytes(file, TABLE_BYTES))
    return found
