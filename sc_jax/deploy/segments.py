"""A stretch of a net as a .tflite segment, and its proof against JAX."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.codecs import AffineCodec, Codec, FactorizedCodec, RawCodec
from sc_jax.compressors.simple import Affine
from sc_jax.deploy import export, operations
from sc_jax.deploy.export import ExportError, Signature
from sc_jax.deploy.runtime import Runner
from sc_jax.errors import UsageError
from sc_jax.nets.convolution import plain
from sc_jax.nets.net import FINAL, INPUT, Net, head, match, tail
from sc_jax.nets.run import Variables, run

ANALYSIS = "analysis"  # scope of what makes symbols of a latent
CLOSE = 1e-4  # of a half: there float32 of two runtimes may round either way


@dataclass(frozen=True)
class Parity:
    """How a segment's outputs differ from JAX's over some real examples."""

    examples: int
    symbols: int  # numbers compared: symbols, and values of exits and features
    different: int  # other symbols, or values beyond CLOSE
    ties: int  # of the different, symbols with |frac - 1/2| < CLOSE in JAX
    largest: float  # difference of a symbol, or of a value beyond CLOSE


@dataclass(frozen=True)
class Segment:
    """One .tflite model: uint8 images (or features) in, `signature.outputs` out."""

    signature: Signature
    model: bytes
    dtype: str
    parity: Parity


def analyse(codec: Codec, z: jax.Array) -> dict[str, jax.Array]:
    """Latents f32[B, ...] to what `codec.pack` takes, by name; for export."""
    if isinstance(codec, FactorizedCodec):
        medians = codec.medians.reshape((1,) * (z.ndim - 1) + (-1,))
        return {"symbols": jnp.round(z - medians).astype(jnp.int32)}
    if isinstance(codec, RawCodec):
        return {"latent": z}
    if isinstance(codec, AffineCodec):
        return Affine(codec.bits).parts(z)
    raise UsageError("an image codec stands at the input: there is no head to export")


def stretch(net: Net, start: str, stop: str) -> Net:
    """The stages after `start` up to and including `stop`, with their exits."""
    part = tail(head(net, stop), start)
    if not part.stages:
        raise UsageError(f"from {start!r} to {stop!r} leaves the device nothing to run")
    if part.splits:
        raise UsageError(f"a split stands after {part.splits[0].after!r}: stop there")
    return part


def program(
    net: Net,
    variables: Variables,
    *,
    start: str = INPUT,
    stop: str,
    codec: Codec | None = None,
) -> Callable:
    """What `stretch` computes, for export: its input [B, ...] -> outputs by name.

    Each exit on the way gives f32[B, K] under its own name. The end gives the
    `analyse`d latent of `codec`; without one "final" after the net's last stage, else
    "feature", the next segment's input.
    """
    part = stretch(net, start, stop)

    def outputs(x):
        out, _ = run(part, variables, x, exact=False)
        found = {e.name: out.predictions[e.name] for e in part.exits}
        z = out.features[part.names[-1]]
        if codec is not None:
            with jax.named_scope(ANALYSIS):
                return found | analyse(codec, z)
        return found | {end(net, part): z}

    return outputs


def end(net: Net, part: Net) -> str:
    """Name of a segment's last output where no codec stands."""
    return FINAL if part.names[-1] == net.names[-1] else "feature"


def lower(program: Callable, example: np.ndarray) -> tuple[bytes, Signature]:
    """Serialised StableHLO of `program` for any batch of inputs like `example`."""
    batch = ("b, " + ", ".join(map(str, example.shape[1:])),)
    shape = jax.ShapeDtypeStruct(example.shape, example.dtype)
    specs = jax.export.symbolic_args_specs((shape,), batch)
    with plain():
        exported = jax.export.export(jax.jit(program), platforms=["cpu"])(*specs)
    outputs = tuple(sorted(jax.eval_shape(program, example)))
    name = "image" if example.dtype == np.uint8 else "feature"
    return exported.mlir_module_serialized, Signature("segment", (name,), outputs)


