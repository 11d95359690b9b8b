"""From a finished run to a bundle: export, refit, prove, write."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from sc_jax import experiment
from sc_jax.codec import codecs, tables
from sc_jax.codec.codecs import FactorizedCodec
from sc_jax.data import pipeline
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle, segments
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.export import ExportError
from sc_jax.deploy.runtime import Runner
from sc_jax.evaluate import rate
from sc_jax.nets.net import FINAL, tail
from sc_jax.nets.run import run

BATCH = 64
KEEP = 0.01  # share of the old table in a refitted one: no symbol becomes an escape


@dataclass(frozen=True)
class Proof:
    """The exported head beside the evaluator, over the same images of `split`."""

    split: str
    examples: int
    top1: float
    top1_jax: float
    payload_bytes: float
    payload_bytes_jax: float
    payload_bytes_before_refit: float

    @property
    def drop_points(self) -> float:
        return 100 * (self.top1_jax - self.top1)

    @property
    def more_bytes(self) -> float:
        """Share of bytes above JAX's; 0.05 is five per cent."""
        return self.payload_bytes / self.payload_bytes_jax - 1


def package(
    workdir: Path,
    out: Path,
    *,
    dtype: str = "float32",
    float_ops: tuple[str, ...] = (),
    calibration: int = 256,
    max_drop_points: float = 1.0,
    max_more_bytes: float = 0.05,
) -> tuple[Bundle, Proof]:
    """Writes a bundle of the finished run under `workdir`; ExportError beyond a bound.

    Calibration and refitted tables see training images only, the proof test images.
    """
    bundle.refuse_existing(out)
    recipe = experiment.recipe_of(workdir)
    variables, frozen = experiment.restore(recipe, workdir)
    if len(recipe.net.splits) != 1:
        raise ExportError(f"{recipe.name} has {len(recipe.net.splits)} splits, not one")
    (split,) = recipe.net.splits
    codec = frozen[split.name]
    seen = experiment.dataset_of(recipe, "train")
    some = np.random.default_rng(0).permutation(len(seen))[:calibration]
    images = seen.take(np.sort(some)).images
    segment = segments.head_segment(
        recipe.net, variables, split.after, codec, np.asarray(images),
        dtype=dtype, float_ops=float_ops,
    )  # fmt: skip
    runner, refitted = Runner(segment.model), codec
    if dtype == "int8" and isinstance(codec, FactorizedCodec):
        symbols = [each["symbols"][:n] for each, _, n in _outputs(runner, seen)]
        refitted = refit(codec, np.concatenate(symbols))
    test = experiment.dataset_of(recipe, "test")
    proof = prove(recipe, variables, codec, refitted, runner, test)
    if proof.drop_points > max_drop_points or proof.more_bytes > max_more_bytes:
        raise ExportError(
            f"the {dtype} head loses {proof.drop_points:.2f} points (allowed "
            f"{max_drop_points}) at {100 * proof.more_bytes:+.1f} % bytes (allowed "
            f"{100 * max_more_bytes:+.1f} %); keep operations in float or widen a bound"
        )
    facts = {
        "recipe": recipe.name,
        "setting": recipe.setting,
        "cut": split.after,
        "dtype": dtype,
        "float_ops": list(float_ops),
        "input": list(test.shape),
        "inputs": list(segment.signature.inputs),
        "outputs": list(segment.signature.outputs),
        "parity": asdict(segment.parity),
        "proof": asdict(proof),
        "versions": {
            name: version(name)
            for name in ("jax", "litert-converter", "ai-edge-litert")
        },
    }
    name = model_id(recipe.name, workdir, refitted)
    bundle.register(workdir, name, refitted)
    made = bundle.write(
        out, {"head": segment.model}, refitted,
        model=name, split=0, labels=test.classes, facts=facts,
    )  # fmt: skip
    return made, proof


def prove(recipe, variables, codec, refitted, runner, test: Dataset) -> Proof:
    """Bytes and accuracy of the exported head through tables, decoder and tail."""
    (split,) = recipe.net.splits
    after = tail(recipe.net, split.after)

    @jax.jit
    def server(latents):
        return run(after, variables, latents)[0].predictions[FINAL].argmax(-1)

    correct, sizes, before, done = 0, 0, 0, 0
    for outputs, labels, count in _outputs(runner, test):
        rows = [{k: v[i] for k, v in outputs.items()} for i in range(BATCH)]
        payloads = [refitted.pack(**row) for row in rows]
        answers = server(np.stack([refitted.decode(payload) for payload in payloads]))
        correct += int((np.asarray(answers)[:count] == labels[:count]).sum())
        sizes += sum(map(len, payloads[:count]))
        before += sum(len(codec.pack(**row)) for row in rows[:count])
        done += count
    evaluated = rate.measure(recipe.net, variables, {split.name: codec}, test)
    return Proof(
        test.split,
        done,
        correct / done,
        float(evaluated.correct.mean()),
        sizes / done,
        float(evaluated.payload_bytes.mean()),
        before / done,
    )


def _outputs(runner: Runner, dataset: Dataset):
    """(outputs of BATCH images, labels, how many are not padding), in order."""
    for images, labels, count in pipeline.evaluation_batches(dataset, BATCH):
        yield runner(np.asarray(images)), labels, count


def refit(codec: FactorizedCodec, symbols: np.ndarray) -> FactorizedCodec:
    """The codec with tables of the symbols int32[N, ..., C] that a head really gives.

    Each channel's counts are mixed with a hundredth of its old table, so that what was
    possible stays cheap enough.
    """
    rows, offsets, tails = [], [], []
    for channel in range(symbols.shape[-1]):
        seen, counts = np.unique(symbols[..., channel], return_counts=True)
        low, old, escape = codec.tables.pmf(channel)
        first = min(low, int(seen[0]))
        size = max(low + len(old), int(seen[-1]) + 1) - first
        p = np.zeros(size)
        p[low - first : low - first + len(old)] += KEEP * old
        p[seen - first] += (1 - KEEP) * counts / counts.sum()
        rows.append(p)
        offsets.append(first)
        tails.append(KEEP * escape)
    made = tables.from_pmf(rows, np.array(offsets), np.array(tails))
    return FactorizedCodec(codec.shape, made, codec.medians)


def model_id(name: str, workdir: Path, codec: codecs.Codec) -> str:
    """What device and server must agree on: recipe, data, weights' run and tables."""
    told = (workdir / "recipe.json").read_bytes() + bundle.table_bytes(codec)
    return f"{name}-{hashlib.sha256(told).hexdigest()[:12]}"
