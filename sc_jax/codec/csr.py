"""Quantised values that are not 0, with columns and row counts, in one rANS stream.

Sung et al. 2025, "Range Asymmetric Numeral Systems-Based Lightweight Intermediate
Feature Compression" (https://arxiv.org/abs/2511.11664): asymmetric integer
quantisation, a tensor of T values reshaped to N rows of K columns, a form like CSR, and
one rANS stream, with N of least cost under an approximate model of entropy. Known here
from its abstract and public summaries; its equations were not at hand. A reconstruction
is therefore: 0 stands for what its zero point gives; the stream is values, then
columns, then how many values each row has (counts, not their sums), under one table;
the table travels as a nibble a symbol, its count's logarithm rounded to an octave; the
model takes columns as uniform and row counts as binomial, and K is the best of the
divisors of T up to COLUMNS.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import affine, codec, rans
from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.codec import Outputs
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import TOTAL, Tables

COLUMNS = 4095
HEADER = 16  # bytes: scale, zero point, values, columns, symbols of the table
OCTAVES = 15  # of a count, the largest of a table at the last


@dataclass(frozen=True)
class CSRCodec:
    """A min-max quantiser of 1 to 8 bits, coded sparse; tables of each example's own.

    z finite float32[shape]; decoded (q + zero) * scale as in `affine.quantise`.
    """

    kind: ClassVar[str] = "csr"
    id: ClassVar[int] = 11
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = AffineCodec.in_float

    shape: tuple[int, ...]
    bits: int = 4

    def __post_init__(self):
        if not 1 <= self.bits <= 8:
            raise ValueError(f"csr codec of {self.bits} bits, not 1 to 8")
        if not 1 <= math.prod(self.shape) < 1 << 30:
            raise ValueError(f"csr codec of a latent {self.shape}")

    @property
    def _affine(self) -> AffineCodec:
        return AffineCodec(self.shape, self.bits)

    def encode(self, z: np.ndarray) -> bytes:
        return self.pack(*self._affine.quantise(z))

    def outputs(self, z, xp):
        return self._affine.outputs(z, xp)

    def pack(self, symbols: np.ndarray, zero, scale, columns: int = 0) -> bytes:
        """The bytes of symbols int32[shape]; columns: K, a divisor; 0 chooses it."""
        flat = symbols.reshape(-1)
        places = np.flatnonzero(flat != -int(zero))
        values = flat[places]
        columns = columns or columns_of(flat.size, np.bincount(values))
        rows = np.bincount(places // columns, minlength=flat.size // columns)
        stream = np.concatenate([values, places % columns, rows]).astype(np.int32)
        octaves = octaves_of(np.bincount(stream))
        present, tables = tables_of(octaves)
        head = affine.header(zero, scale) + np.array(places.size, "<u4").tobytes()
        head += np.array([columns, octaves.size], "<u2").tobytes()
        pairs = np.append(octaves, 0)[: octaves.size + octaves.size % 2]
        nibbles = pairs.reshape(-1, 2) @ [1, 16]
        slots = np.searchsorted(present, stream).astype(np.int32)
        return head + nibbles.astype(np.uint8).tobytes() + rans.encode(slots, tables)

    def decode(self, data: bytes) -> np.ndarray:
        size = math.prod(self.shape)
        if len(data) < HEADER:
            raise CorruptStream(f"corrupt stream: {len(data)} bytes")
        zero, scale = affine.range_of(data)
        (kept,) = np.frombuffer(data, "<u4", 1, 8).tolist()
        columns, symbols = np.frombuffer(data, "<u2", 2, 12).tolist()
        if kept > size or not 1 <= columns <= COLUMNS or size % columns:
            raise CorruptStream(f"corrupt stream: {kept} values, {columns} columns")
        if not 1 <= symbols <= max(1 << self.bits, columns + 1):
            raise CorruptStream(f"corrupt stream: a table of {symbols} symbols")
        end = HEADER + (symbols + 1) // 2
        packed = np.frombuffer(data[HEADER:end], np.uint8).astype(np.int64)
        nibbles = np.stack([packed & 15, packed >> 4], 1).reshape(-1)
        octaves = nibbles[:symbols]
        if len(data) < end or nibbles[symbols:].any() or not octaves[-1]:
            raise CorruptStream("corrupt stream: a table cut short")
        present, tables = tables_of(octaves)
        rows = size // columns
        slots = rans.decode(data[end:], 2 * kept + rows, tables)
        # The escape slot exists in every table, and no encoder uses it here.
        if slots.min() < 0 or slots.max() >= present.size:
            raise CorruptStream("corrupt stream: a symbol that there is not")
        found = np.split(present[slots], [kept, 2 * kept])
        q = self._grid(*found, -int(zero), columns)
        return affine.values(q, zero, scale).reshape(self.shape)

    def _grid(self, values, places, counts, empty: int, columns: int) -> np.ndarray:
        """int64[T] of a stream, `empty` where no value stands; CorruptStream."""
        if counts.sum() != values.size or (places >= columns).any():
            raise CorruptStream("corrupt stream: rows of other sizes")
        if (values >> self.bits).any() or (values == empty).any():
            raise CorruptStream(f"corrupt stream: a value beyond {self.bits} bits")
        places = np.repeat(np.arange(counts.size) * columns, counts) + places
        if (np.diff(places) <= 0).any():
            raise CorruptStream("corrupt stream: columns do not rise")
        q = np.full(counts.size * columns, empty, np.int64)
        q[places] = values
        return q

    def difference(self, z: np.ndarray, outputs: Outputs):
        return self._affine.difference(z, outputs)

    def refit(self, outputs: Iterable[Outputs]) -> CSRCodec:
        return self

    def to_arrays(self) -> dict[str, np.ndarray]:
        return codec.header(self) | {"bits": np.array(self.bits, np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> CSRCodec:
        return cls(codec.shape_of(arrays), int(arrays["bits"]))


def octaves_of(counts: np.ndarray) -> np.ndarray:
    """int64[A] in 0 .. OCTAVES of counts int64[A]: 0 what never comes."""
    with np.errstate(divide="ignore"):
        octaves = OCTAVES + np.rint(np.log2(counts / counts.max()))
    return np.where(counts > 0, np.maximum(octaves, 1), 0).astype(np.int64)


def tables_of(octaves: np.ndarray) -> tuple[np.ndarray, Tables]:
    """(the symbols that come, one row for their places among them, and the escape)."""
    present = np.flatnonzero(octaves)
    weights = np.left_shift(1, octaves[present] - 1)
    counts = 1 + weights * (TOTAL - 1 - present.size) // weights.sum()
    # What rounding leaves: to the first of the most frequent.
    counts[weights.argmax()] += TOTAL - 1 - counts.sum()
    cdf = np.concatenate([[0], np.cumsum(counts), [TOTAL]]).astype(np.uint32)[None]
    length = np.array([present.size + 1], np.int32)
    return present, Tables(cdf, length, np.zeros(1, np.int32))


@functools.cache
def divisors(size: int) -> tuple[int, ...]:
    """The K of 1 .. COLUMNS that divide a size."""
    known = np.arange(1, min(size, COLUMNS) + 1)
    return tuple(known[size % known == 0].tolist())


@functools.cache
def _log_factorials() -> np.ndarray:
    return np.append(0.0, np.cumsum(np.log(np.arange(1, COLUMNS + 1))))


def columns_of(size: int, counts: np.ndarray) -> int:
    """K of least modelled bits for T = size values, counts int64[V] of their values."""
    kept = int(counts.sum())
    return min(divisors(size), key=lambda k: model_bits(size, k, kept, counts))


def model_bits(size: int, columns: int, kept: int, counts: np.ndarray) -> float:
    """Bits of stream and table at K columns: its length times its entropy H(p(N)).

    p(N): the values' own counts, columns uniform, counts of a row binomial.
    """
    k = np.arange(columns + 1)
    share = min(max(kept / size, 1e-12), 1 - 1e-12)
    logs = _log_factorials()
    log_mass = logs[columns] - logs[k] - logs[columns - k]
    log_mass += k * math.log(share) + (columns - k) * math.log(1 - share)
    total = np.zeros(max(columns + 1, counts.size))
    total[: columns + 1] = size / columns * np.exp(log_mass)
    total[:columns] += kept / columns
    total[: counts.size] += counts
    used = total[total > 1e-9]
    bits = -(used * np.log2(used / total.sum())).sum()
    # The table ends where less than half a symbol is expected behind.
    reached = total.size - np.searchsorted(np.cumsum(total[::-1]), 0.5)
    return float(bits) + 4 * float(reached)
