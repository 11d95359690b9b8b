"""Latents rounded to bins of a width that each message names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sc_jax.codec import by_channel, codec, refit
from sc_jax.codec.codec import INT32_EDGE, Outputs
from sc_jax.codec.tables import Tables

MOST_LEVELS = 256  # the level of a message is one byte


def bins_of(widths: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """f32[L, 3, C] of widths f32[L, C] > 0: 1 / width, width, median / width.

    All that rounding reads, made once: a quotient in JAX has other last bits.
    """
    widths = np.asarray(widths, np.float32)
    medians = np.asarray(medians, np.float32)
    return np.stack([np.float32(1) / widths, widths, medians / widths], 1)


@dataclass(frozen=True, eq=False)
class VariableRateCodec:
    """A level's byte, then rounded latents under that level's tables.

    z finite float32[..., C]; tables: one a level, of C rows; medians float32[C]; bins
    float32[L, 3, C], see `bins_of`; levels rise in bytes, and `level` is the one that
    is encoded at. Any is decoded, to (round((z - median) / width) + median / width)
    width, half to even (Choi et al. 2019, https://arxiv.org/abs/1909.04802).
    """

    kind: ClassVar[str] = "variable_rate"
    id: ClassVar[int] = 6
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = ()

    shape: tuple[int, ...]
    tables: tuple[Tables, ...]
    medians: np.ndarray
    bins: np.ndarray
    level: int = 0

    def __post_init__(self):
        medians = np.array(self.medians, np.float32)
        bins = np.array(self.bins, np.float32)
        count = len(self.tables)
        if not 1 <= count <= MOST_LEVELS or not 0 <= self.level < count:
            raise ValueError(f"level {self.level} of {count} (1 to {MOST_LEVELS})")
        if medians.shape != self.shape[-1:] or bins.shape != (count, 3, *medians.shape):
            raise ValueError(
                f"medians {medians.shape} and bins {bins.shape} for {count} levels of"
                f" a latent of shape {self.shape}"
            )
        if {each.rows for each in self.tables} != {medians.size}:
            raise ValueError(f"a level's tables have other than {medians.size} rows")
        if not np.isfinite(medians).all() or not np.isfinite(bins).all():
            raise ValueError("medians or bins are not finite")
        if (bins[:, :2] <= 0).any():
            raise ValueError("a bin's width is not above 0")
        # A frozen value to its arrays: codecs are shared between requests.
        for name, array in (("medians", medians), ("bins", bins)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        same = self.shape == other.shape and self.tables == other.tables
        same = same and self.level == other.level
        same = same and np.array_equal(self.medians, other.medians)
        return same and np.array_equal(self.bins, other.bins)

    @property
    def levels(self) -> int:
        return len(self.tables)

    def at_level(self, level: int) -> VariableRateCodec:
        """Encodes at another level; the tables are shared. ValueError for no level."""
        return replace(self, level=level)

    def _scaled(self, z: np.ndarray, level: int) -> np.ndarray:
        """z [..., C] in widths of the level's bins around the medians."""
        # The product last: no fused multiply-add can make two machines differ.
        with np.errstate(over="ignore"):
            return (z - self.medians) * self.bins[level, 0]

    def _symbols(self, z: np.ndarray, level: int) -> np.ndarray:
        """int32[..., C] of latents, what is beyond int32 clipped."""
        v = np.clip(np.rint(self._scaled(z, level)), -INT32_EDGE, INT32_EDGE)
        return v.astype(np.int32)

    def symbols(self, z: np.ndarray) -> np.ndarray:
        """int32[..., C] of one example at the codec's level."""
        return self._symbols(codec.checked(z, self.shape, finite=True), self.level)

    def encode(self, z: np.ndarray) -> bytes:
        stream = by_channel.encode(self.symbols(z), self.tables[self.level])
        return bytes([self.level]) + stream

    def decode(self, data: bytes) -> np.ndarray:
        level, stream = codec.level_of(data, self.levels)
        symbols = by_channel.decode(stream, self.shape, self.tables[level])
        return self.values(symbols, level)

    @property
    def coded(self) -> tuple[Tables, ...]:
        """The tables of each level of the rate."""
        return self.tables

    def integers(self, outputs: Outputs, level: int) -> np.ndarray:
        """int32 symbols of a head's outputs at a level, of one example or a batch."""
        return self._symbols(outputs["latent"], level)

    def values(self, symbols: np.ndarray, level: int) -> np.ndarray:
        """The latent that int32[..., C] symbols stand for at a level."""
        # C order: a compiled tail takes the array as it is.
        values = symbols.astype(np.float32, order="C")
        _, width, centre = self.bins[level]
        return (values + centre) * width

    def outputs(self, z, xp):
        # Not symbols: the device chooses a level for each message, behind its head.
        return {"latent": z}

    def pack(self, latent: np.ndarray) -> bytes:
        return self.encode(latent)

    def sent(self, latent: np.ndarray) -> np.ndarray:
        """The symbols of one example's outputs; ValueError for another shape."""
        return self.symbols(latent)

    def difference(self, z: np.ndarray, outputs: Outputs):
        """Of the symbols of every level, [L, ..., C]."""
        pairs = [
            codec.symbol_difference(
                self._symbols(outputs["latent"], level),
                self._symbols(z, level),
                self._scaled(z, level),
            )
            for level in range(self.levels)
        ]
        distances, ties = zip(*pairs)
        return np.stack(distances), np.stack(ties)

    def refit(self, outputs: Iterable[Outputs]) -> VariableRateCodec:
        # All levels in one pass: the outputs of a whole data set come only once.
        batches = (
            np.concatenate([self.integers(each, n) for n in range(self.levels)], -1)
            for each in outputs
        )
        fitted = refit.refit(_joined(self.tables), batches)
        return replace(self, tables=_parts(fitted, self.levels))

    def to_arrays(self) -> dict[str, np.ndarray]:
        own = {"medians": self.medians, "bins": self.bins}
        own["level"] = np.array(self.level, np.int32)
        return codec.header(self) | _joined(self.tables).to_arrays() | own

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> VariableRateCodec:
        parts = _parts(Tables.from_arrays(arrays), len(arrays["bins"]))
        numbers = arrays["medians"], arrays["bins"], int(arrays["level"])
        return cls(codec.shape_of(arrays), parts, *numbers)


def _joined(tables: Sequence[Tables]) -> Tables:
    """The rows of all levels as one: row level * C + channel."""
    widest = max(each.cdf.shape[1] for each in tables)
    cdf = [np.pad(t.cdf, ((0, 0), (0, widest - t.cdf.shape[1]))) for t in tables]
    length = np.concatenate([each.length for each in tables])
    offset = np.concatenate([each.offset for each in tables])
    return Tables(np.concatenate(cdf), length, offset)


def _parts(tables: Tables, levels: int) -> tuple[Tables, ...]:
    """`_joined` undone; ValueError where the rows are not so many equal parts."""
    if not levels or tables.rows % levels:
        raise ValueError(f"{tables.rows} table rows are not of {levels} levels")
    found = []
    for first in range(0, tables.rows, tables.rows // levels):
        rows = slice(first, first + tables.rows // levels)
        length = tables.length[rows]
        # Without the padding that a wider level has left.
        cdf = tables.cdf[rows, : 1 + length.max()]
        found.append(Tables(cdf, length, tables.offset[rows]))
    return tuple(found)
