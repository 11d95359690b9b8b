"""Rounded latents under one integer table a channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import by_channel, codec, refit
from sc_jax.codec.codec import INT32_EDGE, Outputs
from sc_jax.codec.tables import Tables


@dataclass(frozen=True, eq=False)
class FactorizedCodec:
    """Rounded latents under one table per channel (Ballé et al. 2018).

    z finite float32[..., C]; tables of C rows; medians float32[C]. Decoded
    round(z - median) + median, half to even. Symbols go channel by channel.
    https://arxiv.org/abs/1802.01436
    """

    kind: ClassVar[str] = "factorized"
    id: ClassVar[int] = 4
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = ()

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
        # A frozen value to its arrays: codecs are shared between requests.
        medians.flags.writeable = False
        object.__setattr__(self, "medians", medians)

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        same = self.shape == other.shape and self.tables == other.tables
        return same and np.array_equal(self.medians, other.medians)

    def symbols(self, z: np.ndarray) -> np.ndarray:
        """int32[..., C] of one example, what is beyond int32 clipped."""
        z = codec.checked(z, self.shape, finite=True)
        with np.errstate(over="ignore"):
            v = np.clip(np.rint(z - self.medians), -INT32_EDGE, INT32_EDGE)
        return v.astype(np.int32)

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
        """The latent that int32[..., C] symbols stand for."""
        del level
        # C order: a compiled tail takes the array as it is.
        values = symbols.astype(np.float32, order="C")
        values += self.medians
        return values

    def outputs(self, z, xp):
        # No clip: a head's latents never come near int32's edge, and each operation
        # of a head is one more that a runtime may do otherwise.
        medians = self.medians.reshape((1,) * (z.ndim - 1) + (-1,))
        return {"symbols": xp.round(z - medians).astype(xp.int32)}

    def pack(self, symbols: np.ndarray) -> bytes:
        """The stream of int32[..., C]: what a head that rounds by itself hands over."""
        return by_channel.encode(self.sent(symbols), self.tables)

    def sent(self, symbols: np.ndarray) -> np.ndarray:
        """The symbols of one example's outputs; ValueError for another shape."""
        return by_channel.checked(symbols, self.shape)

    def difference(self, z: np.ndarray, outputs: Outputs):
        own, exact = self.symbols(z), z - self.medians
        return codec.symbol_difference(outputs["symbols"], own, exact)

    def refit(self, outputs: Iterable[Outputs]) -> FactorizedCodec:
        batches = (each["symbols"] for each in outputs)
        return type(self)(self.shape, refit.refit(self.tables, batches), self.medians)

    def to_arrays(self) -> dict[str, np.ndarray]:
        own = {**self.tables.to_arrays(), "medians": self.medians}
        return codec.header(self) | own

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> FactorizedCodec:
        tables = Tables.from_arrays(arrays)
        return cls(codec.shape_of(arrays), tables, arrays["medians"])
