"""A tail as one file: a server loads it with jax and NumPy, without training code.

An uncompressed zip of manifest.json, a jax.export program and its weights per split,
and the integer tables of every model id; docs/deployment.md has the layout.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from sc_jax import foreign
from sc_jax.codec import codecs
from sc_jax.deploy import bundle
from sc_jax.deploy.server.middle import Middle, decision, manifest_of
from sc_jax.deploy.wire.reply import check_shapes
from sc_jax.errors import UsageError
from sc_jax.tasks import classification

FORMAT = 2
LOGITS_ONLY = 1  # the format whose programs return a classifier's logits
PLATFORMS = ("cpu", "cuda", "tpu")
NEWEST = export.maximum_supported_calling_convention_version
KINDS = {
    "format": int, "calling_convention": int, "models": dict, "labels": list,
    "platforms": list, "parts": dict,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tail:
    """The stages behind one split, up to the task's reply.

    jitted: (variables, z [B, ...]) -> arrays [B, ...] by name: the reply is computed
    where the tail is, so a large answer (a map of logits) need not leave the device.
    middle: the part up to the next split, of the same variables; None: there is none.
    """

    codec: codecs.Codec
    variables: Any
    jitted: jax.stages.Wrapped
    task: str = classification.name
    labels: tuple[str, ...] = ()
    middle: Middle | None = None

    def reply(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """The task's reply to decoded latents [B, *codec.shape], arrays by name."""
        return _arrays(self.jitted(self.variables, z))

    def up_to_next(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """What `middle` gives of decoded latents [B, *codec.shape]."""
        assert self.middle is not None
        return _arrays(self.middle.jitted(self.variables, z))

    def outputs(self) -> dict[str, np.ndarray]:
        """Zeros of the shapes and types of `reply` for a batch of one."""
        return dict(self._zeros)

    @functools.cached_property
    def _zeros(self) -> dict[str, np.ndarray]:
        z = jax.ShapeDtypeStruct((1, *self.codec.shape), self.dtype)
        specs = jax.eval_shape(self.jitted, self.variables, z)
        return {
            name: np.broadcast_to(_widened(np.zeros((), spec.dtype)), spec.shape)
            for name, spec in specs.items()
        }

    def compile(self, sizes: Sequence[int]) -> None:
        """Compiles for these batch sizes: no request waits for it later.

        ReplyError where what comes out is no answer of `size` examples and the labels.
        """
        for size in sizes:
            outputs = self.reply(np.zeros((size, *self.codec.shape), self.dtype))
            check_shapes(outputs, size, len(self.labels))

    def compile_middle(self, sizes: Sequence[int], shape: tuple[int, ...]) -> None:
        """`compile` of the part up to the next split, whose latents are of `shape`."""
        assert self.middle is not None
        for size in sizes:
            z = np.zeros((size, *self.codec.shape), self.dtype)
            self.middle.check(self.up_to_next(z), shape, size)

    @property
    def dtype(self) -> type[np.generic]:
        """Of the latents that the codec decodes to."""
        return self.codec.latent_dtype


def _arrays(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: _widened(np.asarray(array)) for name, array in outputs.items()}


def _widened(array: np.ndarray) -> np.ndarray:
    """int32 as int64: jit counts in 32 bits, NumPy and the protocol's users in 64."""
    # x64 stays off in jax: it would change what nets compute.
    return array.astype(np.int64) if array.dtype == np.int32 else array


def write(
    out: Path,
    models: Mapping[str, Sequence[Tail]],
    *,
    platforms: Sequence[str] = PLATFORMS,
) -> dict[str, Any]:
    """Writes `out` and returns its manifest; UsageError where the file exists.

    models: id -> tails by split id, the run's own id first. The others are those of its
    bundles: other tables before the same programs.
    """
    if out.exists():
        raise UsageError(f"{out} exists; give another --tail or remove it")
    first, parts = next(iter(models)), {}
    for split, tail in enumerate(models[first]):
        parts[f"tail{split}.bin"] = _program(tail, platforms)
        if (between := tail.middle) is not None:
            part = replace(tail, jitted=between.jitted)
            parts[f"middle{split}.bin"] = _program(part, platforms)
        leaves = jax.tree.leaves(tail.variables)
        arrays = {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        parts[f"weights{split}.npz"] = bundle.array_bytes(arrays)
    tables = []
    for number, tails in enumerate(models.values()):
        tables.append([f"codec{number}-{split}.npz" for split in range(len(tails))])
        for name, tail in zip(tables[-1], tails):
            parts[name] = bundle.table_bytes(tail.codec)
    manifest = {
        "format": FORMAT,
        "kind": "tail",
        "models": dict(zip(models, tables)),
        "latents": [
            {"shape": list(tail.codec.shape), "dtype": np.dtype(tail.dtype).name}
            for tail in models[first]
        ],
        "middles": [
            tail.middle and {"to": tail.middle.to, "exits": list(tail.middle.exits)}
            for tail in models[first]
        ],
        "decisions": {
            model: [t.middle and manifest_of(t.middle.decision) for t in tails]
            for model, tails in models.items()
        },
        "task": models[first][0].task,
        "labels": list(models[first][0].labels),
        "outputs": {
            name: {"shape": list(zeros.shape[1:]), "dtype": zeros.dtype.name}
            for name, zeros in models[first][0].outputs().items()
        },
        "platforms": list(platforms),
        "calling_convention": NEWEST,
        "jax": jax.__version__,
        "parts": bundle.hashes(parts),
    }
    text = foreign.sealed(manifest, indent=1)
    draft = out.with_name(out.name + ".tmp")
    bundle.pack(draft, {bundle.MANIFEST: text, **parts})
    os.replace(draft, out)  # whole, or not there at all
    return manifest


def _program(tail: Tail, platforms: Sequence[str]) -> bytes:
    """(leaves of the variables, z [b, ...]) -> what it gives, for any batch size b.

    Weights are arguments: baked in, each batch size would compile its own copy.
    """
    leaves, tree = jax.tree.flatten(tail.variables)

    def program(leaves, z):
        return tail.jitted(jax.tree.unflatten(tree, leaves), z)

    (b,) = export.symbolic_shape("b")
    z = jax.ShapeDtypeStruct((b, *tail.codec.shape), tail.dtype)
    specs = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    limit = jax.config.jax_traceback_in_locations_limit  # type: ignore
    jax.config.update("jax_traceback_in_locations_limit", 0)  # no paths of this machine
    try:
        exported = export.export(jax.jit(program), platforms=platforms)(specs, z)
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)
    return bytes(exported.serialize())


def read(path: Path) -> dict[str, tuple[Tail, ...]]:
    """Model id -> tails of a file of `write`, the run's own id first.

    UsageError, one line, for a file that is none, was changed, or is of another
    format, a newer jax, or platforms that this machine is not.
    """
    with foreign.reading(path, "tail"), foreign.parts(path) as part:
        return _read(path, part)


def _read(path: Path, part: bundle.Part) -> dict[str, tuple[Tail, ...]]:
    manifest = foreign.unsealed(part(bundle.MANIFEST, foreign.JSON_BYTES))
    if manifest.get("kind") != "tail":
        raise UsageError(f"{path} is no tail: launch.serve takes no device's bundle")
    if manifest["format"] not in (LOGITS_ONLY, FORMAT):
        known = f"{manifest['format']}, this reader knows {LOGITS_ONLY} and {FORMAT}"
        raise UsageError(f"{path} has tail format {known}")
    bundle.check_kinds(manifest, KINDS)
    # Before jax reads the program: its own error names neither file nor remedy.
    if manifest["calling_convention"] > NEWEST:
        writer = f"jax {manifest['jax']}; jax {jax.__version__} is too old to read it"
        raise UsageError(f"{path} was written by {writer}")
    here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if here not in manifest["platforms"]:
        platforms = f"{', '.join(manifest['platforms'])}, this machine is {here}"
        raise UsageError(f"{path} runs on {platforms}")

    def checked(name: str) -> bytes:
        return bundle.part_of(path, part, name, manifest)

    programs = []
    for split in range(len(manifest["latents"])):
        # A bytearray is what the signature of jax.export takes.
        program = export.deserialize(bytearray(checked(f"tail{split}.bin"))).call
        if manifest["format"] == LOGITS_ONLY:
            program = _replying(program)
        arrays = foreign.arrays(checked(f"weights{split}.npz"))
        # Sorted: %05d names keep the order in which leaves were flattened.
        leaves = jax.device_put([arrays[name] for name in sorted(arrays)])
        programs.append((leaves, jax.jit(program)))
    middles = [
        known and Middle(known["to"], tuple(known["exits"]), _of(checked, split))
        # A file of an older version has none.
        for split, known in enumerate(manifest.get("middles", [None] * len(programs)))
    ]
    facts = manifest.get("task", classification.name), tuple(manifest["labels"])
    models = {}
    for name, tables in manifest["models"].items():
        known = manifest.get("decisions", {}).get(name, [None] * len(programs))
        models[name] = tuple(
            Tail(
                bundle.codec_of(checked(table)),
                leaves,
                jitted,
                *facts,
                between and replace(between, decision=decision(**(own or {}))),
            )
            for table, (leaves, jitted), between, own in zip(
                tables, programs, middles, known, strict=True
            )
        )
    for tail in (each for tails in models.values() for each in tails):
        tail.outputs()  # now: a program that takes other latents is no tail of these
    return models


def _of(checked: Callable[[str], bytes], split: int) -> jax.stages.Wrapped:
    """The program of a middle."""
    program = export.deserialize(bytearray(checked(f"middle{split}.bin")))
    return jax.jit(program.call)


def _replying(logits: Callable) -> Callable:
    return lambda leaves, z: classification.reply(logits(leaves, z))
