"""A stretch of a net as a .tflite segment, and its proof against JAX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.codec import Codec
from sc_jax.deploy.device.runtime import (
    CARRY,
    CONFIDENCE,
    EXIT,
    FEATURE,
    confidence_of,
)
from sc_jax.deploy.export import convert, operations
from sc_jax.deploy.export.convert import ExportError, Signature
from sc_jax.deploy.export.parity import Parity, compare
from sc_jax.errors import UsageError
from sc_jax.nets.layers.convolution import plain
from sc_jax.nets.net import FINAL, INPUT, Net, head, match, tail
from sc_jax.nets.run import Variables, run, scope_of

ANALYSIS = "analysis"  # scope of what makes symbols of a latent
BATCH = 64  # of a comparison


@dataclass(frozen=True)
class Segment:
    """One .tflite model: uint8 images (or features) in, `signature.outputs` out."""

    signature: Signature
    model: bytes
    dtype: str
    parity: Parity


def stretch(net: Net, start: str, stop: str) -> Net:
    """The stages after `start` up to and including `stop`, with their exits."""
    part = tail(head(net, stop), start)
    if not part.stages:
        raise UsageError(f"from {start!r} to {stop!r} leaves the device nothing to run")
    if part.splits:
        raise UsageError(f"a split stands after {part.splits[0].after!r}: stop there")
    return part


def named(name: str, tree: Any) -> dict[str, Any]:
    """Arrays of a feature by tensor name: `name`, or of several name0, name1, ..."""
    leaves = jax.tree.leaves(tree)
    if len(leaves) == 1:
        return {name: leaves[0]}
    return {f"{name}{i}": leaf for i, leaf in enumerate(leaves)}


def inputs_of(x: Any, previous: Any = None) -> dict[str, Any]:
    """A segment's inputs by tensor name, in order."""
    image = jax.tree.leaves(x)[0].dtype == np.uint8
    return named("image" if image else FEATURE, x) | named(CARRY, previous)


def program(
    net: Net,
    variables: Variables,
    *,
    start: str = INPUT,
    stop: str,
    codec: Codec | None = None,
    carries: bool = False,
    exact: bool = False,
) -> Callable:
    """What `stretch` computes: (its input [B, ...], carry or None) -> outputs by name.

    Each exit on the way gives f32[B, K] under its own name and, where it learnt one,
    its confidence f32[B] in 0..1 (`confidence_of`), and if `carries` the last gives
    CARRY, what the next exit reads. The end gives the `outputs` of `codec`;
    without one FINAL after the net's last stage where no split stands there, else
    FEATURE, the next segment's input. exact: as `run` takes it, not for export.
    """
    part = stretch(net, start, stop)
    last = net.names[-1]
    # Of a net without a split the device gives the answer itself.
    ends = part.names[-1] == last and net.split_at(last) is None

    def outputs(x, previous=None):
        out, _ = run(part, variables, x, exact=exact, previous=previous)
        exits = [e for e in part.exits if not (ends and e.after == last)]
        found = {e.name: out.predictions[e.name] for e in exits}
        learned = {e.name: out.extras[e.name].get("confidence") for e in exits}
        for name, logit in learned.items():
            if logit is not None:
                with jax.named_scope(scope_of(name)):
                    found[confidence_of(name)] = jax.nn.sigmoid(logit)
        found |= named(CARRY, out.carry) if carries else {}
        z = out.features[part.names[-1]]
        if codec is not None:
            with jax.named_scope(ANALYSIS):
                return found | codec.outputs(z, jnp)
        end = {FINAL: out.predictions[FINAL]} if ends else named(FEATURE, z)
        return found | end

    return outputs


def lower(
    program: Callable, *examples: Any, batch: int | None = None
) -> tuple[bytes, Signature]:
    """Serialised StableHLO of `program` for arguments like `examples`.

    batch: None is any, so that one segment answers one image and is compared by many;
    of a number no operation is left that reads shapes.
    """
    rows = jax.export.symbolic_shape("b") if batch is None else (batch,)

    def of_batch(x):
        return jax.ShapeDtypeStruct((*rows, *x.shape[1:]), x.dtype)

    specs = jax.tree.map(of_batch, examples)
    # The fast convolutions of training on CPU would export as many small products.
    with plain():
        exported = jax.export.export(jax.jit(program), platforms=["cpu"])(*specs)
    # In jax's order of a dict: names are given to outputs by position.
    outputs = tuple(sorted(jax.eval_shape(program, *examples)))
    inputs = tuple(inputs_of(*examples))
    return exported.mlir_module_serialized, Signature("segment", inputs, outputs)


