"""Clipped values as the nearest of a few points, each channel under a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import by_channel, codec, refit
from sc_jax.codec.codec import Outputs
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import Tables


@dataclass(frozen=True, eq=False)
class ClippedCodec:
    """A scalar quantiser of N points, any steps between them; one table a channel.

    z finite float32[..., C]; thresholds float32[N - 1] that do not fall, points
    float32[N], N 2 to 256; tables of C rows. The symbol of a value is how many
    thresholds it has reached (>=), its value points[symbol]: what is beyond the last
    point is clipped to it. Comparisons alone: no two machines round otherwise.
    """

    kind: ClassVar[str] = "clipped"
    id: ClassVar[int] = 9
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = ()

    shape: tuple[int, ...]
    tables: Tables
    thresholds: np.ndarray
    points: np.ndarray

    def __post_init__(self):
        for name in ("thresholds", "points"):
            array = np.array(getattr(self, name), np.float32)
            if array.ndim != 1 or not np.isfinite(array).all():
                raise ValueError(f"{name} are not a row of finite numbers")
            # A frozen value to its arrays: codecs are shared between requests.
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        count = self.points.size
        if not 2 <= count <= 256 or self.thresholds.size != count - 1:
            raise ValueError(f"{count} points, {self.thresholds.size} thresholds")
        if (np.diff(self.thresholds) < 0).any():
            raise ValueError("thresholds fall")
        if not self.shape or self.tables.rows != self.shape[-1]:
            raise ValueError(f"{self.tables.rows} table rows, latent {self.shape}")

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        same = self.shape == other.shape and self.tables == other.tables
        same = same and np.array_equal(self.thresholds, other.thresholds)
        return same and np.array_equal(self.points, other.points)

    def symbols(self, z: np.ndarray) -> np.ndarray:
        """int32[..., C] in 0 .. N - 1 of one example."""
        z = codec.checked(z, self.shape, finite=True)
        return np.searchsorted(self.thresholds, z, side="right").astype(np.int32)

    def encode(self, z: np.ndarray) -> bytes:
        return self.pack(self.symbols(z))

    def decode(self, data: bytes) -> np.ndarray:
        return self.values(by_channel.decode(data, self.shape, self.tables))

    @property
    def coded(self) -> tuple[Tables, ...]:
        """The tables of each level of the rate: one."""
        return (self.tables,)

    def integers(self, outputs: Outputs, level: int) -> np.ndarray:
        """int32 symbols of a head's outputs, of one example or a batch."""
        del level
        return outputs["symbols"]

    def values(self, symbols: np.ndarray, level: int = 0) -> np.ndarray:
        """The latent that int32[..., C] symbols stand for; CorruptStream."""
        del level
        # The escape stands in every table, and no encoder uses it here.
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < self.points.size:
            raise CorruptStream(f"corrupt stream: a symbol not of {self.points.size}")
        # C order: a compiled tail takes the array as it is.
        return np.ascontiguousarray(self.points[symbols])

    def outputs(self, z, xp):
        # Runtimes of heads compare at most four axes, as several views have five.
        flat = z.reshape(z.shape[0], -1, z.shape[-1]) if z.ndim > 4 else z
        # One comparison a threshold: they lack a search.
        reached = ((flat >= t).astype(xp.int32) for t in self.thresholds)
        symbols = sum(reached, start=xp.zeros(flat.shape, xp.int32))
        return {"symbols": symbols.reshape(z.shape)}

    def pack(self, symbols: np.ndarray) -> bytes:
        """The stream of int32[..., C] symbols."""
        return by_channel.encode(self.sent(symbols), self.tables)

    def sent(self, symbols: np.ndarray) -> np.ndarray:
        """The symbols of one example's outputs; ValueError for another shape."""
        return by_channel.checked(symbols, self.shape)

    def difference(self, z: np.ndarray, outputs: Outputs):
        symbols = self.symbols(z)
        distance = np.abs(outputs["symbols"].astype(np.int64) - symbols)
        # A value beside a threshold may fall on either side of it.
        near = self.thresholds[np.maximum(symbols, outputs["symbols"]) - 1]
        close = codec.CLOSE * np.maximum(np.ptp(self.points), np.abs(near))
        return distance, (distance == 1) & (np.abs(z - near) < close)

    def refit(self, outputs: Iterable[Outputs]) -> ClippedCodec:
        batches = (each["symbols"] for each in outputs)
        again = refit.refit(self.tables, batches)
        return type(self)(self.shape, again, self.thresholds, self.points)

    def to_arrays(self) -> dict[str, np.ndarray]:
        own = {"thresholds": self.thresholds, "points": self.points}
        return codec.header(self) | self.tables.to_arrays() | own

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ClippedCodec:
        tables = Tables.from_arrays(arrays)
        shape = codec.shape_of(arrays)
        return cls(shape, tables, arrays["thresholds"], arrays["points"])
