"""The largest values in blocks of like magnitude, each block with a width of its own.

SLICER (Sung et al. 2025, https://arxiv.org/abs/2511.11608): asymmetric top-K filtering
(ATKF) keeps an exact share, magnitude-splitting (MS) makes blocks of equal cardinality
of what is left, adaptive bit quantisation (ABQ) gives each block the fewest bits within
a distortion budget. Known here from the abstract and the public reviews of the paper,
which name its settings (sparsity s, asymmetry lambda, M blocks, distortion threshold
delta), exact sparsity, ties broken at random, and a guard on integers alone; its
equations were not at hand. A reconstruction is therefore:

- ATKF: the score of a value is z, and lambda |z| below 0; the K highest stay, of equal
  ones the first, since two machines cannot draw the same ties. Zeros are never kept.
- MS: blocks are runs of the kept values in order of magnitude. Signs travel with
  positions, so that a block holds magnitudes alone.
- ABQ: one min-max grid of `bits` for all magnitudes (`affine.quantise`); a block drops
  its lowest bits one by one while the mean mismatch of its integers is at most delta
  steps of that grid. Each block's own width follows from its range.
- Positions: the paper names CSR indices, perhaps under rANS; here a mask of block
  numbers goes through this library's coder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np

from sc_jax.codec import affine, codec, rans
from sc_jax.codec.codec import TINY, Outputs
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import TOTAL, Tables

UNIT = 16  # of a budget of distortion, in a step of the grid: integers compare exactly
HEADER = 16  # bytes: scale, zero point, kept values, those of them below 0


class Sliced(NamedTuple):
    """Latents f32[B, n] filtered and divided; K places in order of magnitude.

    places i32[B, K] in 0 .. n - 1; live bool[B, K], False where fewer than K values
    are not 0; block i32[B, K]; negative bool[B, K]; q i32[B, K] on the grid of zero
    and scale, f32[B, 1]; kept i32[B, 1]; starts, sizes, first, shift, width i32[B, M].
    """

    places: Any
    live: Any
    block: Any
    negative: Any
    q: Any
    zero: Any
    scale: Any
    kept: Any
    starts: Any
    sizes: Any
    first: Any
    shift: Any
    width: Any


@dataclass(frozen=True)
class SlicerCodec:
    """At most `keep` values of an example in `blocks` blocks; every other one is 0.

    z finite float32[shape]. asymmetry: what a negative value's magnitude is multiplied
    by where values compete. bits 1 to 8: of the grid over all kept magnitudes.
    distortion: mean mismatch that a block may have, in 1/16 of a step of that grid.
    """

    kind: ClassVar[str] = "slicer"
    id: ClassVar[int] = 10
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = ()

    shape: tuple[int, ...]
    keep: int
    asymmetry: float = 1.0
    blocks: int = 4
    bits: int = 8
    distortion: int = UNIT

    def __post_init__(self):
        # A float32 on both sides, and after a checkpoint.
        object.__setattr__(self, "asymmetry", float(np.float32(self.asymmetry)))
        if not 1 <= self.keep <= self.size:
            raise ValueError(f"slicer of {self.keep} values in a latent {self.shape}")
        if not 1 <= self.bits <= 8 or not 1 <= self.blocks <= 32:
            raise ValueError(
                f"slicer of {self.bits} bits and {self.blocks} blocks, not 1 to 8 and "
                "1 to 32"
            )
        most = 128 * UNIT
        # Below TINY it is 0 under XLA alone: the two would keep other values.
        if not TINY <= self.asymmetry < math.inf or not 0 <= self.distortion <= most:
            raise ValueError(
                f"slicer of asymmetry {self.asymmetry} and distortion "
                f"{self.distortion}, not 2^-126 or more and 0 to {most}"
            )
        # Sums of mismatches and ranks stay in int32, which is all that JAX has.
        if self.keep >= 1 << 20:
            raise ValueError(f"slicer of {self.keep} values, not below {1 << 20}")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def sliced(self, z: Any, xp: Any) -> Sliced:
        """Of z f32[B, n]; xp: numpy or jax's. One function: two would part in ties."""
        magnitude = xp.abs(z)
        # XLA takes what is below TINY for 0, NumPy does not.
        score = xp.where(z < 0, magnitude * np.float32(self.asymmetry), magnitude)
        score = xp.where((magnitude >= TINY) & (score >= TINY), score, 0.0)
        order = xp.argsort(-score, axis=1, stable=True)[:, : self.keep]
        best = xp.take_along_axis(score, order, axis=1) > 0
        # At least one value: an empty message has no scale.
        kept = xp.maximum(best.sum(1, keepdims=True), 1).astype(xp.int32)
        ranks = xp.arange(self.keep, dtype=xp.int32)[None]
        live = ranks < kept
        found = xp.take_along_axis(magnitude, order, axis=1)
        ascending = xp.argsort(xp.where(live, found, np.inf), axis=1, stable=True)
        places = xp.take_along_axis(order, ascending, axis=1)
        found = xp.take_along_axis(found, ascending, axis=1)
        # Behind `kept` stands the least one: the grid is of the live ones alone.
        found = xp.where(live, found, found[:, :1])
        q, zero, scale = affine.quantise(found, self.bits, xp)
        q = q.astype(xp.int32)
        edges = starts_of(kept, self.blocks, xp)
        block = xp.minimum(ranks * self.blocks // kept, self.blocks - 1)
        first, shift, width = self._widths(q, block, edges, xp)
        negative = live & (xp.take_along_axis(z, places, axis=1) < 0)
        sizes = edges[:, 1:] - edges[:, :-1]
        places = places.astype(xp.int32)
        fields = (places, live, block, negative, q, zero, scale, kept)
        return Sliced(*fields, edges[:, :-1], sizes, first, shift, width)

    def _widths(self, q: Any, block: Any, edges: Any, xp: Any) -> tuple[Any, Any, Any]:
        """(first, shift, width) i32[B, M] of ascending q i32[B, K] in blocks."""
        starts, ends = edges[:, :-1], edges[:, 1:]
        sizes, last = ends - starts, self.keep - 1
        first = xp.take_along_axis(q, xp.minimum(starts, last), axis=1)
        first = xp.where(sizes > 0, first, 0)
        span = xp.take_along_axis(q, xp.maximum(ends - 1, 0), axis=1)
        span = xp.where(sizes > 0, span - first, 0)
        offset = q - xp.take_along_axis(first, block, axis=1)
        drops = xp.arange(1, self.bits + 1, dtype=xp.int32)[None, None]
        offset = offset[..., None]
        mismatch = xp.abs(offset - coarse(offset >> drops, drops))
        total = xp.cumsum(mismatch, axis=1, dtype=xp.int32)
        total = xp.concatenate([xp.zeros_like(total[:, :1]), total], axis=1)
        at = [xp.take_along_axis(total, e[..., None], axis=1) for e in (starts, ends)]
        fits = UNIT * (at[1] - at[0]) <= self.distortion * sizes[..., None]
        # A block of no width has no bit to drop.
        fits = fits & (span[..., None] >> (drops - 1) > 0)
        shift, within = xp.zeros_like(first), xp.ones_like(first)
        for s in range(self.bits):
            within = within * fits[..., s]
            shift = shift + within
        span = span >> shift
        width = sum((span >> t > 0).astype(xp.int32) for t in range(self.bits))
        return first, shift, width

    def values(self, found: Sliced, xp: Any) -> Any:
        """f32[B, K] that the kept values decode to; 0 where not live."""
        both = found.first, found.shift
        first, shift = (xp.take_along_axis(each, found.block, axis=1) for each in both)
        q = first + coarse((found.q - first) >> shift, shift)
        value = (q.astype(xp.float32) + found.zero) * found.scale
        value = xp.where(found.negative, -value, value)
        return xp.where(found.live, value, 0.0)

    def encode(self, z: np.ndarray) -> bytes:
        flat = codec.checked(z, self.shape, finite=True).reshape(1, -1)
        with np.errstate(over="ignore"):
            found = self.sliced(flat, np)
            if not np.isfinite(self.values(found, np)).all():
                raise ValueError("latent range overflows float32")
        live, places = found.live[0], found.places[0]
        symbols, codes = np.zeros((2, self.size), np.int32)
        block = found.block[0]
        symbols[places[live]] = np.where(found.negative[0], -1 - block, 1 + block)[live]
        first, shift, width = found.first[0], found.shift[0], found.width[0]
        codes[places] = (found.q[0] - first[block]) >> shift[block]
        kept, negatives = int(found.kept[0, 0]), int(found.negative.sum())
        head = affine.header(found.zero.item(), found.scale.item())
        head += np.array([kept, negatives], "<u4").tobytes()
        head += np.stack([first, shift << 4 | width], 1).astype(np.uint8).tobytes()
        bits = [
            bits_of(codes[np.abs(symbols) == m + 1], w) for m, w in enumerate(width)
        ]
        packed = np.packbits(np.concatenate(bits), bitorder="little").tobytes()
        tables = tables_of(self.size, kept, negatives, self.blocks)
        return head + packed + rans.encode(symbols, tables)

    def decode(self, data: bytes) -> np.ndarray:
        begin = HEADER + 2 * self.blocks
        if len(data) < begin:
            raise CorruptStream(f"corrupt stream: {len(data)} bytes")
        zero, scale = affine.range_of(data)
        kept, negatives = map(int, np.frombuffer(data, "<u4", 2, 8))
        if not 1 <= kept <= self.keep or negatives > kept:
            raise CorruptStream(f"corrupt stream: {kept} values, {negatives} below 0")
        head = np.frombuffer(data, np.uint8, 2 * self.blocks, HEADER).astype(np.int32)
        first, shift, width = head[::2], head[1::2] >> 4, head[1::2] & 15
        if first.max() >> self.bits or (shift + width).max() > self.bits:
            raise CorruptStream(f"corrupt stream: a block beyond {self.bits} bits")
        edges = starts_of(np.array([[kept]]), self.blocks, np)[0]
        sizes = np.diff(edges)
        count = int(sizes @ width)
        if len(data) < (end := begin + (count + 7) // 8):
            raise CorruptStream(f"corrupt stream: {len(data)} bytes")
        bits = np.frombuffer(data[begin:end], np.uint8)
        bits = np.unpackbits(bits, bitorder="little")
        if bits[count:].any():
            raise CorruptStream("corrupt stream: padding bits are set")
        tables = tables_of(self.size, kept, negatives, self.blocks)
        symbols = rans.decode(data[end:], self.size, tables)
        # The escape slot exists in every table, and no encoder uses it here.
        if np.abs(symbols.astype(np.int64)).max() > self.blocks:
            raise CorruptStream("corrupt stream: a block that there is not")
        counts = np.bincount(np.abs(symbols), minlength=self.blocks + 1)[1:]
        if (counts != sizes).any() or (symbols < 0).sum() != negatives:
            raise CorruptStream("corrupt stream: blocks of other sizes")
        q, done = np.zeros(self.size, np.int32), 0
        for m, (size, w) in enumerate(zip(sizes, width)):
            own = bits[done : done + size * w].reshape(size, w)
            codes = own @ np.left_shift(1, np.arange(w), dtype=np.int32)
            q[np.abs(symbols) == m + 1] = first[m] + coarse(codes, shift[m])
            done += size * w
        z = np.where(symbols == 0, 0, affine.values(q, zero, scale))
        z = np.where(symbols < 0, -z, z).astype(np.float32)
        return z.reshape(self.shape)

    def outputs(self, z, xp):
        # Runtimes of heads lack a sort: the device chooses, from the whole latent.
        return {"latent": z}

    def pack(self, latent: np.ndarray) -> bytes:
        return self.encode(latent)

    def difference(self, z: np.ndarray, outputs: Outputs):
        return codec.real_difference(outputs["latent"], z)

    def refit(self, outputs: Iterable[Outputs]) -> SlicerCodec:
        return self

    def to_arrays(self) -> dict[str, np.ndarray]:
        names = ("keep", "blocks", "bits", "distortion")
        own = {name: np.array(getattr(self, name), np.int32) for name in names}
        own["asymmetry"] = np.array(self.asymmetry, np.float32)
        return codec.header(self) | own

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> SlicerCodec:
        names = ("blocks", "bits", "distortion")
        blocks, bits, distortion = (int(arrays[name]) for name in names)
        shape, keep = codec.shape_of(arrays), int(arrays["keep"])
        return cls(shape, keep, float(arrays["asymmetry"]), blocks, bits, distortion)


def starts_of(kept: Any, blocks: int, xp: Any) -> Any:
    """i32[B, M + 1] ranks where equal blocks of kept i32[B, 1] values begin and end."""
    edges = xp.arange(blocks + 1, dtype=xp.int32)[None]
    return -(-edges * kept // blocks)


def coarse(code: Any, shift: Any) -> Any:
    """The middle of what a code without its `shift` lowest bits may be."""
    return (code << shift) + ((1 << shift) >> 1)


def bits_of(codes: np.ndarray, width: int) -> np.ndarray:
    """uint8[N width]: the bits of integers, the lowest first."""
    places = np.arange(width, dtype=np.int32)
    return ((codes[:, None] >> places) & 1).astype(np.uint8).reshape(-1)


def tables_of(size: int, kept: int, negatives: int, blocks: int) -> Tables:
    """One row for 0 and for each block of either sign, from what the header says."""
    edges = [-(-b * kept // blocks) for b in range(blocks + 1)]
    sizes = [after - before for before, after in pairwise(edges)]
    # In Python's integers: the products pass int64.
    weights = [s * negatives for s in reversed(sizes)]
    weights += [(size - kept) * kept, *(s * (kept - negatives) for s in sizes)]
    room = TOTAL - 1 - len(weights)
    counts = [1 + weight * room // (size * kept) for weight in weights]
    counts[blocks] += TOTAL - 1 - sum(counts)
    cdf = np.cumsum([0, *counts, 1]).astype(np.uint32)[None]
    length, offset = [2 * blocks + 2], [-blocks]
    return Tables(cdf, np.array(length, np.int32), np.array(offset, np.int32))