def segment(
    net: Net,
    variables: Variables,
    examples: Any,
    previous: Any = None,
    *,
    start: str = INPUT,
    stop: str,
    codec: Codec | None = None,
    carries: bool = False,
    dtype: str = "float32",
    float_ops: tuple[str, ...] = convert.FLOAT_OPS,
    float_stages: tuple[str, ...] = (),
) -> Segment:
    """The stretch from `start` to `stop`, converted, quantised and compared with JAX.

    examples: real inputs of it, uint8 [N, H, W, C] or a feature of N: int8 is
    calibrated on them and every segment compared. previous: what the exit before handed
    on, where an exit here reads it; carries: one behind this segment does. In int8,
    operations named in `float_ops` and the stages and exits named in `float_stages`
    stay in float. ExportError if it holds an operation outside OPERATIONS, or, float32,
    differs from JAX but for ties.
    """
    part = stretch(net, start, stop)
    make = partial(program, net, start=start, stop=stop, carries=carries)
    known = (examples,) if previous is None else (examples, previous)
    lowered, signature = lower(make(variables, codec=codec), *next(_rows(known, 1)))
    model = convert.convert(lowered, signature)
    operations.check(model)  # in float: of int8 the names of operations say less
    calibration = (inputs_of(*one) for one in _rows(known, 1))
    scopes = _scopes(part, float_stages, signature.outputs)
    if codec is not None and codec.in_float:
        names = "|".join(codec.in_float)
        scopes = (*scopes, rf"[/;]{ANALYSIS}/", f"segment_({names})_output")
    model = convert.quantise(model, dtype, signature, calibration, float_ops, scopes)
    exactly = jax.jit(lambda v, *known: make(v, exact=True)(*known))
    pairs = ((inputs_of(*b), exactly(variables, *b)) for b in _rows(known, BATCH))
    try:
        found = compare(model, pairs, codec)
    except (RuntimeError, ValueError) as error:
        raise _not_run(error, dtype, float_stages) from None
    if dtype == "float32" and found.different > found.ties:
        raise ExportError(
            f"{found.different - found.ties} of {found.symbols} numbers differ from "
            f"JAX; operations: {', '.join(sorted(set(convert.operations(model))))}"
        )
    return Segment(signature, model, dtype, found)


def _not_run(
    error: Exception, dtype: str, float_stages: tuple[str, ...]
) -> ExportError:
    kept = f" with {', '.join(float_stages)} in float" if float_stages else ""
    line = " ".join(str(error).split())
    advice = _advice(float_stages)
    return ExportError(f"LiteRT cannot run the {dtype} segment{kept}: {line}{advice}")


def head_segment(net, variables, cut, codec, images, **options) -> Segment:
    """`segment` from the image to a split, with the codec that stands there."""
    return segment(net, variables, images, stop=cut, codec=codec, **options)


def _rows(tree: Any, size: int) -> Iterator[Any]:
    """The rows of every array, `size` at a time."""
    for i in range(0, len(jax.tree.leaves(tree)[0]), size):
        yield jax.tree.map(lambda x: np.asarray(x[i : i + size]), tree)  # noqa: B023


def _advice(kept: tuple[str, ...]) -> str:
    """What an exit in float may lack: the quantiser loses a feature of two types."""
    alone = {name.removeprefix(EXIT) for name in kept if name.startswith(EXIT)}
    alone -= set(kept)
    return f"; keep {', '.join(sorted(alone))} in float too" if alone else ""


def _scopes(part: Net, kept: tuple[str, ...], outputs: tuple[str, ...]) -> tuple:
    """Patterns of the converter's names for parts of a stretch, groups included."""
    if not kept:
        return ()
    names = match(part, kept)
    found = [rf"(^|[/;]){re.escape(scope_of(name))}/" for name in sorted(names)]
    # What a segment gives is named by that alone, whichever stage computed it.
    last = part.names[-1] in names
    exits = {name.replace(EXIT, CONFIDENCE) for name in names} | names
    ends = {name for name in outputs if name in exits or (last and "@" not in name)}
    return (*found, *(f"segment_{re.escape(name)}_output" for name in sorted(ends)))
