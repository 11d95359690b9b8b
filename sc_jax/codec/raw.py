"""The values as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import codec
from sc_jax.codec.codec import Outputs


@dataclass(frozen=True)
class RawCodec:
    """The values themselves, little-endian; float16 rounds, and overflows to infinity.

    z and the decoded value float32[shape]. dtype: 'float32' or 'float16'.
    """

    kind: ClassVar[str] = "raw"
    id: ClassVar[int] = 1
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = ()

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype not in ("float32", "float16"):
            raise ValueError(f"raw codec of {self.dtype!r}, not float32 or float16")

    def _wire(self) -> np.dtype:
        return np.dtype(self.dtype).newbyteorder("<")

    def encode(self, z: np.ndarray) -> bytes:
        z = codec.checked(z, self.shape, finite=False)
        # float16 overflows to infinity, as the compressor's own cast does.
        with np.errstate(over="ignore"):
            return z.astype(self._wire()).tobytes()

    def decode(self, data: bytes) -> np.ndarray:
        codec.expect(data, math.prod(self.shape) * self._wire().itemsize)
        return np.frombuffer(data, self._wire()).astype(np.float32).reshape(self.shape)

    def outputs(self, z, xp):
        return {"latent": z}

    def pack(self, latent: np.ndarray) -> bytes:
        return self.encode(latent)

    def difference(self, z: np.ndarray, outputs: Outputs):
        return codec.real_difference(outputs["latent"], z)

    def refit(self, outputs: Iterable[Outputs]) -> RawCodec:
        return self

    def to_arrays(self) -> dict[str, np.ndarray]:
        return codec.header(self) | {"dtype": codec.ascii_of(self.dtype)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> RawCodec:
        return cls(codec.shape_of(arrays), codec.text_of(arrays["dtype"]))
