"""The latents of another codec, their symbols coded under a linear context."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from sc_jax.codec import codec, context_fit
from sc_jax.codec.clipped import ClippedCodec
from sc_jax.codec.codec import Outputs, text_of
from sc_jax.codec.context import Context
from sc_jax.codec.factorized import FactorizedCodec
from sc_jax.codec.variable_rate import VariableRateCodec

Inner = FactorizedCodec | VariableRateCodec | ClippedCodec
INNER: dict[str, type[Inner]] = {
    each.kind: each for each in (FactorizedCodec, VariableRateCodec, ClippedCodec)
}
MOST_FITTED = 500  # examples: more gain little, and all of a large set cost minutes


@dataclass(frozen=True, eq=False)
class InContextCodec:
    """What `inner` sends of a latent, in fewer bytes: one Context a level of its rates.

    z and what is decoded are inner's, bit for bit; so is the byte of a level that a
    message begins with, where there are several. See `codec.context.Context`.
    """

    kind: ClassVar[str] = "in_context"
    id: ClassVar[int] = 7
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = ()

    inner: Inner
    contexts: tuple[Context, ...]

    def __post_init__(self):
        sides = self.shape
        if not sides or min(sides) < 1 or math.prod(sides) > np.iinfo(np.int32).max:
            raise ValueError(f"a latent of shape {sides} has no context")
        if len(self.contexts) != len(self.inner.coded):
            raise ValueError(
                f"{len(self.contexts)} contexts for {len(self.inner.coded)} levels"
            )
        channels = {each.channels for each in self.contexts}
        if channels != {self.shape[-1]}:
            raise ValueError(f"contexts of {channels} channels, latent {self.shape}")

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return self.inner == other.inner and self.contexts == other.contexts

    @classmethod
    def fit(
        cls, inner: Inner, outputs: Iterable[Outputs], classes: int
    ) -> InContextCodec:
        """Contexts of `classes` tables a channel for what a head gives, in batches.

        The first MOST_FITTED examples are read. ValueError where there are none.
        """
        # Of all levels at once: a data set's outputs come only once.
        found: list[list[np.ndarray]] = [[] for _ in inner.coded]
        count = 0
        for batch in outputs:
            for level, kept in enumerate(found):
                # Half the memory: what lies beyond int16 is an escape either way.
                wide = inner.integers(batch, level)
                kept.append(np.clip(wide, -(2**15), 2**15 - 1).astype(np.int16))
            count += len(found[0][-1])
            if count >= MOST_FITTED:
                break
        if not count:
            raise ValueError("a context is fitted to examples, and there are none")
        fitted = (
            context_fit.fit(np.concatenate(symbols), tables, classes)
            for symbols, tables in zip(found, inner.coded)
        )
        return cls(inner, tuple(fitted))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def level(self) -> int:
        return getattr(self.inner, "level", 0)

    @property
    def levels(self) -> int:
        return len(self.contexts)

    def at_level(self, level: int) -> InContextCodec:
        """Encodes at another level; the contexts are shared. ValueError for none."""
        if self.levels == 1 and level == 0:
            return self
        inner: Any = self.inner
        return replace(self, inner=inner.at_level(level))

    def symbols(self, z: np.ndarray) -> np.ndarray:
        return self.inner.symbols(z)

    def encode(self, z: np.ndarray) -> bytes:
        return self._stream(self.inner.symbols(z))

    def _stream(self, symbols: np.ndarray) -> bytes:
        lead = bytes([self.level]) if self.levels > 1 else b""
        return lead + self.contexts[self.level].encode(symbols)

    def decode(self, data: bytes) -> np.ndarray:
        several = self.levels > 1
        level, stream = codec.level_of(data, self.levels) if several else (0, data)
        symbols = self.contexts[level].decode(stream, self.shape)
        return self.inner.values(symbols, level)

    def outputs(self, z, xp):
        return self.inner.outputs(z, xp)

    @property
    def pack(self) -> Callable[..., bytes]:
        def pack(**outputs: np.ndarray) -> bytes:
            return self._stream(self.inner.sent(**outputs))

        return pack

    def difference(self, z: np.ndarray, outputs: Outputs):
        return self.inner.difference(z, outputs)

    def refit(self, outputs: Iterable[Outputs]) -> InContextCodec:
        return self.fit(self.inner, outputs, self.contexts[0].classes)

    def to_arrays(self) -> dict[str, np.ndarray]:
        arrays = codec.header(self)
        arrays |= _named("inner.", self.inner.to_arrays())
        for level, each in enumerate(self.contexts):
            arrays |= _named(f"context{level}.", each.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> InContextCodec:
        inside = _below("inner.", arrays)
        if (kind := text_of(inside["kind"])) not in INNER:
            raise ValueError(f"no context codes a {kind!r}; known: {', '.join(INNER)}")
        inner = INNER[kind].from_arrays(inside)
        if codec.shape_of(arrays) != inner.shape:
            raise ValueError(f"shape {codec.shape_of(arrays)} around {inner.shape}")
        parts = (_below(f"context{n}.", arrays) for n in range(len(inner.coded)))
        return cls(inner, tuple(Context.from_arrays(each) for each in parts))


def _named(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {prefix + name: array for name, array in arrays.items()}


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    whole = len(prefix)
    return {k[whole:]: v for k, v in arrays.items() if k.startswith(prefix)}
