"""What every codec promises, and the checks they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from sc_jax.codec.reference import CorruptStream

INT32_EDGE = np.float32(2147483520)  # the largest float32 below 2^31
TINY = np.finfo(np.float32).tiny
CLOSE = 1e-4  # of a half: there float32 of two runtimes may round either way

Outputs = Mapping[str, np.ndarray]


class Codec(Protocol):
    """One example's latent <-> bytes: a frozen value, NumPy only.

    kind: its key in `codecs.KINDS`. id: of its frames, 1 to 255, never used again.
    latent_dtype: of what `decode` gives. exports: a head may compute `outputs`.
    in_float: names of the outputs that an int8 head must compute in float32.
    """

    kind: ClassVar[str]
    id: ClassVar[int]
    latent_dtype: ClassVar[type[np.generic]]
    exports: ClassVar[bool]
    in_float: ClassVar[tuple[str, ...]]

    @property
    def shape(self) -> tuple[int, ...]: ...

    def encode(self, z: np.ndarray) -> bytes:
        """The bytes of z[shape]; ValueError for what it cannot code."""
        ...

    def decode(self, data: bytes) -> np.ndarray:
        """What the compressor's evaluation run gives, bit for bit.

        CorruptStream, and nothing else, for bytes that `encode` never writes.
        """
        ...

    def outputs(self, z: Any, xp: Any) -> dict[str, Any]:
        """What a head computes of latents [B, ...] for `pack`; xp: numpy or jax's."""
        ...

    @property
    def pack(self) -> Callable[..., bytes]:
        """`encode` from one example's `outputs`, by name."""
        ...

    def difference(self, z: np.ndarray, outputs: Outputs) -> tuple[Any, Any]:
        """(|difference| of each number, whether NumPy's own was near a rounding tie).

        outputs: one example's, from another runtime; z: its latent in float32.
        """
        ...

    def refit(self, outputs: Iterable[Outputs]) -> Codec:
        """With tables of batches that a head really gave; itself where it has none."""
        ...

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for a checkpoint or a bundle: `header`, then its own."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Codec: ...


def header(codec: Codec) -> dict[str, np.ndarray]:
    """What the arrays of every codec begin with."""
    return {"kind": ascii_of(codec.kind), "shape": np.array(codec.shape, np.int32)}


def shape_of(arrays: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """The latent's sides, of fewer than 2^31 values; ValueError.

    Before a decoder takes the memory that a damaged shape asks for.
    """
    shape = np.asarray(arrays["shape"])
    if shape.ndim != 1 or shape.dtype.kind not in "iu" or (shape < 0).any():
        raise ValueError(f"shape {shape.dtype}{list(shape.shape)} is no row of sides")
    sides = tuple(shape.tolist())
    if math.prod(sides) > np.iinfo(np.int32).max:
        raise ValueError(f"a latent of shape {sides} has more than 2^31 - 1 values")
    return sides


def ascii_of(text: str) -> np.ndarray:
    """A string as uint8: an npz without pickle holds no other."""
    return np.frombuffer(text.encode("ascii"), np.uint8)


def text_of(array: np.ndarray) -> str:
    return array.tobytes().decode("ascii", "replace")


def checked(z: np.ndarray, shape: tuple[int, ...], *, finite: bool) -> np.ndarray:
    """z as float32 of this shape; ValueError otherwise."""
    z = np.asarray(z)
    if z.shape != shape or z.dtype != np.float32:
        raise ValueError(f"latent is {z.dtype}{z.shape}, not float32{shape}")
    if finite and not np.isfinite(z).all():
        raise ValueError("latent has values that are not finite")
    return z


def level_of(data: bytes, levels: int) -> tuple[int, bytes]:
    """(the level that a message begins with, what follows it); CorruptStream."""
    if not len(data):
        raise CorruptStream("corrupt stream: no byte of a level")
    if (level := data[0]) >= levels:
        raise CorruptStream(f"corrupt stream: level {level} of {levels}")
    return level, data[1:]


def expect(data: bytes, size: int) -> None:
    if len(data) != size:
        raise CorruptStream(f"corrupt stream: {len(data)} bytes, not {size}")


def real_difference(got: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, Any]:
    """|difference| where it is more than float32's own, and no ties.

    A number near 0 may be a sum of large ones: the tensor's median counts too.
    """
    finite = np.isfinite(exact)
    size = np.median(np.abs(exact[finite])) if finite.any() else 0
    with np.errstate(invalid="ignore"):  # inf - inf
        distance = np.abs(got - exact)
        near = finite & (distance <= CLOSE * np.maximum(max(1, size), np.abs(exact)))
    # Equal infinities have no difference to compare.
    near |= got == exact
    distance = np.where(near, 0, np.nan_to_num(distance, nan=np.inf))
    return distance, np.zeros(exact.shape, bool)


def symbol_difference(
    got: np.ndarray, symbols: np.ndarray, exact: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(|got - symbols|, whether it is 1 where `exact` lies near a half).

    exact float32: what was rounded to `symbols`.
    """
    # int32 symbols may lie 2^32 apart.
    distance = np.abs(got.astype(np.int64) - symbols)
    # Two runtimes may sum in another order: a value near a half rounds either way.
    tie = (np.abs(exact - np.floor(exact) - 0.5) < CLOSE) & (distance == 1)
    return distance, tie
