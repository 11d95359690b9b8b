"""All exits of a net over a split, run once: the trace, and what each example sends."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from sc_jax import foreign
from sc_jax.codec.codecs import Codec
from sc_jax.data import pipeline
from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError
from sc_jax.nets.net import FINAL, INPUT, Net, hops
from sc_jax.nets.run import Outputs, Variables, run, variable_shapes
from sc_jax.tasks import Task, classification
from sc_jax.traces import cost, trace
from sc_jax.traces.trace import Trace

OPTIONAL = ("payload_bytes", "executed", "forwarded_bytes")
DEVICE, EDGE, CLOUD = "device", "edge", "cloud"
COST = "head_cost"  # of `classifier_cost` in files: older ones stay readable


class Recorded(NamedTuple):
    """A trace and what it does not hold of exit classifiers and bytes.

    `payload_bytes` are the codec's own bytes, of what an example sends once it passes
    the split; None where nothing is ever sent. The first `on_device` exits stand before
    the split. `classifier_cost` is the part of trace.cost that exit classifiers take.
    `executed` is the share of gated blocks that run, where the last feature with
    an `executed` is of such (nets.backbones.skipnet): trace.cost counts them all.
    Of two splits `payload_bytes` go from device to edge and `forwarded_bytes` from edge
    to cloud; the first `before_cloud` exits stand before the second split.
    """

    trace: Trace
    classifier_cost: np.ndarray  # f64[E]
    payload_bytes: np.ndarray | None = None  # i64[N]
    on_device: int = 0
    executed: np.ndarray | None = None  # f32[N], 0..1
    forwarded_bytes: np.ndarray | None = None  # i64[N]
    before_cloud: int = 0


class Costs(NamedTuple):
    """MACs of one example, f64[E], by the exit that answers."""

    total: np.ndarray  # never falls
    classifiers: np.ndarray  # of that, what exit classifiers before the last take


def record(
    net: Net,
    variables: Variables,
    dataset: Dataset,
    *,
    net_name: str,
    task: Task = classification,
    split: str | None = None,
    codecs: Mapping[str, Codec] | None = None,
    batch_size: int = 200,
) -> Recorded:
    """Runs `net` in evaluation mode over `dataset`; holds f32[E, N, K] in memory.

    The run is exact (`nets.run.run`): the last exit answers as `rate.measure` finds
    it, from hard-quantised latents where the net is split. `codecs`: those of the
    splits; without them no bytes are recorded. `split`: None for the data set's own.
    """
    cuts = hops(net)
    if not len(dataset):
        raise UsageError(f"{dataset.name} has no examples to record ({dataset.split})")
    coded = tuple(codecs[cut.name] for cut in cuts) if codecs is not None else ()
    places = tuple(cut.after for cut in cuts[: len(coded)])
    answers = jax.jit(partial(_answers, net, task, places))
    columns = _columns(partial(answers, variables), coded, dataset, batch_size)
    logits, quality, sure, labels, sent, ran = zip(*columns)
    costs = exit_costs_of(net, variables, dataset.example())
    recorded = Trace(
        answers=np.concatenate(logits, 1),
        labels=np.concatenate(labels),
        cost=costs.total,
        net=net_name,
        exits=net.exit_names,
        split=split or dataset.split,
        quality=np.concatenate(quality, 1),
        metric=task.quality,
    )
    if sure[0].size:
        recorded = replace(recorded, confidence=np.concatenate(sure, 1))
    executed = np.concatenate(ran) if ran[0].size else None
    sizes = [*np.concatenate(sent, 1), None, None] if coded else [None, None]
    exits = [*(before(net, cut.after) for cut in cuts), 0, 0]
    return Recorded(
        recorded, costs.classifiers, sizes[0], exits[0], executed, sizes[1], exits[1]
    )


def _columns(
    answers: Callable[..., tuple],
    codecs: Sequence[Codec],
    dataset: Dataset,
    size: int,
) -> Iterator[tuple[np.ndarray, ...]]:
    """Batch by batch: logits, quality, confidence, labels, bytes by split, executed.

    answers(images, labels): what `_answers` gives of a batch.
    """
    batches = pipeline.evaluation_batches(dataset, size)
    title, total = f"exits, {dataset.split}", -(-len(dataset) // size)
    bar = tqdm(batches, title, total, leave=False, disable=not sys.stderr.isatty())
    for images, labels, count in bar:
        found = jax.device_get(answers(images, labels))
        logits, quality, sure, latents, ran = found
        sent = _bytes(codecs, latents, images, count)
        # The last batch is filled up to `size`, so that it compiles to the same shape.
        rows = logits[:, :count], quality[:, :count], sure[:, :count]
        yield (*rows, labels[:count], sent, ran[:count])


def outline(
    net: Net, example: Any, task: Task = classification
) -> tuple[np.ndarray, int, bool]:
    """(exit_costs, K, whether exits learn a confidence) of an untrained net."""

    def answers(variables, images):
        out, _ = run(net, variables, images)
        return _logits(net, task, out), confidences(net, out, len(images))

    variables = variable_shapes(net, example)
    logits, confidence = jax.eval_shape(answers, variables, example)
    return exit_costs(net, variables, example), logits.shape[-1], len(confidence) > 0


def exit_costs(net: Net, variables: Any, example: Any) -> np.ndarray:
    """f64[E], the MACs of one answer at each exit; nothing is computed.

    The stages up to the exit, with all that they carry on, and every exit classifier
    on the way; of the last stage only what the answer reads. variables, example
    [1, ...]: arrays or shapes.
    """
    return exit_costs_of(net, variables, example).total


def exit_costs_of(net: Net, variables: Any, example: Any) -> Costs:
    """`exit_costs`, and the exit classifiers' part of it."""
    # A file of the input is written on the host: no MACs, and no operation to count.
    net = replace(net, splits=tuple(s for s in net.splits if s.after != INPUT))

    def parts(variables, x):
        out, _ = run(net, variables, x, exact=False)
        carried = {f"after {name}": out.features[name] for name in net.names}
        learned = {n: e.get("confidence") for n, e in out.extras.items()}
        return carried | {
            n: (out.predictions[n], learned.get(n)) for n in net.exit_names
        }

    count = cost.macs_of(parts, variables, example)
    at = {e.name: e.after for e in net.exits}
    counted: list[str] = []
    total, classifiers = [], [0.0]
    for name in net.exit_names[:-1]:
        counted.append(f"after {at[name]}")
        before = count(*counted)
        counted.append(name)
        total.append(count(*counted))
        classifiers.append(classifiers[-1] + total[-1] - before)
    total.append(count(*counted, FINAL))
    classifiers = [*classifiers[1:], classifiers[-1]]
    return Costs(np.array(total, np.float64), np.array(classifiers, np.float64))


