"""Accuracy against real bytes: every example through the frozen codec and back."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from sc_jax.codec import codecs
from sc_jax.data import pipeline
from sc_jax.data.sources import Dataset
from sc_jax.deploy.wire import frame
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports.report import Row
from sc_jax.nets.net import FINAL, INPUT, Net, head, tail
from sc_jax.nets.run import Variables, run
from sc_jax.traces import cost


@dataclass(frozen=True)
class Measured:
    """Per example of a split, in order; bytes are 0 where nothing is sent.

    `disagreements` counts examples whose prediction from the decoded bytes differs
    from the hard-quantised run of the whole net: 0, or the codec is broken.
    """

    correct: np.ndarray  # bool [N]
    payload_bytes: np.ndarray  # i64 [N]: the codec's own bytes
    framed_bytes: np.ndarray  # i64 [N]: with the wire frame
    pickle_bytes: np.ndarray  # i64 [N]: the SC2 benchmark's metric
    estimated_bits: np.ndarray  # f64 [N]
    disagreements: int


def pickled_bytes(payload: bytes, shape: tuple[int, ...]) -> int:
    """The data size of the SC2 benchmark (Matsubara et al. 2023): a pickled dict."""
    return sys.getsizeof(pickle.dumps({"strings": [[payload]], "shape": shape}))


def measure(
    net: Net,
    variables: Variables,
    frozen: Mapping[str, codecs.Codec],
    dataset: Dataset,
    *,
    batch_size: int = 200,
    title: str = "",
) -> Measured:
    """Runs head, codec, tail over `dataset`; a net without splits runs locally."""
    if len(net.splits) > 1:
        raise UsageError(f"measure takes one split, the net has {len(net.splits)}")
    split = net.splits[0] if net.splits else None
    whole = jax.jit(lambda v, x: _answers(net, v, x))
    columns: list[tuple] = []
    disagreements = 0
    total = -(-len(dataset) // batch_size)
    batches = pipeline.evaluation_batches(dataset, batch_size)
    bar = tqdm(batches, title, total, leave=False, disable=not sys.stderr.isatty())
    if split is not None:
        codec = frozen[split.name]
        before, after = head(net, split.after), tail(net, split.after)
        device = jax.jit(lambda v, x: _latent(before, v, x, split.after))
        server = jax.jit(lambda v, z: _answers(after, v, z)[0])
        on_wire = codecs.IDS[codecs.kind(codec)]
    for images, labels, count in bar:
        if split is None:
            answers = np.asarray(whole(variables, images)[0])[:count]
            zero = np.zeros(count, np.int64)
            columns.append((answers == labels[:count], zero, zero, zero, zero))
            continue
        z = images if split.after == INPUT else np.asarray(device(variables, images))
        payloads = [codec.encode(example) for example in z]
        decoded = np.stack([codec.decode(payload) for payload in payloads])
        answers = np.asarray(server(variables, decoded))[:count]
        sent = np.array([len(p) for p in payloads], np.int64)
        if split.after == INPUT:  # a file's bits are what was written
            bits = 8.0 * sent
        else:
            hard, bits = (np.asarray(a) for a in whole(variables, images))
            disagreements += int((hard[:count] != answers).sum())
        shape = tuple(z.shape[1:])
        framed = [len(frame.pack(on_wire, 0, shape, p)) for p in payloads]
        pickled = [pickled_bytes(p, shape) for p in payloads]
        sizes = (np.array(a)[:count] for a in (sent, framed, pickled, bits))
        columns.append((answers == labels[:count], *sizes))
    joined = [np.concatenate(column) for column in zip(*columns)]
    correct, sent, framed, pickled, bits = joined
    return Measured(correct, sent, framed, pickled, bits, disagreements)


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
    latent = lambda x: _latent(device, variables, x, cut)  # noqa: E731
    spent = cost.macs(latent, example) if device.stages else 0

    def sizes(values):
        if not net.splits:
            return None
        return float(values.mean()), float(np.percentile(values, 95))

    return Row(
        method=method,
        setting=setting,
        family=family,
        top1=float(measured.correct.mean()),
        examples=len(measured.correct),
        payload_bytes=sizes(measured.payload_bytes),
        framed_bytes=sizes(measured.framed_bytes),
        pickle_bytes=sizes(measured.pickle_bytes),
        estimated_bits=float(measured.estimated_bits.mean()) if net.splits else None,
        head_parameters=cost.parameters(parameters),
        head_macs=spent,
    )


def _latent(net: Net, variables, images, cut):
    out, _ = run(net, variables, images)
    return out.features[cut]


def _answers(net: Net, variables, x):
    """(class i32[B], estimated bits f32[B])."""
    out, _ = run(net, variables, x)
    bits = sum(out.bits.values()) if out.bits else jax.numpy.zeros(len(x))
    return out.predictions[FINAL].argmax(-1), bits
