"""A uniform quantiser over each example's own range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sc_jax.codec import codec
from sc_jax.codec.codec import INT32_EDGE, TINY, Outputs
from sc_jax.codec.reference import CorruptStream


def quantise(z: Any, bits: int, xp: Any) -> tuple[Any, Any, Any]:
    """(q, zero, scale) of z f32[B, ...], each f32 of z's rank; xp: numpy or jax's.

    The value is (q + zero) * scale: the product comes last, so no fused multiply-add
    can make two machines differ.
    """
    axes = tuple(range(1, z.ndim))
    low = z.min(axes, keepdims=True)
    scale = z.max(axes, keepdims=True) - low
    # A product with a constant: division by 2^b - 1 is rounded otherwise in places.
    scale = scale * np.float32(1 / (2**bits - 1))
    scale = xp.where(scale >= TINY, scale, 1.0)  # also where all values are one
    # A latent far from zero and of small range: its zero point may pass int32.
    zero = xp.clip(xp.round(low / scale), -INT32_EDGE, INT32_EDGE)
    # A divisor that varies with z: XLA multiplies by 1 / a broadcast one.
    divisor = xp.where(z == z, scale, 1.0)
    q = xp.clip(xp.round(z / divisor) - zero, 0.0, 2.0**bits - 1)
    return q, zero, scale


def header(zero: Any, scale: Any) -> bytes:
    """The eight bytes that a payload of `quantise` begins with."""
    return np.array(scale, "<f4").tobytes() + np.array(zero, "<i4").tobytes()


def range_of(data: bytes) -> tuple[np.float32, np.float32]:
    """(zero, scale) of a payload of at least 8 bytes; CorruptStream."""
    scale = np.frombuffer(data, "<f4", 1)[0]
    zero = np.frombuffer(data, "<i4", 1, 4)[0].astype(np.float32)
    # No encoder writes these: a flipped bit must not become a plausible latent.
    if not (np.isfinite(scale) and scale >= TINY) or abs(zero) > INT32_EDGE:
        raise CorruptStream("corrupt stream: scale or zero out of range")
    return zero, scale


def values(q: np.ndarray, zero: np.float32, scale: np.float32) -> np.ndarray:
    """float32 of integers q; CorruptStream where one overflows."""
    with np.errstate(over="ignore"):
        z = (q.astype(np.float32) + zero) * scale
    if not np.isfinite(z).all():
        raise CorruptStream("corrupt stream: values overflow float32")
    return z


@dataclass(frozen=True)
class AffineCodec:
    """Scale, zero point, and 1 to 16 bits a value.

    z finite float32[shape]; decoded (q + zero) * scale, as in `quantise`.
    """

    kind: ClassVar[str] = "affine"
    id: ClassVar[int] = 2
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    # The scale is the example's own: it must not be cut at the calibrated range.
    in_float: ClassVar[tuple[str, ...]] = ("scale", "zero", "symbols")

    shape: tuple[int, ...]
    bits: int = 8

    def __post_init__(self):
        if not 1 <= self.bits <= 16:
            raise ValueError(f"affine codec of {self.bits} bits, not 1 to 16")

    def quantise(self, z: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32]:
        """(symbols int32[shape] in 0 .. 2^bits - 1, zero, scale)."""
        z = codec.checked(z, self.shape, finite=True)
        with np.errstate(over="ignore"):
            # The same function as under jax: two writings would part in last bits.
            q, zero, scale = quantise(z[None], self.bits, np)
        if not np.isfinite(scale).all():
            raise ValueError("latent range overflows float32")
        return q[0].astype(np.int32), zero.reshape(-1)[0], scale.reshape(-1)[0]

    def encode(self, z: np.ndarray) -> bytes:
        return self.pack(*self.quantise(z))

    def decode(self, data: bytes) -> np.ndarray:
        count = math.prod(self.shape) * self.bits
        codec.expect(data, 8 + (count + 7) // 8)
        zero, scale = range_of(data)
        ones = np.unpackbits(np.frombuffer(data, np.uint8, -1, 8), bitorder="little")
        if ones[count:].any():
            raise CorruptStream("corrupt stream: padding bits are set")
        # Little-endian bits, the lowest first, as `pack` lays them.
        weights = np.left_shift(1, np.arange(self.bits), dtype=np.int32)
        q = ones[:count].reshape(*self.shape, self.bits) @ weights
        return values(q, zero, scale)

    def outputs(self, z, xp):
        q, zero, scale = quantise(z, self.bits, xp)
        whole = {"symbols": q, "zero": zero.reshape(-1)}
        whole = {name: value.astype(xp.int32) for name, value in whole.items()}
        return {"scale": scale.reshape(-1), **whole}

    def pack(self, symbols: np.ndarray, zero, scale) -> bytes:
        """The bytes of symbols int32[shape] with their zero point and scale."""
        places = np.arange(self.bits, dtype=np.int32)
        packed = np.packbits((symbols.reshape(-1, 1) >> places) & 1, bitorder="little")
        return header(zero, scale) + packed.tobytes()

    def difference(self, z: np.ndarray, outputs: Outputs):
        symbols, zero, scale = self.quantise(z)
        found = codec.symbol_difference(outputs["symbols"], symbols, z / scale)
        # The scale is compared as a share of itself: it may be far from 1.
        numbers = np.array([outputs["zero"].item(), outputs["scale"].item() / scale])
        pairs = zip(numbers, np.array([zero, 1.0], np.float64))
        beside = [codec.real_difference(*pair)[0] for pair in pairs]
        return np.append(found[0], beside), np.append(found[1], [False, False])

    def refit(self, outputs: Iterable[Outputs]) -> AffineCodec:
        return self

    def to_arrays(self) -> dict[str, np.ndarray]:
        return codec.header(self) | {"bits": np.array(self.bits, np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> AffineCodec:
        return cls(codec.shape_of(arrays), int(arrays["bits"]))