def sent_bytes(recorded: Recorded, taken: np.ndarray) -> np.ndarray | None:
    """i64[N] by the exits taken, i32[N]: 0 for who leaves before the split."""
    if recorded.payload_bytes is None:
        return None
    return np.where(taken < recorded.on_device, 0, recorded.payload_bytes)


def forwarded_bytes(recorded: Recorded, taken: np.ndarray) -> np.ndarray | None:
    """i64[N] from edge to cloud; None where there is no second split."""
    if recorded.forwarded_bytes is None:
        return None
    return np.where(taken < recorded.before_cloud, 0, recorded.forwarded_bytes)


def tier_shares(recorded: Recorded, taken: np.ndarray) -> dict[str, float]:
    """Shares of the answers from device, edge and, of two splits, cloud.

    taken: exits, i32[N]. {} of a net that sends nothing.
    """
    if recorded.payload_bytes is None:
        return {}
    ends = {DEVICE: recorded.on_device}
    if recorded.forwarded_bytes is not None:
        ends[EDGE] = recorded.before_cloud
    tier = np.searchsorted(list(ends.values()), taken, side="right")
    names = (DEVICE, EDGE, CLOUD)[: len(ends) + 1]
    return {name: float((tier == i).mean()) for i, name in enumerate(names)}


