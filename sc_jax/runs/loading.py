"""A finished run opened as functions of arrays: answers, bytes, costs, records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax import foreign, notices
from sc_jax.codec.codecs import Codec, at_level
from sc_jax.deploy.wire import frame
from sc_jax.errors import UsageError
from sc_jax.exits.solve import policy_spec
from sc_jax.nets.net import INPUT, Net, tail
from sc_jax.nets.run import Variables, run, variable_shapes
from sc_jax.runs import exit_runs, rate_runs, run_folder, source
from sc_jax.runs.source import DataFacts
from sc_jax.tasks import Task, probabilities
from sc_jax.tasks.task import softmax
from sc_jax.traces import cost, record
from sc_jax.train.log import has_crc, read_record
from sc_jax.train.recipe import Recipe

LARGEST_BATCH = 256
Answers = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """What a finished folder holds. codecs: by the split's name."""

    folder: Path
    recipe: Recipe
    variables: Variables
    codecs: dict[str, Codec]
    facts: DataFacts
    program: Callable  # (variables, images) -> predictions, latents, confidences
    tails: dict[str, Callable]  # split name -> (variables, latents) -> final answer


def load(folder: Path) -> LoadedRun:
    """Opens a folder that training finished: a student's, a teacher's, of a sweep.

    Neither its data set nor the file of its recipe is needed, except by folders of
    versions that did not keep them.
    """
    recipe = run_folder.recipe_of(folder)
    variables, own = run_folder.restore(recipe, folder)
    facts = run_folder.facts_of(folder) or source.data_facts(recipe)
    tails = {
        split.name: jax.jit(partial(_final, tail(recipe.net, split.after)))
        for split in recipe.net.splits
    }
    # Variables as arguments: baked in, each batch size would hold a copy.
    program = jax.jit(partial(_everything, recipe.net))
    return LoadedRun(folder, recipe, variables, own, facts, program, tails)


def _everything(net: Net, variables: Variables, images: Any):
    """(answers by exit, latents by split, confidences f32[E or 0, B])."""
    out, _ = run(net, variables, images)
    latents = {
        split.name: images if split.after == INPUT else out.features[split.after]
        for split in net.splits
    }
    answers = {name: out.predictions[name] for name in net.exit_names}
    return answers, latents, record.confidences(net, out, len(images))


def _final(net: Net, variables: Variables, latents: Any):
    return run(net, variables, latents)[0].predictions["final"]


def answer(
    loaded: LoadedRun, images: Any, policy: str = "", budget: float | None = None
) -> Answers:
    """Arrays by name for images [N, ...] or one of them, [...] (then without N).

    The task's reply (logits f32[N, K], prediction i64[N]); probabilities f32[N, K] of
    its classes, or of each label; exit, names [N]; payload_bytes and framed_bytes
    i64[N], 0 where nothing is sent. In a net with early exits also exit_logits
    f32[E, N, K].
    policy, budget: as of launch.evaluate, solved on the validation trace that the
    folder keeps; without, every answer is the whole network's.
    """
    recipe, task = loaded.recipe, loaded.recipe.task
    images, single = checked(images, loaded.facts.shape, loaded.facts.dtype)
    found = [_batch(loaded, part) for part in batches(images)]
    answers, latents, sure = _joined(found, len(images))
    names = list(recipe.net.exit_names)
    scored = np.stack([np.asarray(task.logits(answers[name])) for name in names])
    taken = np.full(len(images), len(names) - 1)
    if policy or budget is not None:
        taken = _taken(loaded, policy, budget, scored, sure)
    # By position from here on: `taken` counts exits in the net's order.
    in_order = [answers[name] for name in names]  # a pytree sorts its keys
    chosen = jax.tree.map(lambda *rows: _choose(taken, rows), *in_order)
    outputs = arrays_of(task, chosen)
    outputs["exit"] = np.array(names)[taken]
    sizes = _sizes(loaded, latents, taken)
    outputs["payload_bytes"], outputs["framed_bytes"] = sizes
    outputs = {name: value[0] for name, value in outputs.items()} if single else outputs
    if len(names) > 1:
        every = np.stack([_logits(task, answers[name]) for name in names])
        outputs["exit_logits"] = every[:, 0] if single else every
    return outputs


def _logits(task: Task, answer: Any) -> np.ndarray:
    """f32[N, K] of the task's reply, or, where it has none, what scores read."""
    reply = task.reply(answer)
    return np.asarray(reply["logits"] if "logits" in reply else task.logits(answer))


