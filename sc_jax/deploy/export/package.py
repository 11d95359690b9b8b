"""From a finished run to a bundle: export, refit, prove, write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax.codec import codecs
from sc_jax.data import pipeline
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.runtime import latent_of
from sc_jax.deploy.export import exit_policy
from sc_jax.deploy.export.chain import chain, runner
from sc_jax.deploy.export.convert import FLOAT_OPS, ExportError
from sc_jax.deploy.server import tails
from sc_jax.evaluate import rate
from sc_jax.nets.net import FINAL, head, tail
from sc_jax.nets.run import run
from sc_jax.runs import run_folder
from sc_jax.tasks import Task
from sc_jax.train import devices

BATCH = 64


@dataclass(frozen=True)
class Proof:
    """The exported head beside the evaluator, over the same images of `split`."""

    split: str
    examples: int
    metric: str  # the task's figure, of which the next two are
    quality: float
    quality_jax: float
    payload_bytes: float
    payload_bytes_jax: float
    payload_bytes_before_refit: float
    exits: dict[str, tuple[float, float]] = field(default_factory=dict)  # own, JAX's

    @property
    def drop_points(self) -> float:
        """The greatest that the answer from the edge or a local exit loses."""
        pairs = [(self.quality, self.quality_jax), *self.exits.values()]
        return max(100 * (exact - own) for own, exact in pairs)

    @property
    def more_bytes(self) -> float:
        """Share of bytes above JAX's; 0.05 is five per cent."""
        if not self.payload_bytes_jax:
            return 0.0
        return self.payload_bytes / self.payload_bytes_jax - 1


def package(
    workdir: Path,
    out: Path,
    *,
    dtype: str = "float32",
    float_ops: tuple[str, ...] = FLOAT_OPS,
    float_stages: tuple[str, ...] = (),
    policy: str = "",
    thresholds: tuple[float, ...] | None = None,
    calibration: int = 256,
    max_drop_points: float = 1.0,
    max_more_bytes: float = 0.05,
) -> tuple[Bundle, Proof]:
    """Writes a bundle of the finished run under `workdir`; ExportError beyond a bound.

    Calibration and refitted tables see training images only, the proof test images.
    Each exit of the head ends a segment. policy: a spec, solved on the validation
    split; thresholds: one an exit, of its largest probability; neither: local exits
    answer only where the server does not. float_ops: what an int8 head leaves in float.
    """
    bundle.refuse_existing(out)
    recipe = run_folder.recipe_of(workdir)
    variables, saved = run_folder.restore(recipe, workdir)
    if len(recipe.net.splits) > 1:
        raise ExportError(f"{recipe.name} has {len(recipe.net.splits)} splits, not one")
    split = recipe.net.splits[0] if recipe.net.splits else None
    codec = saved[split.name] if split else None
    leaving = exit_policy.carried(recipe, workdir, policy, thresholds)
    seen = run_folder.dataset_of(recipe, "train")
    some = np.random.default_rng(0).permutation(len(seen))[:calibration]
    chosen = seen.take(np.sort(some))
    images = next(pipeline.evaluation_batches(chosen, len(chosen)))[0]
    made = chain(
        recipe.net, variables, codec, images,
        dtype=dtype, float_ops=float_ops, float_stages=float_stages,
    )  # fmt: skip
    run_all, refitted = runner(made), codec
    if codec is not None:  # what a head gives is not quite what the prior expects
        batches = pipeline.evaluation_batches(seen, BATCH)
        outputs = (
            {name: value[:n] for name, value in run_all(np.asarray(x)).items()}
            for x, _, n in batches
        )
        refitted = codec.refit(outputs)
    test = run_folder.dataset_of(recipe, "test")
    proof = prove(recipe, variables, codec, refitted, run_all, test)
    if proof.drop_points > max_drop_points or proof.more_bytes > max_more_bytes:
        raise ExportError(
            f"the {dtype} head loses {proof.drop_points:.2f} points (allowed "
            f"{max_drop_points}) at {100 * proof.more_bytes:+.1f} % bytes (allowed "
            f"{100 * max_more_bytes:+.1f} %); keep operations in float or widen a bound"
        )
    facts = {
        "recipe": recipe.name,
        "setting": recipe.setting,
        "cut": split.after if split else recipe.net.names[-1],
        "dtype": dtype,
        "float_ops": list(float_ops) if dtype == "int8" else [],
        "float_stages": list(float_stages),
        "input": list(test.shape),
        "segments": {
            name: {
                "inputs": list(each.signature.inputs),
                "outputs": list(each.signature.outputs),
                "parity": asdict(each.parity),
            }
            for name, each in made.items()
        },
        "proof": asdict(proof),
        "versions": {
            name: version(name)
            for name in ("jax", "litert-converter", "ai-edge-litert")
        },
    }
    digest = tails.weights_digest(recipe, workdir, variables)
    written = store(
        workdir, out, {name: each.model for name, each in made.items()}, refitted,
        model=tails.model_id(recipe.name, digest, refitted), split=0,
        labels=test.classes, task=recipe.task.name, facts=facts, **leaving._asdict(),
    )  # fmt: skip
    return written, proof


