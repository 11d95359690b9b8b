"""Quality against real bytes: every example through the codec and back."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from sc_jax.codec import image
from sc_jax.codec.codec import Codec
from sc_jax.data import pipeline
from sc_jax.data.sources import Dataset
from sc_jax.deploy.wire import frame
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports.report import Row
from sc_jax.nets.net import FINAL, INPUT, Net, head, hops, tail
from sc_jax.nets.run import Variables, run
from sc_jax.tasks import Task, classification
from sc_jax.traces import cost


@dataclass(frozen=True)
class Measured:
    """Per example of a split, in order; bytes are 0 where nothing is sent.

    `metrics` are the task's, [N, ...] each. `disagreements` counts examples whose reply
    from the decoded bytes differs from the hard-quantised run of the whole net: 0, or
    the codec is broken.
    """

    task: Task
    metrics: dict[str, np.ndarray]
    payload_bytes: np.ndarray  # i64 [N]: the codec's own bytes
    framed_bytes: np.ndarray  # i64 [N]: with the wire frame
    pickle_bytes: np.ndarray  # i64 [N]: of a dict of bytes and shape
    data_bytes: np.ndarray  # i64 [N]: the payload, of a file its image data alone
    estimated_bits: np.ndarray  # f64 [N], of the first hop
    forwarded_bytes: np.ndarray  # i64 [N]: payload from edge to cloud, 0 of one split
    disagreements: int

    @property
    def examples(self) -> int:
        return len(self.payload_bytes)

    @property
    def figure(self) -> float:
        """What reports show of the set: accuracy, mAP, ..."""
        return float(self.task.summary(self.metrics)[self.task.figure])


def pickled_bytes(payload: bytes, shape: tuple[int, ...]) -> int:
    """A pickled dict of the coded bytes and the latent's shape.

    The data size of the SC2 benchmark for entropy-coded latents (Matsubara et al. 2023,
    https://arxiv.org/abs/2203.08875). Quantised ones it pickles as tensors, about 1,050
    bytes more than this.
    """
    return sys.getsizeof(pickle.dumps({"strings": [[payload]], "shape": shape}))


def measure(
    net: Net,
    variables: Variables,
    codecs: Mapping[str, Codec],
    dataset: Dataset,
    *,
    task: Task = classification,
    batch_size: int = 200,
    title: str = "",
) -> Measured:
    """Runs head, codec, tail over `dataset`; a net without splits runs locally.

    codecs: of the splits, by name. Of two splits the second frame is coded too.
    """
    hops(net)
    if not len(dataset):
        raise UsageError(f"{dataset.name} has no examples to measure ({dataset.split})")
    # Outside the loop: a partial made anew would be compiled anew.
    whole = partial(jax.jit(partial(_answers, net)), variables)
    if net.splits:
        answers = _through_codecs(net, variables, codecs, whole, task)
    else:
        answers = partial(_locally, whole)
    total = -(-len(dataset) // batch_size)
    batches = pipeline.evaluation_batches(dataset, batch_size)
    bar = tqdm(batches, title, total, leave=False, disable=not sys.stderr.isatty())
    metrics, sizes, disagreements = [], [], 0
    for inputs, targets, count in bar:
        answer, columns, differ = answers(inputs, count)
        # The last batch is filled up: what is beyond `count` is no example.
        answer = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], answer)  # noqa: B023
        batch = {task.input: inputs[:count], task.target: targets[:count]}
        metrics.append(task.metrics(answer, batch))
        sizes.append(columns)
        disagreements += differ
    joined = {name: np.concatenate([m[name] for m in metrics]) for name in metrics[0]}
    columns = (np.concatenate(column) for column in zip(*sizes))
    return Measured(task, joined, *columns, disagreements=disagreements)


def _locally(whole: Callable, inputs: np.ndarray, count: int) -> tuple[Any, tuple, int]:
    """(answer, six columns of zeros, 0): nothing is sent."""
    return whole(inputs)[0], (np.zeros(count, np.int64),) * 6, 0


def _through_codecs(
    net: Net,
    variables: Variables,
    codecs: Mapping[str, Codec],
    whole: Callable,
    task: Task,
) -> Callable[[np.ndarray, int], tuple[Any, tuple, int]]:
    """inputs -> (answer from bytes, columns of sizes [count], how many differ)."""
    cut, codec = net.splits[0].after, codecs[net.splits[0].name]
    device = partial(jax.jit(partial(_latent, head(net, cut), cut=cut)), variables)
    onward = _behind(net, variables, codecs)

    def answers(inputs: np.ndarray, count: int):
        # Encoded and decoded one by one, as a device and a server would.
        z = inputs if cut == INPUT else np.asarray(device(inputs))
        payloads = [codec.encode(example) for example in z]
        answer, forwarded = onward(np.stack([codec.decode(p) for p in payloads]))
        payloads, shape = payloads[:count], tuple(z.shape[1:])
        sent = np.array([len(p) for p in payloads], np.int64)
        framed = np.array([len(frame.pack(codec.id, 0, shape, p)) for p in payloads])
        pickled = np.array([pickled_bytes(p, shape) for p in payloads])
        more = forwarded[:count]
        if cut == INPUT:  # a file's bits are what was written
            bare = image.data_bytes if codec.kind == image.ImageCodec.kind else len
            data = np.array([bare(p) for p in payloads], np.int64)
            return answer, (sent, framed, pickled, data, 8.0 * sent, more), 0
        hard, bits = whole(inputs)
        differ = _disagreements(task, answer, hard, count)
        estimated = np.asarray(bits)[:count]
        return answer, (sent, framed, pickled, sent, estimated, more), differ

    return answers


def _behind(
    net: Net, variables: Variables, codecs: Mapping[str, Codec]
) -> Callable[[np.ndarray], tuple[Any, np.ndarray]]:
    """Latents from bytes -> (answer, payload of the second hop i64[B], 0 for none)."""
    first, *others = net.splits
    rest = tail(net, others[0].after if others else first.after)
    last = jax.jit(lambda v, z: _answers(rest, v, z)[0])
    if not others:
        return lambda z: (last(variables, z), np.zeros(len(z), np.int64))
    cut, codec = others[0].after, codecs[others[0].name]
    part = tail(head(net, cut), first.after)
    middle = jax.jit(partial(_latent, part, cut=cut))

    def onward(z: np.ndarray) -> tuple[Any, np.ndarray]:
        payloads = [codec.encode(row) for row in np.asarray(middle(variables, z))]
        answer = last(variables, np.stack([codec.decode(p) for p in payloads]))
        return answer, np.array([len(p) for p in payloads], np.int64)

    return onward


def _disagreements(task: Task, answer: Any, hard: Any, count: int) -> int:
    """Examples whose replies differ: in an integer or, if they have none, a float.

    Floats may differ in last bits on accelerators, where a cut changes how XLA fuses.
    """
    mine, theirs = (
        {k: np.asarray(v)[:count] for k, v in task.reply(tree).items()}
        for tree in (answer, hard)
    )
    exact = [k for k, v in mine.items() if v.dtype.kind in "biu"]
    differ = np.zeros(count, bool)
    for name in exact or mine:
        a, b = mine[name].reshape(count, -1), theirs[name].reshape(count, -1)
        off = a != b if exact else ~np.isclose(a, b, rtol=1e-3, atol=1e-3)
        differ |= off.any(-1)
    return int(differ.sum())


def row(
    measured: Measured,
    net: Net,
    variables: Variables,
    example: Any,
    *,
    method: str,
    setting: str = "",
    family: str = "learned",
) -> Row:
    """One line of the report: means and 95th percentiles, and what the device runs."""
    cut = net.splits[0].after if net.splits else net.names[-1]
    device = head(net, cut)
    parameters = {name: variables.params[name] for name in device.parts}
    latent = partial(_latent, device, variables, cut=cut)
    spent = cost.macs(latent, example) if device.stages else 0

    def sizes(values):
        if not net.splits:
            return None
        return float(values.mean()), float(np.percentile(values, 95))

    return Row(
        method=method,
        setting=setting,
        family=family,
        quality=measured.figure,
        examples=measured.examples,
        payload_bytes=sizes(measured.payload_bytes),
        framed_bytes=sizes(measured.framed_bytes),
        pickle_bytes=sizes(measured.pickle_bytes),
        data_bytes=sizes(measured.data_bytes),
        forwarded_bytes=sizes(measured.forwarded_bytes) if net.splits[1:] else None,
        estimated_bits=float(measured.estimated_bits.mean()) if net.splits else None,
        head_parameters=cost.parameters(parameters),
        head_macs=spent,
        metric=measured.task.figure,
        unit=measured.task.unit,
    )


def _latent(net: Net, variables: Variables, inputs: Any, cut: str) -> Any:
    """What stands at `cut`; a leaf's leading axis is B."""
    out, _ = run(net, variables, inputs)
    return out.features[cut]


def _answers(net: Net, variables: Variables, x: Any) -> tuple[Any, Any]:
    """(the last exit's answer, estimated bits f32[B] of the first split)."""
    out, _ = run(net, variables, x)
    bits = out.bits[net.splits[0].name] if net.splits else jax.numpy.zeros(len(x))
    return out.predictions[FINAL], bits