def save(recorded: Recorded, path: str | Path) -> None:
    """Writes a file that `trace.load` reads too, in one step."""
    path = Path(path)
    draft = path.with_name(f".{os.getpid()}.recorded.{path.name}")
    more = {
        COST: recorded.classifier_cost,
        "on_device": np.array(recorded.on_device),
    }
    if recorded.payload_bytes is not None:
        more["payload_bytes"] = recorded.payload_bytes
    if recorded.executed is not None:
        more["executed"] = recorded.executed
    if recorded.forwarded_bytes is not None:
        more["forwarded_bytes"] = recorded.forwarded_bytes
        more["before_cloud"] = np.array(recorded.before_cloud)
    try:
        trace.save(recorded.trace, draft)
        with zipfile.ZipFile(draft, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, value in more.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, value)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: str | Path, net: str | None = None) -> Recorded:
    """What `save` wrote; refused where it is of another net than `net`."""
    if not Path(path).is_file():
        raise UsageError(f"no trace at {str(path)!r}")
    with foreign.reading(path, "trace", "record it again: launch.train, same command"):
        arrays = foreign.read_arrays(path)
        recorded = trace.from_arrays(arrays)
        if not {COST, "on_device"} <= arrays.keys():
            raise UsageError(f"{str(path)!r} has no cost of exit classifiers")
        _check_recorded(recorded, arrays)
        payload, executed, forwarded = (arrays.get(name) for name in OPTIONAL)
        device, cloud = (int(arrays.get(n, 0)) for n in ("on_device", "before_cloud"))
    if net is not None:
        trace.of_net(recorded, net)
    return Recorded(recorded, arrays[COST], payload, device, executed, forwarded, cloud)


def _check_recorded(recorded: Trace, arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError where what stands beside a trace is not of its exits and examples."""
    exits, examples, _ = recorded.answers.shape
    if arrays[COST].shape != (exits,) or not np.isfinite(arrays[COST]).all():
        raise ValueError(f"{COST} is not a number for each of {exits} exits")
    for name in ("on_device", "before_cloud"):
        if not 0 <= int(arrays.get(name, 0)) <= exits:
            raise ValueError(f"{name} is not one of 0 to {exits}")
    for name in OPTIONAL:
        if name in arrays and arrays[name].shape != (examples,):
            raise ValueError(f"{name} is not a number for each of {examples} examples")


def before(net: Net, cut: str) -> int:
    """How many exits, the last not counted, read what stands up to the stage `cut`."""
    passed = (INPUT, *net.names).index(cut)
    early = {e.name: e.after for e in net.exits}
    places = [early[name] for name in net.exit_names[:-1]]
    return sum(net.names.index(place) + 1 <= passed for place in places)


def _answers(
    net: Net, task: Task, cuts: Sequence[str], variables: Variables, images, targets
):
    """What is kept of a batch, and the latents at `cuts`, None for the images.

    (logits f32[E, B, K], quality f32[E, B], confidence f32[E or 0, B], latents,
    executed f32[B or 0]).
    """
    out, _ = run(net, variables, images)
    batch = {task.input: images, task.target: targets}
    quality = [
        task.metrics(out.predictions[name], batch)[task.quality]
        for name in net.exit_names
    ]
    latents = [None if cut == INPUT else out.features[cut] for cut in cuts]
    gated = [f for f in out.features.values() if hasattr(f, "executed")]
    ran = gated[-1].executed if gated else jnp.zeros(0)
    confidence = confidences(net, out, len(images))
    return _logits(net, task, out), jnp.stack(quality), confidence, latents, ran


def _logits(net: Net, task: Task, out: Outputs) -> jax.Array:
    """f32[E, B, K], what scores read."""
    return jnp.stack([task.logits(out.predictions[name]) for name in net.exit_names])


def confidences(net: Net, out: Outputs, examples: int) -> jax.Array:
    """What exits learnt to say of themselves, f32[E, B] in 0..1; [0, B] if not all did.

    A last exit that learnt nothing says 1: there is nobody behind it.
    """
    learned = [out.extras[name].get("confidence") for name in net.exit_names[:-1]]
    rows = [row for row in learned if row is not None]
    if not rows or len(rows) < len(learned):
        return jnp.zeros((0, examples))
    final = out.extras[FINAL].get("confidence")
    last = jnp.full_like(rows[0], jnp.inf) if final is None else final
    return jax.nn.sigmoid(jnp.stack([*rows, last]))


def _bytes(
    codecs: Sequence[Codec], latents: Sequence, images: np.ndarray, count: int
) -> np.ndarray:
    """i64[splits, count], the payloads of each example."""
    rows = (images if z is None else z for z in latents)
    sizes = [[len(c.encode(z)) for z in row[:count]] for c, row in zip(codecs, rows)]
    return np.array(sizes, np.int64).reshape(len(codecs), count)