def store(
    workdir: Path,
    out: Path,
    segments: Mapping[str, bytes],
    codec: codecs.Codec | None,
    **manifest: Any,
) -> Bundle:
    """`bundle.write`, and then the tables where the server of the run finds them."""
    written = bundle.write(out, segments, codec, **manifest)
    if codec is not None:
        bundle.register(workdir, written.manifest["model"], codec)
    return written


def prove(recipe, variables, codec, refitted, run_all, test: Dataset) -> Proof:
    """Bytes and quality of the exported head through tables, decoder and tail.

    No exit is taken: each local exit's quality is that over all images. Without a
    codec the head is the whole net: no bytes, and no tail.
    """
    net, task = recipe.net, recipe.task
    split = net.splits[0] if net.splits else None
    before = head(net, split.after) if split else net
    exits = [e.name for e in before.exits if e.after != net.names[-1]]
    device = jax.jit(lambda images: run(before, variables, images)[0].predictions)
    sent = _Sent(net, variables, codec, refitted)
    sizes, first, done = 0, 0, 0
    metrics = defaultdict(list)  # by exit and where it was computed, of each batch
    for images, labels, count in pipeline.evaluation_batches(test, BATCH):
        outputs, answers = run_all(np.asarray(images)), {}
        exact = device(images) if exits else {}
        for name in exits:
            answers[name, "head"], answers[name, "jax"] = outputs.pop(name), exact[name]
        if split is None:
            answers[FINAL, "head"] = outputs[FINAL]
        else:
            answers[FINAL, "head"], new, old = sent(latent_of(outputs), count)
            sizes, first = sizes + new, first + old
        batch = {task.input: images[:count], task.target: labels[:count]}
        for key, answer in answers.items():
            answer = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], answer)  # noqa: B023
            metrics[key].append(task.metrics(answer, batch))
        done += count
    figures = {key: _figure(task, found) for key, found in metrics.items()}
    codecs_ = {split.name: codec} if split else {}
    evaluated = rate.measure(net, variables, codecs_, test, task=task)
    return Proof(
        test.split,
        done,
        task.figure,
        figures[FINAL, "head"],
        evaluated.figure,
        sizes / done,
        float(evaluated.payload_bytes.mean()) if split else 0.0,
        first / done,
        {name: (figures[name, "head"], figures[name, "jax"]) for name in exits},
    )


def _figure(task: Task, metrics: list) -> float:
    """The task's figure from its metrics of batches."""
    whole = {name: np.concatenate([m[name] for m in metrics]) for name in metrics[0]}
    return float(task.summary(whole)[task.figure])


class _Sent:
    """What the server answers to a batch of a head's outputs, and their bytes."""

    def __init__(self, net, variables, codec, refitted):
        self._codec, self._refitted = codec, refitted
        if net.splits:
            after = tail(net, net.splits[0].after)
            self._server = jax.jit(
                lambda z: run(after, variables, z)[0].predictions[FINAL]
            )

    def __call__(self, outputs, count: int) -> tuple[Any, int, int]:
        """(answer [B, ...], bytes of the first `count`, and with the old tables)."""
        rows = [{k: v[i] for k, v in outputs.items()} for i in range(BATCH)]
        payloads = [self._refitted.pack(**row) for row in rows]
        answers = self._server(np.stack([self._refitted.decode(p) for p in payloads]))
        old = sum(len(self._codec.pack(**row)) for row in rows[:count])
        return answers, sum(map(len, payloads[:count])), old


def sentences(made: Bundle, proof: Proof) -> list[str]:
    """The bundle's parts, how near its segments are to JAX, and what it reaches."""
    facts = made.manifest["facts"]
    parts = made.manifest["parts"].items()
    lines = [f"{name:14} {part['bytes']:>9,} bytes" for name, part in parts]
    lines.append(f"model {made.manifest['model']}")
    for name, segment in facts["segments"].items():
        parity = segment["parity"]
        lines.append(
            f"{name}: {parity['different']} of {parity['symbols']:,} numbers differ "
            f"from JAX, {parity['ties']} of them ties, over {parity['examples']} images"
        )
    for name, (own, exact) in proof.exits.items():
        lines.append(
            f"{name}: {proof.metric} {100 * own:.2f} % (JAX {100 * exact:.2f}) over all"
        )
    exact = f"(JAX {100 * proof.quality_jax:.2f})"
    end = f"{proof.split}: {proof.metric} {100 * proof.quality:.2f} % {exact}"
    if made.codec is None:
        return [*lines, f"{end}; the whole net is on the device: nothing is sent"]
    before = f"before refitting {proof.payload_bytes_before_refit:.2f}"
    jax_bytes = f"JAX {proof.payload_bytes_jax:.2f}; {before}"
    return [*lines, f"{end}, {proof.payload_bytes:.2f} bytes ({jax_bytes})"]


def export(
    workdir: Path, out: str | None, tail_file: str | None, options: dict
) -> list[str]:
    """The bundle of a run as folder `out`, its tails as one file; lines that say so."""
    devices.start(multihost=False)
    lines = []
    if out:
        lines += sentences(*package(workdir, Path(out), **options))
    if tail_file:
        packed = tails.pack(workdir, Path(tail_file))
        size = Path(tail_file).stat().st_size
        lines.append(
            f"{tail_file}: {size:,} bytes, for {', '.join(packed['platforms'])}"
        )
        lines.append(f"models {', '.join(packed['models'])}")
    return lines
