"""A stretch of a net as a .tflite segment, and its proof against JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.codecs import AffineCodec, Codec, FactorizedCodec, RawCodec
from sc_jax.compressors.simple import Affine
from sc_jax.deploy import export
from sc_jax.deploy.export import ExportError, Signature
from sc_jax.deploy.runtime import Runner
from sc_jax.errors import UsageError
from sc_jax.nets.convolution import plain
from sc_jax.nets.net import Net, head
from sc_jax.nets.run import Variables, run

CLOSE = 1e-4  # of a half: there float32 of two runtimes may round either way


@dataclass(frozen=True)
class Parity:
    """How a segment's symbols differ from JAX's over some real examples."""

    examples: int
    symbols: int
    different: int
    ties: int  # of the different, those with |frac - 1/2| < CLOSE in JAX
    largest: float  # difference of a symbol, or of a raw value beyond CLOSE


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


def head_program(net: Net, variables: Variables, cut: str, codec: Codec) -> Callable:
    """uint8 images [B, H, W, C] -> `analyse`d latents: head, compressor's front."""
    before = head(net, cut)
    if not before.stages:
        raise UsageError(f"the cut after {cut!r} leaves the device nothing to run")

    def program(image):
        out, _ = run(before, variables, image, exact=False)
        return analyse(codec, out.features[before.names[-1]])

    return program


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


def head_segment(
    net: Net,
    variables: Variables,
    cut: str,
    codec: Codec,
    images: np.ndarray,
    *,
    dtype: str = "float32",
    float_ops: tuple[str, ...] = (),
) -> Segment:
    """The head up to `cut` with its rounding, converted, quantised and compared.

    images: uint8 [N, H, W, C], real ones: int8 is calibrated on them and every segment
    compared. ExportError if a float32 segment's symbols differ but for ties.
    """
    program = head_program(net, variables, cut, codec)
    lowered, signature = lower(program, images[:1])
    model = export.convert(lowered, signature)
    calibration = ({signature.inputs[0]: image[None]} for image in images)
    model = export.quantise(model, dtype, signature, calibration, float_ops)
    found = compare(model, net, variables, cut, codec, images)
    if dtype == "float32" and found.different > found.ties:
        raise ExportError(
            f"{found.different - found.ties} of {found.symbols} symbols differ from "
            f"JAX; operations: {', '.join(sorted(set(export.operations(model))))}"
        )
    return Segment(signature, model, dtype, found)


def compare(
    model: bytes,
    net: Net,
    variables: Variables,
    cut: str,
    codec: Codec,
    images: np.ndarray,
    *,
    batch_size: int = 64,
) -> Parity:
    """Runs a head segment and JAX on the same images."""
    before, runner = head(net, cut), Runner(model)
    latents = jax.jit(partial(_latents, before))
    total, different, tied, largest = 0, 0, 0, 0.0
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        z, outputs = np.asarray(latents(variables, batch)), runner(batch)
        for i, each in enumerate(z):
            distance, tie = _distance(
                codec, each, {k: v[i] for k, v in outputs.items()}
            )
            total += distance.size
            different += int((distance > 0).sum())
            tied += int(((distance > 0) & tie).sum())
            largest = max(largest, float(distance.max(initial=0)))
    return Parity(len(images), total, different, tied, largest)


def _latents(before: Net, variables, images):
    out, _ = run(before, variables, images)
    return out.features[before.names[-1]]


def _distance(
    codec: Codec, z: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(|difference| of each number, whether JAX's own was near a rounding tie)."""
    if isinstance(codec, RawCodec):
        distance = np.abs(outputs["latent"] - z)
        near = distance <= CLOSE * np.maximum(1, np.abs(z))
        return np.where(near, 0, distance), np.zeros(z.shape, bool)
    assert isinstance(codec, FactorizedCodec | AffineCodec)
    if isinstance(codec, FactorizedCodec):
        exact, ours = z - codec.medians, np.moveaxis(codec.symbols(z), 0, -1)
    else:
        ours, _, scale = codec.quantise(z)
        exact = z / scale
    tie = np.abs(exact - np.floor(exact) - 0.5) < CLOSE
    return np.abs(outputs["symbols"].astype(np.int64) - ours), tie