def arrays_of(task: Task, answer: Any) -> Answers:
    """The task's reply, and the probabilities f32[N, K] of its classes or labels.

    Of a task that replies neither: the softmax of what scores read.
    """
    outputs = {name: np.asarray(value) for name, value in task.reply(answer).items()}
    found = probabilities(outputs)
    if not found.size:
        found = softmax(np.asarray(task.logits(answer)))
    return outputs | {"probabilities": found.astype(np.float32)}


def checked(images: Any, shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, bool]:
    """(images [N, *shape], whether it was one alone); UsageError for others."""
    images = np.asarray(images)
    single = images.shape == tuple(shape)
    images = images[None] if single else images
    if images.shape[1:] != tuple(shape) or images.dtype != dtype or not len(images):
        wanted = ", ".join(map(str, shape))
        raise UsageError(
            f"images are {images.dtype}{list(images.shape)}, the model takes "
            f"{dtype}[N, {wanted}] or one of them"
        )
    return images, single


def one(image: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """[1, *shape]; UsageError for several: bytes are those of one image."""
    images, _ = checked(image, shape, dtype)
    if len(images) > 1:
        raise UsageError(f"encode takes one image, not {len(images)}")
    return images


def batches(images: np.ndarray):
    """Parts of a few sizes, powers of two: each size is compiled once."""
    for start in range(0, len(images), LARGEST_BATCH):
        part = images[start : start + LARGEST_BATCH]
        size = 1 << (len(part) - 1).bit_length()
        yield np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])


def _batch(loaded: LoadedRun, images: np.ndarray):
    return jax.device_get(loaded.program(loaded.variables, images))


def _joined(found: list, count: int):
    """Batches as one, without what filled them up; confidences have N second."""
    first = [(answers, latents) for answers, latents, _ in found]
    answers, latents = jax.tree.map(lambda *a: np.concatenate(a)[:count], *first)
    return answers, latents, np.concatenate([sure for *_, sure in found], 1)[:, :count]


def _choose(taken: np.ndarray, rows: tuple) -> np.ndarray:
    """Row n of the exit that example n left by; exits' answers have one shape."""
    return np.stack(rows)[taken, np.arange(len(taken))]


def _taken(loaded: LoadedRun, policy: str, budget, logits, sure) -> np.ndarray:
    """i32[N] by a policy solved on the validation trace in the run's folder."""
    recipe, folder = loaded.recipe, loaded.folder
    if not exit_runs.leaves_early(recipe.net):
        raise UsageError(f"{recipe.name} has no early exits to leave by")
    name = exit_runs.name_of(recipe, folder)
    trace = exit_runs.load_trace(folder, "validation", name).trace
    text = policy or recipe.policy or "threshold"
    solved = policy_spec.policy_from_text(text, trace, budget)
    return solved.policy(logits, trace.cost, sure if len(sure) else None)


def _sizes(loaded: LoadedRun, latents: Mapping, taken: np.ndarray):
    """(payload, framed) bytes i64[N]; 0 for who leaves before a split."""
    net, count = loaded.recipe.net, len(taken)
    payload, framed = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for number, split in enumerate(net.splits):
        codec = loaded.codecs[split.name]
        for i in np.flatnonzero(taken >= record.before(net, split.after)):
            data = codec.encode(latents[split.name][i])
            payload[i] += len(data)
            framed[i] += len(framed_bytes(codec, number, data))
    return payload, framed


def framed_bytes(codec: Codec, split: int, payload: bytes) -> bytes:
    """The wire frame that a server takes."""
    return frame.pack(codec.id, split, codec.shape, payload)


def encode(loaded: LoadedRun, image: Any, level: int | None = None) -> bytes:
    """One input -> the frame of its latent at the net's split.

    level: of several rates; None: the net's own.
    """
    (split,) = _one_split(loaded)
    images = one(image, loaded.facts.shape, loaded.facts.dtype)
    latent = _batch(loaded, images)[1][split.name][0]
    codec = loaded.codecs[split.name]
    codec = codec if level is None else at_level(codec, level)
    return framed_bytes(codec, 0, codec.encode(latent))


def decode(loaded: LoadedRun, data: bytes, codec: Codec | None = None) -> Answers:
    """A frame -> its latent and what the tail answers to it, without a batch axis.

    codec: with the tables that it was encoded by, None the run's own.
    """
    (split,) = _one_split(loaded)
    latent = unframed(codec or loaded.codecs[split.name], data)
    final = loaded.tails[split.name](loaded.variables, latent[None])
    outputs = arrays_of(loaded.recipe.task, jax.device_get(final))
    return {"latent": latent, **{name: value[0] for name, value in outputs.items()}}


