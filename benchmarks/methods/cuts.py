"""What codecs cost and keep at the cuts of a network that nothing was trained for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.origin import origin
from sc_jax import spec
from sc_jax.codec.in_context import InContextCodec
from sc_jax.compressors import Compressor, Erasure, named, splits
from sc_jax.data.sources import Dataset
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports.report import machine
from sc_jax.nets.checkpoints import pretrained
from sc_jax.nets.net import FINAL, INPUT, Net, SplitPoint, head, tail
from sc_jax.nets.run import Variables, init, run
from sc_jax.runs import publish, run_folder


def some(every: Dataset, count: int) -> Dataset:
    """`count` examples, evenly spaced: folders come sorted by class."""
    return every.take(
        np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)
    )


def subject(text: str | None, folder: str | None) -> tuple[Any, Variables]:
    """(recipe, variables) of the network that is cut: of --recipe or of --run."""
    if bool(text) == bool(folder):
        raise UsageError("give --recipe, with pretrained=FILE, or --run")
    if folder:
        recipe = run_folder.recipe_of(Path(folder))
        variables = run_folder.restore(recipe, Path(folder))[0]
    else:
        name, knobs = spec.parse(text or "", "recipe")
        recipe = run_folder.Source(name, knobs).build()
        if not recipe.pretrained or recipe.phases:
            raise UsageError("--recipe needs pretrained=FILE and epochs=0, or --run")
        example = run_folder.example_of(recipe)
        fresh = init(recipe.net, jax.random.key(recipe.seed), example)
        variables = pretrained.load(
            recipe.backbone, recipe.net, fresh, recipe.pretrained, trained=False
        )
    if any(name == "encoder" for name in recipe.net.names):
        raise UsageError("the network has a bottleneck: take its teacher")
    # A split of its own is left out: what stands at a cut is measured here.
    return replace(recipe, net=replace(recipe.net, splits=())), variables


def cuts(net: Net, variables: Variables, example: np.ndarray) -> list[str]:
    """The input, and each stage but the last that gives one array of float32."""

    def features(variables, x):
        return run(net, variables, x)[0].features

    found = jax.eval_shape(features, variables, example)
    # The normalised image is larger than the image, and says no more.
    names = [n for n in net.names[:-1] if n != "normalise"]
    one = [n for n in names if len(jax.tree.leaves(found[n])) == 1]
    return [INPUT, *one]


class Part:
    """One side of a cut net, compiled once."""

    def __init__(self, net: Net, variables: Variables, last: str):
        def answer(variables, x):
            outputs = run(net, variables, x)[0]
            return (
                outputs.features[last] if last != FINAL else outputs.predictions[last]
            )

        self._run, self._variables = jax.jit(answer), variables
        self._empty = not net.stages

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x if self._empty else np.asarray(self._run(self._variables, x))


def part_of(text: str) -> tuple[Compressor, int, Erasure | None]:
    """(compressor, tables a channel of its context or 0, what loses its values)."""
    own, *options = re.split(r"\+(?=(?:context|loss|packet)=)", text)
    values = dict(option.split("=") for option in options)
    numbers = {name: spec.literal(value) for name, value in values.items()}
    loss = numbers.get("loss")
    if "packet" in numbers and not loss:
        raise UsageError(f"{text}: a packet is what is lost: give loss=SHARE too")
    channel = Erasure(loss, numbers.get("packet", 1)) if loss else None
    return named(own), numbers.get("context", 0), channel


def codec_of(text: str, latents: list[np.ndarray]) -> Any:
    """The codec of a text for such latents, solved from them where it reads any."""
    (compressor, classes, _), z = part_of(text), latents[0]
    alone = Net((), splits=(SplitPoint(INPUT, compressor),))
    params = init(alone, jax.random.key(0), z[:1]).params["split@input"]
    if compressor.needs_latents:
        known = np.concatenate([splits.sampled(each) for each in latents])
        params = compressor.calibrated(params, known)
    own: Any = compressor
    codec = own.codec(params, z.shape[1:])
    if not classes:
        return codec
    return InContextCodec.fit(codec, (codec.outputs(z, np) for z in latents), classes)


def arrived(text: str, z_hat: np.ndarray, batch: int) -> np.ndarray:
    """What the tail reads of decoded latents; a draw of its own for each batch."""
    channel = part_of(text)[2]
    if channel is None:
        return z_hat
    return np.asarray(channel(jnp.asarray(z_hat), jax.random.key(batch)))


def measured(
    net: Net,
    variables: Variables,
    cut: str,
    texts: Sequence[str],
    fitted: Iterator[tuple],
    batches: Iterator[tuple],
) -> list[dict]:
    """A row for each compressor of `texts` at one cut.

    fitted, batches: (images, labels, how many are examples) of training and of test.
    """
    before = Part(head(net, cut), variables, cut)
    behind = Part(tail(net, cut), variables, FINAL)
    latents = [before(images)[:count] for images, _, count in fitted]
    codecs = {text: codec_of(text, latents) for text in texts}
    sizes: dict[str, list[int]] = {text: [] for text in texts}
    right: dict[str, list[bool]] = {text: [] for text in ("", *texts)}
    same: dict[str, list[bool]] = {text: [] for text in texts}
    seconds = {text: np.zeros(2) for text in texts}
    for number, (images, labels, count) in enumerate(batches):
        z, labels = before(images), np.asarray(labels)[:count]
        whole = behind(z).argmax(-1)[:count]
        right[""] += list(whole == labels)
        for text, codec in codecs.items():
            data, z_hat, spent = through(codec, z[:count])
            padded = np.concatenate([z_hat, np.zeros_like(z[count:])])
            padded = arrived(text, padded, number)
            answers = behind(padded).argmax(-1)[:count]
            sizes[text] += [len(each) for each in data]
            right[text] += list(answers == labels)
            same[text] += list(answers == whole)
            seconds[text] += spent
    return [
        {
            "cut": cut,
            "compressor": text,
            "shape": list(latents[0].shape[1:]),
            "images": len(sizes[text]),
            "bytes": float(np.mean(sizes[text])),
            "bits_an_element": 8 * float(np.mean(sizes[text])) / latents[0][0].size,
            **lost(np.array(right[""]), np.array(right[text])),
            "agreement": float(np.mean(same[text])),
            "encode_ms": 1e3 * seconds[text][0] / len(sizes[text]),
            "decode_ms": 1e3 * seconds[text][1] / len(sizes[text]),
        }
        for text in texts
    ]


def through(codec: Any, z: np.ndarray) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """(bytes of each example, what they decode to, seconds of both directions)."""
    begun = time.perf_counter()
    data = [codec.encode(example) for example in z]
    middle = time.perf_counter()
    decoded = np.stack([codec.decode(each) for each in data])
    end = time.perf_counter()
    return data, decoded, np.array([middle - begun, end - middle])


def lost(whole: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Top-1 in per cent, and the points lost with the standard error of a pair."""
    difference = 100 * (whole.astype(float) - right)
    return {
        "top_1": 100 * float(right.mean()),
        "points_lost": float(difference.mean()),
        "standard_error": float(difference.std() / np.sqrt(len(difference))),
    }