def segment(
    net: Net,
    variables: Variables,
    examples: np.ndarray,
    *,
    start: str = INPUT,
    stop: str,
    codec: Codec | None = None,
    dtype: str = "float32",
    float_ops: tuple[str, ...] = (),
    float_stages: tuple[str, ...] = (),
) -> Segment:
    """The stretch from `start` to `stop`, converted, quantised and compared with JAX.

    examples: real inputs of it, uint8 [N, H, W, C] or f32[N, ...]: int8 is calibrated
    on them and every segment compared. In int8, operations named in `float_ops` and
    the stages and exits named in `float_stages` stay in float. ExportError if it holds
    an operation outside OPERATIONS, or, float32, differs from JAX but for ties.
    """
    part = stretch(net, start, stop)
    function = program(net, variables, start=start, stop=stop, codec=codec)
    lowered, signature = lower(function, examples[:1])
    model = export.convert(lowered, signature)
    operations.check(model)
    calibration = ({signature.inputs[0]: each[None]} for each in examples)
    scopes = _scopes(part, float_stages, signature.outputs)
    if isinstance(codec, AffineCodec):  # its scale must not be cut at the calibrated
        scopes = (*scopes, rf"[/;]{ANALYSIS}/", "segment_(scale|zero|symbols)_output")
    model = export.quantise(model, dtype, signature, calibration, float_ops, scopes)
    try:
        found = compare(model, part, variables, codec, examples)
    except (RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())
        kept = f" with {', '.join(float_stages)} in float" if float_stages else ""
        raise ExportError(
            f"LiteRT cannot run the {dtype} segment{kept}: {line}"
        ) from None
    if dtype == "float32" and found.different > found.ties:
        raise ExportError(
            f"{found.different - found.ties} of {found.symbols} numbers differ from "
            f"JAX; operations: {', '.join(sorted(set(export.operations(model))))}"
        )
    return Segment(signature, model, dtype, found)


def head_segment(net, variables, cut, codec, images, **options) -> Segment:
    """`segment` from the image to a split, with the codec that stands there."""
    return segment(net, variables, images, stop=cut, codec=codec, **options)


def _scopes(part: Net, kept: tuple[str, ...], outputs: tuple[str, ...]) -> tuple:
    """Patterns of the converter's names for parts of a stretch, groups included."""
    if not kept:
        return ()
    names = match(part, kept)
    found = [rf"(^|[/;]){re.escape(name)}/" for name in sorted(names)]
    # What a segment gives is named by that alone, whichever stage computed it.
    last = part.names[-1] in names
    ends = {name for name in outputs if name in names or (last and "@" not in name)}
    return (*found, *(f"segment_{re.escape(name)}_output" for name in sorted(ends)))


def compare(
    model: bytes,
    part: Net,
    variables: Variables,
    codec: Codec | None,
    examples: np.ndarray,
    *,
    batch_size: int = 64,
) -> Parity:
    """Runs a segment and the stretch that it was made of on the same inputs."""
    runner, names = Runner(model), {e.name for e in part.exits}

    @jax.jit
    def exactly(variables, x):
        out, _ = run(part, variables, x)
        exits = {name: out.predictions[name] for name in names}
        return exits, out.features[part.names[-1]]

    total, different, tied, largest = 0, 0, 0, 0.0
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        exits, z = jax.device_get(exactly(variables, batch))
        outputs = runner(batch)
        pairs = [_real(outputs[name], exits[name]) for name in names]
        rest = {k: v for k, v in outputs.items() if k not in names}
        for i, each in enumerate(z):
            pairs.append(_distance(codec, each, {k: v[i] for k, v in rest.items()}))
        for distance, tie in pairs:
            total += distance.size
            different += int((distance > 0).sum())
            tied += int(((distance > 0) & tie).sum())
            largest = max(largest, float(distance.max(initial=0)))
    return Parity(len(examples), total, different, tied, largest)


def _real(got: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|difference| where it is more than float32's own, and no ties."""
    with np.errstate(invalid="ignore"):  # inf - inf
        distance = np.abs(got - exact)
        near = np.isfinite(exact) & (distance <= CLOSE * np.maximum(1, np.abs(exact)))
    near |= got == exact
    distance = np.where(near, 0, np.nan_to_num(distance, nan=np.inf))
    return distance, np.zeros(exact.shape, bool)


def _distance(
    codec: Codec | None, z: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(|difference| of each number, whether JAX's own was near a rounding tie)."""
    if codec is None or isinstance(codec, RawCodec):
        (got,) = outputs.values()
        return _real(got, z)
    assert isinstance(codec, FactorizedCodec | AffineCodec)
    if isinstance(codec, FactorizedCodec):
        exact, ours = z - codec.medians, np.moveaxis(codec.symbols(z), 0, -1)
    else:
        ours, zero, scale = codec.quantise(z)
        exact = z / scale
        beside = np.stack([outputs["zero"].item(), outputs["scale"].item() / scale])
        beside, _ = _real(beside, np.array([zero, 1.0]).reshape(beside.shape))
    distance = np.abs(outputs["symbols"].astype(np.int64) - ours)
    tie = (np.abs(exact - np.floor(exact) - 0.5) < CLOSE) & (distance == 1)
    if isinstance(codec, AffineCodec):
        distance = np.append(distance, beside)
        tie = np.append(tie, np.zeros(beside.size, bool))
    return distance, tie