def unframed(codec: Codec, data: bytes) -> np.ndarray:
    """The latent of one frame; UsageError for bytes that are none of this codec's.

    Tables that are not those of the encoder are not surely noticed: see docs/bitstream.
    """
    try:
        read = frame.unpack(data)
        if read.codec != codec.id:
            raise ValueError(f"codec {read.codec}, not {codec.id} ({codec.kind})")
        if read.shape != tuple(codec.shape):
            raise ValueError(f"the latent is {read.shape}, not {tuple(codec.shape)}")
        return codec.decode(read.payload)
    except ValueError as error:
        raise UsageError(
            f"not bytes that this model encoded: {error} (of a bundle: "
            "decode(data, bundle=...))"
        ) from None


def _one_split(loaded: LoadedRun):
    splits = loaded.recipe.net.splits
    if len(splits) != 1:
        raise UsageError(
            f"{loaded.recipe.name} has {len(splits)} splits; bytes are encoded at one"
        )
    return splits


def costs(loaded: LoadedRun) -> dict[str, list]:
    """Columns by exit: its name, MACs of an answer there, parameters held for it."""
    net, example = loaded.recipe.net, loaded.facts.example
    places = {e.name: e.after for e in net.exits}
    held, exits = [], []
    for name in net.exit_names:
        stop = places.get(name, net.names[-1])
        # Exits pile up: whoever answers late has held the earlier ones too.
        exits += [n for n, place in places.items() if place == stop]
        stages = net.names[: net.names.index(stop) + 1]
        parts = {n: loaded.variables.params.get(n, {}) for n in (*stages, *exits)}
        held.append(cost.parameters(parts))
    macs = record.exit_costs(net, variable_shapes(net, example), example).tolist()
    return {"exit": list(net.exit_names), "macs": macs, "parameters": held}


def metrics(folder: Path) -> dict[str, list]:
    """metrics.jsonl as equally long columns; None where a phase has no such metric.

    A last line that a kill cut short is left out; Damaged where another was changed.
    """
    file = folder / "metrics.jsonl"
    if not file.exists():
        return {}
    with foreign.reading(file, "record of a training"):
        lines = foreign.read_bytes(file, foreign.JSON_BYTES).splitlines(keepends=True)
        found = [read_record(line) for line in lines]
        if found and found[-1] is None and not lines[-1].endswith(b"\n"):
            notices.once(f"{file} ends in half a record, which is left out")
            found.pop()
        # Older versions wrote none; of one training all lines have it, or none has.
        if any(map(has_crc, lines)):
            found = [r if has_crc(line) else None for line, r in zip(lines, found)]
        if None in found:
            raise ValueError(f"line {1 + found.index(None)} was changed")
    records = [each for each in found if each is not None]
    # Phases have terms of their own; a DataFrame wants columns of one length.
    names = dict.fromkeys(name for each in records for name in each)
    return {name: [each.get(name) for each in records] for name in names}


def report(folder: Path) -> list[dict[str, Any]]:
    """The rows of report.json, or of a net that only leaves early, of its exits.

    Of one of a sweep, which reports in the folder above, its own rows there. [] where
    nothing was reported.
    """
    for name, key in (("report.json", "rows"), ("exit_report.json", "anytime")):
        if (folder / name).exists():
            return run_folder.read_json(folder / name)[key]
    return _swept(folder)


def _swept(folder: Path) -> list[dict[str, Any]]:
    folder = folder.resolve()
    above = folder.parent / "report.json"
    if not above.exists() or (folder.parent / run_folder.FILE).exists():
        return []  # alone, or inside of a run that reports itself: a teacher
    recipe = run_folder.read_json(folder / run_folder.FILE)["recipe"]
    return [
        row for row in run_folder.read_json(above)["rows"]
        if row["method"] == recipe["title"]
        and rate_runs.without_level(row["setting"]) in (recipe["setting"], folder.name)
    ]  # fmt: skip


def facts(loaded: LoadedRun) -> dict[str, Any]:
    """Of the data, and of what was trained on it."""
    recipe = loaded.recipe
    named = {"recipe": recipe.name, "setting": recipe.setting, "seed": recipe.seed}
    return dataclasses.asdict(loaded.facts) | named
