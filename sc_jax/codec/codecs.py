"""The codecs a device ships: one example's latent <-> bytes.

Each is a frozen value with `shape`, `encode(z) -> bytes` and `decode(data) -> array`,
without a batch axis. encode raises ValueError for what it cannot code; decode raises
CorruptStream for bytes that encode never writes. docs/bitstream.md has the layouts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sc_jax.codec import rans
from sc_jax.codec.simple import (
    INT32_EDGE,
    AffineCodec,
    ImageCodec,
    RawCodec,
    checked,
)
from sc_jax.codec.tables import Tables


@dataclass(frozen=True, eq=False)
class FactorizedCodec:
    """Rounded latents under one table per channel (Ballé et al. 2018).

    z finite float32[..., C]; tables of C rows; medians float32[C]. Decoded
    round(z - median) + median, half to even. Symbols go channel by channel.
    """

    shape: tuple[int, ...]
    tables: Tables
    medians: np.ndarray

    def __post_init__(self):
        medians = np.array(self.medians, np.float32)
        if medians.shape != self.shape[-1:] or self.tables.rows != medians.size:
            raise ValueError(
                f"{self.tables.rows} table rows and {medians.shape} medians for a"
                f" latent of shape {self.shape}"
            )
        if not np.isfinite(medians).all():
            raise ValueError("medians are not finite")
        medians.flags.writeable = False
        object.__setattr__(self, "medians", medians)

    def __eq__(self, other):
        if not isinstance(other, FactorizedCodec):
            return NotImplemented
        same = self.shape == other.shape and self.tables == other.tables
        return same and np.array_equal(self.medians, other.medians)

    def symbols(self, z: np.ndarray) -> np.ndarray:
        """int32[C, ...]: the order of the stream."""
        z = checked(z, self.shape, finite=True)
        with np.errstate(over="ignore"):
            v = np.clip(np.rint(z - self.medians), -INT32_EDGE, INT32_EDGE)
        return np.ascontiguousarray(np.moveaxis(v, -1, 0)).astype(np.int32)

    def encode(self, z: np.ndarray) -> bytes:
        return rans.encode(self.symbols(z).reshape(-1), self.tables)

    def pack(self, symbols: np.ndarray) -> bytes:
        """The stream of int32[..., C]: what a head that rounds by itself hands over."""
        if symbols.shape != self.shape or symbols.dtype != np.int32:
            raise ValueError(f"symbols are {symbols.dtype}{symbols.shape}")
        flat = np.moveaxis(symbols, -1, 0).reshape(-1)
        return rans.encode(np.ascontiguousarray(flat), self.tables)

    def decode(self, data: bytes) -> np.ndarray:
        flat = rans.decode(data, math.prod(self.shape), self.tables)
        symbols = flat.reshape(self.shape[-1:] + self.shape[:-1])
        values = np.moveaxis(symbols, 0, -1).astype(np.float32, order="C")
        return values + self.medians


Codec = RawCodec | AffineCodec | ImageCodec | FactorizedCodec
KINDS: dict[str, type[Codec]] = {
    "raw": RawCodec,
    "affine": AffineCodec,
    "image": ImageCodec,
    "factorized": FactorizedCodec,
}
IDS = {"raw": 1, "affine": 2, "image": 3, "factorized": 4}  # on the wire: never reuse


def kind(codec: Codec) -> str:
    return next(name for name, cls in KINDS.items() if type(codec) is cls)


def _text(value: str) -> np.ndarray:
    return np.frombuffer(value.encode("ascii"), np.uint8)


def to_arrays(codec: Codec) -> dict[str, np.ndarray]:
    """The codec as plain arrays for a checkpoint; strings as their ASCII bytes."""
    arrays = {"kind": _text(kind(codec)), "shape": np.array(codec.shape, np.int32)}
    match codec:
        case RawCodec():
            return arrays | {"dtype": _text(codec.dtype)}
        case AffineCodec():
            return arrays | {"bits": np.array(codec.bits, np.int32)}
        case ImageCodec():
            quality = -1 if codec.quality is None else codec.quality
            image = {"format": _text(codec.format), "quality": np.int32(quality)}
            return arrays | {k: np.asarray(v) for k, v in image.items()}
        case FactorizedCodec():
            return arrays | codec.tables.to_arrays() | {"medians": codec.medians}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Codec:
    """The codec of `to_arrays`; ValueError for an unknown kind."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    name = arrays["kind"].tobytes().decode("ascii", "replace")
    shape = tuple(arrays["shape"].tolist())
    match name:
        case "raw":
            return RawCodec(shape, arrays["dtype"].tobytes().decode("ascii"))
        case "affine":
            return AffineCodec(shape, int(arrays["bits"]))
        case "image":
            quality = int(arrays["quality"])
            format = arrays["format"].tobytes().decode("ascii")
            return ImageCodec(format, None if quality < 0 else quality, shape)
        case "factorized":
            return FactorizedCodec(shape, Tables.from_arrays(arrays), arrays["medians"])
    raise ValueError(f"unknown codec kind {name!r}; known: {', '.join(KINDS)}")