def described(network: str, test: Dataset, train: Dataset) -> dict[str, Any]:
    """What the report of a benchmark over cuts begins with."""
    return {
        **origin(),
        "machine": machine(),
        "network": network,
        "data": publish.bare(test.name),
        "images": len(test),
        "fitted": len(train),
    }


COLUMNS = (
    *("cut", "elements", "compressor", "bits an element", "bytes", "top-1 %"),
    *("points lost", "agreement %", "encode ms", "decode ms"),
)


def line(row: dict) -> str:
    return (
        f"| {row['cut']} | {np.prod(row['shape']):,} | {row['compressor']} "
        f"| {row['bits_an_element']:.3f} | {row['bytes']:,.0f} | {row['top_1']:.2f} "
        f"| {row['points_lost']:+.2f} ± {row['standard_error']:.2f} "
        f"| {100 * row['agreement']:.1f} | {row['encode_ms']:.1f} "
        f"| {row['decode_ms']:.1f} |"
    )


def kept(saved: dict, document: dict) -> list[dict]:
    """Rows of an earlier call of the same network and images."""
    for name in ("network", "data", "images", "fitted"):
        if saved.get(name) != document[name]:
            raise UsageError(
                f"--out has rows of {name} {saved.get(name)}, not {document[name]}: "
                "another --out keeps both"
            )
    return saved["rows"]


def commands(saved: str, new: str) -> str:
    """Every command that rows are of, each once, as the page of results indents it."""
    return "\n    ".join(dict.fromkeys([*saved.split("\n    "), new]))
