"""What images get from exported segments, tables, decoder and tail, beside JAX."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from sc_jax.codec.codecs import Codec
from sc_jax.data import pipeline
from sc_jax.data.dataset import Dataset
from sc_jax.deploy.device.runtime import confidence_of, latent_of
from sc_jax.deploy.export.chain import edge_exits, local_exits
from sc_jax.evaluate import rate
from sc_jax.exits.policies import Policy
from sc_jax.nets.net import FINAL, Net, head, tail
from sc_jax.nets.run import Variables, run
from sc_jax.tasks import Task
from sc_jax.train.recipe import Recipe

BATCH = 64


@dataclass(frozen=True)
class Left:
    """What leaving by the bundle's policy gives: of its segments, not of JAX."""

    quality: float  # the task's figure
    cost_share: float  # mean MACs, of the whole network's
    payload_bytes: float  # mean; 0 for who answers on the device
    shares: dict[str, float]  # by exit, FINAL the last
    forwarded_bytes: float | None = None  # mean, from edge to cloud, of two splits


@dataclass(frozen=True)
class Proof:
    """The exported head beside the evaluator, over the same images of `split`.

    Of each exit over all images; `leaving` has who leaves where, if anybody does.
    """

    split: str
    examples: int
    metric: str  # the task's figure, of which the next two are
    quality: float
    quality_jax: float
    payload_bytes: float
    payload_bytes_jax: float
    payload_bytes_before_refit: float
    exits: dict[str, tuple[float, float]] = field(default_factory=dict)  # own, JAX's
    leaving: Left | None = None

    @property
    def drop_points(self) -> float:
        """The greatest that the answer from the edge or a local exit loses."""
        pairs = [(self.quality, self.quality_jax), *self.exits.values()]
        return max(100 * (exact - own) for own, exact in pairs)

    @property
    def more_bytes(self) -> float:
        """Share of bytes above JAX's; 0.05 is five per cent, of none infinite."""
        if not self.payload_bytes_jax:
            return math.inf if self.payload_bytes else 0.0
        return self.payload_bytes / self.payload_bytes_jax - 1


class Exported(NamedTuple):
    """A converted head, and what its images meet behind it.

    run_all: images -> the outputs of all segments by name. codec: the run's own tables,
    refitted: the bundle's; None where the whole net is on the device.
    """

    recipe: Recipe
    variables: Variables
    codec: Codec | None
    refitted: Codec | None
    run_all: Callable[[np.ndarray], dict[str, np.ndarray]]
    others: Mapping[str, Codec] = {}  # of the splits behind the first, by name


class Answered(NamedTuple):
    """What each exit answers to all N images, no exit taken; FINAL the last of E."""

    metrics: dict[str, dict[str, np.ndarray]]  # the task's, [N, ...], by exit
    scored: np.ndarray  # f32[E, N, K], what scores read
    confidence: np.ndarray | None  # f32[E, N] in 0..1, where every exit has one
    payload_bytes: np.ndarray  # i64[N], with the bundle's tables
    before_refit: np.ndarray  # i64[N], with the run's own
    forwarded_bytes: np.ndarray | None = None  # i64[N], of the second split
    on_device: int = 0  # the first of the exits, which send nothing


def answered(made: Exported, examples: Dataset) -> Answered:
    """Every image through the segments, the bundle's tables, the decoder, the tail."""
    net, task = made.recipe.net, made.recipe.task
    names, onward = local_exits(net), edge_exits(net)
    sent = None if made.codec is None else _Sent(made)
    columns: dict[Any, list] = defaultdict(list)
    for images, labels, count in pipeline.evaluation_batches(examples, BATCH):
        outputs = made.run_all(np.asarray(images))
        answers = {name: outputs.pop(name) for name in names}
        sure = [outputs.pop(n) for n in map(confidence_of, names) if n in outputs]
        if sent is None:
            answers[FINAL], sizes = outputs[FINAL], (np.zeros(len(images), int),) * 3
        else:
            served, sizes = sent(latent_of(outputs))
            answers |= {name: served[name] for name in (*onward, FINAL)}
            sure += [served[n] for n in map(confidence_of, onward) if n in served]
        batch = {task.input: images[:count], task.target: labels[:count]}
        for name, answer in answers.items():
            columns[name].append(task.metrics(_first(answer, count), batch))
            columns[name, "scored"].append(np.asarray(task.logits(answer))[:count])
        if sure and len(sure) == len(names) + len(onward):
            columns["sure"].append(np.stack([*sure, np.ones(len(images))])[:, :count])
        columns["bytes"].append(np.stack(sizes)[:, :count])
    every = (*names, *onward, FINAL)
    new, old, forwarded = np.concatenate(columns["bytes"], 1)
    sure = columns["sure"]
    return Answered(
        {name: _joined(columns[name]) for name in every},
        np.stack([np.concatenate(columns[name, "scored"]) for name in every]),
        np.concatenate(sure, 1, dtype=np.float32) if sure else None,
        new,
        old,
        forwarded if len(net.splits) > 1 else None,
        len(names),
    )


def prove(
    made: Exported,
    test: Dataset,
    policy: Policy | None = None,
    cost: Sequence[float] = (),
) -> Proof:
    """Bytes and quality of the exported head, and what leaving by a policy gives.

    cost: MACs of an answer at each local exit and FINAL, where there is a policy.
    """
    net, task = made.recipe.net, made.recipe.task
    found = answered(made, test)
    figures = {name: _figure(task, each) for name, each in found.metrics.items()}
    exact = _local_figures(made, test)
    codecs = dict(made.others)
    if made.codec is not None:
        codecs[net.splits[0].name] = made.codec
    evaluated = rate.measure(net, made.variables, codecs, test, task=task)
    return Proof(
        test.split,
        len(test),
        task.figure,
        figures[FINAL],
        evaluated.figure,
        float(found.payload_bytes.mean()),
        float(evaluated.payload_bytes.mean()),
        float(found.before_refit.mean()),
        {name: (figures[name], exact[name]) for name in exact},
        None if policy is None else left(task, found, policy, cost),
    )


def left(task: Task, found: Answered, policy: Policy, cost: Sequence[float]) -> Left:
    """What a policy gives on answers of segments: those of the exits taken."""
    taken = policy(found.scored, cost, found.confidence)
    each, names = np.arange(len(taken)), list(found.metrics)
    rows = found.metrics.values()
    metrics = {
        name: np.stack([row[name] for row in rows])[taken, each]
        for name in found.metrics[FINAL]
    }
    counts = np.bincount(taken, minlength=len(names)) / len(taken)
    sends, goes_on = taken >= found.on_device, taken == len(names) - 1
    onward = found.forwarded_bytes
    return Left(
        _figure(task, metrics),
        float(np.asarray(cost)[taken].mean() / cost[-1]),
        float((sends * found.payload_bytes).mean()),
        dict(zip(names, counts.tolist())),
        None if onward is None else float((goes_on * onward).mean()),
    )


def _local_figures(made: Exported, test: Dataset) -> dict[str, float]:
    """JAX's own, of each local exit over all images."""
    net, task, names = made.recipe.net, made.recipe.task, local_exits(made.recipe.net)
    if not names:
        return {}
    before = head(net, net.splits[0].after) if net.splits else net
    device = jax.jit(lambda v, images: run(before, v, images)[0].predictions)
    columns = defaultdict(list)
    for images, labels, count in pipeline.evaluation_batches(test, BATCH):
        exact = device(made.variables, images)
        batch = {task.input: images[:count], task.target: labels[:count]}
        for name in names:
            columns[name].append(task.metrics(_first(exact[name], count), batch))
    return {name: _figure(task, _joined(columns[name])) for name in names}


def _first(answer: Any, count: int) -> Any:
    """The examples of a batch; what follows them filled it up."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], answer)


def _joined(metrics: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([m[name] for m in metrics]) for name in metrics[0]}


def _figure(task: Task, metrics: dict[str, np.ndarray]) -> float:
    return float(task.summary(metrics)[task.figure])


class _Sent:
    """What the servers answer to a batch of a head's outputs, and their bytes."""

    def __init__(self, made: Exported):
        net: Net = made.recipe.net
        self._codec, self._refitted = made.codec, made.refitted
        after = tail(net, net.splits[0].after)
        self._variables = made.variables
        onward, cuts = edge_exits(net), [split.after for split in net.splits[1:]]
        self._next = [made.others[split.name] for split in net.splits[1:]]

        def server(v, z):
            out, _ = run(after, v, z)
            learned = {n: out.extras[n].get("confidence") for n in onward}
            sure = {
                confidence_of(name): jax.nn.sigmoid(logit)
                for name, logit in learned.items()
                if logit is not None
            }
            return out.predictions | sure, [out.features[cut] for cut in cuts]

        self._server = jax.jit(server)

    def __call__(self, outputs) -> tuple[Any, tuple[np.ndarray, ...]]:
        """(answers [B, ...] by exit, confidences too; three of bytes i64[B]).

        Bytes with the new tables, with the old ones, and from edge to cloud.
        """
        assert self._codec is not None and self._refitted is not None
        size = len(next(iter(outputs.values())))
        rows: list[Any] = [{k: v[i] for k, v in outputs.items()} for i in range(size)]
        payloads = [self._refitted.pack(**row) for row in rows]
        latents = np.stack([self._refitted.decode(p) for p in payloads])
        old = np.array([len(self._codec.pack(**row)) for row in rows])
        new = np.array([len(p) for p in payloads])
        answers, sent = jax.device_get(self._server(self._variables, latents))
        forwarded = np.zeros(size, int)
        for codec, features in zip(self._next, sent):
            forwarded += [len(codec.encode(z)) for z in features]
        return answers, (new, old, forwarded)
