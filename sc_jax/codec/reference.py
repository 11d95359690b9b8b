"""The coder in plain Python: the same bytes as rans.c, for machines without it.

About sixty times slower than the compiled kernel. docs/bitstream.md specifies it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import numpy as np

from sc_jax.codec.tables import Tables, row_of

# The state stays at or above it once words are written, and below 2^63.
LOWER = 1 << 31
NIBBLE = 1 << 12  # frequency of one of 16 equal fields
INT32 = np.iinfo(np.int32)
REACH = 127  # a symbol counts in a context's sum as one of -127 .. 127
# (rows up, columns left): left, up, up-left, up-right; then come the channels before.
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


class CorruptStream(ValueError):
    """Bytes that no encoder wrote for this codec."""


def _raw_fields(over: int, escape: int) -> list[tuple[int, int]]:
    """(start, freq) of the digits behind an escape, in the decoder's order."""
    raw = -2 * over - 1 if over < 0 else 2 * (over - escape)
    # Low digits first, as many as the number has: small escapes stay short.
    digits = [raw >> shift & 15 for shift in range(0, raw.bit_length(), 4)]
    return [(NIBBLE * digit, NIBBLE) for digit in (len(digits), *digits)]


def _steps(symbols, tables: Tables, rows) -> list[tuple[int, int]]:
    """(start, freq) of everything coded, in the decoder's order."""
    r = row_of(tables, symbols.size, rows)
    over = symbols.astype(np.int64) - tables.offset[r]
    escape = tables.length[r].astype(np.int64) - 1
    slot = np.where((over < 0) | (over >= escape), escape, over)
    start = tables.cdf[r, slot]
    freq = tables.cdf[r, slot + 1] - start
    steps = list(zip(start.tolist(), freq.tolist()))
    # From the end, so that insertions do not move the places still to come.
    for i in np.flatnonzero(slot == escape)[::-1].tolist():
        steps[i + 1 : i + 1] = _raw_fields(int(over[i]), int(escape[i]))
    return steps


def encode(symbols: np.ndarray, tables: Tables, rows: np.ndarray | None) -> bytes:
    """Stream of checked int32[N] symbols; see `rans.encode`."""
    x, words = 0, []
    # rANS is a stack: what is coded last comes out first.
    for start, freq in reversed(_steps(symbols, tables, rows)):
        # Only then the step below would pass 2^63; one word is always enough.
        if x >= freq << 47:
            words.append(x & 0xFFFFFFFF)
            x >>= 32
        x = (x // freq << 16) + x % freq + start
    # With words behind it the state has 5 bytes at least, by which it is found.
    size = max((x.bit_length() + 7) // 8, 5 if words else 0)
    return x.to_bytes(size, "little") + np.array(words[::-1], "<u4").tobytes()


def _open(data: bytes) -> tuple[int, list[int]]:
    """State and words of a stream; CorruptStream unless written canonically."""
    # Words have 4 bytes, so the rest says how long the state is: 5 to 8.
    size = len(data) if len(data) <= 8 else 5 + (len(data) - 5) % 4
    x = int.from_bytes(data[:size], "little")
    words = np.frombuffer(data, "<u4", offset=size).tolist() if data else []
    if x >> 63 or (words and x < LOWER):
        raise CorruptStream("corrupt stream: state out of range")
    # One message has one stream: a second spelling of it is damage.
    if size > (5 if words else 0) and data[size - 1] == 0:
        raise CorruptStream("corrupt stream: state not in its shortest form")
    return x, words


def decode(
    data: bytes, count: int, tables: Tables, rows: np.ndarray | None
) -> np.ndarray:
    """int32[count] symbols of a stream; see `rans.decode`."""
    known = row_of(tables, count, rows).tolist()
    return np.array(_popped(data, tables, known, []), np.int32)


def _popped(data: bytes, tables: Tables, rows: Iterable[int], out: list[int]):
    """`out`, to which one symbol a row is added; `rows` may be made as it grows."""
    x, words = _open(data)
    words.reverse()
    lists = tables.cache.setdefault("lists", {})

    def pop(start: int, freq: int) -> None:
        nonlocal x
        x = freq * (x >> 16) + (x & 0xFFFF) - start
        if x < LOWER and words:
            x = x << 32 | words.pop()

    def pop_nibble() -> int:
        digit = (x & 0xFFFF) // NIBBLE
        pop(digit * NIBBLE, NIBBLE)
        return digit

    def pop_raw(offset: int, escape: int) -> int:
        size = pop_nibble()
        if size > 9:
            raise CorruptStream("corrupt stream: escape of more than nine digits")
        digits = [pop_nibble() for _ in range(size)]
        raw = sum(digit << 4 * k for k, digit in enumerate(digits))
        value = offset - 1 - (raw >> 1) if raw & 1 else offset + escape + (raw >> 1)
        # A leading zero is a second spelling of the same number.
        if digits[-1:] == [0] or not INT32.min <= value <= INT32.max:
            raise CorruptStream("corrupt stream: escape out of range")
        return value

    for r in rows:
        if r not in lists:
            length, offset = int(tables.length[r]), int(tables.offset[r])
            lists[r] = tables.cdf[r, : length + 1].tolist(), length - 1, offset
        cdf, escape, offset = lists[r]
        # The low 16 bits say which slot the encoder was in.
        slot = bisect_right(cdf, x & 0xFFFF) - 1
        pop(cdf[slot], cdf[slot + 1] - cdf[slot])
        out.append(offset + slot if slot != escape else pop_raw(offset, escape))
    # The encoder starts at state 0, so a whole stream ends there.
    if x or words:
        raise CorruptStream("corrupt stream: bytes left after the last symbol")
    return out


def neighbours(symbols: np.ndarray) -> list[np.ndarray]:
    """[..., H, W, C] of each of NEIGHBOURS, 0 beyond the border."""
    height, width, _ = symbols.shape[-3:]
    whole = [(0, 0)] * (symbols.ndim - 3)
    framed = np.pad(symbols, [*whole, (1, 0), (1, 1), (0, 0)])
    return [
        framed[..., 1 - up : 1 - up + height, 1 - left : 1 - left + width, :]
        for up, left in NEIGHBOURS
    ]


def context_rows(
    symbols: np.ndarray, weights: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """uint16[H W C] of int32[H, W, C] symbols; see `rans.context_rows`."""
    channels = symbols.shape[-1]
    # In float64, whose products are quick and exact: every sum lies within int32.
    near = np.clip(symbols, -REACH, REACH).astype(np.float64)
    parts = weights.reshape(5, channels, channels).astype(np.float64)
    sums = near @ parts[4]
    for there, part in zip(neighbours(near), parts):
        sums += there @ part
    classes = (sums[..., None] >= edges).sum(-1)
    rows = np.arange(channels) * (edges.shape[1] + 1) + classes
    return rows.reshape(-1).astype(np.uint16)


def decode_in_context(
    data: bytes,
    grid: tuple[int, int],
    tables: Tables,
    weights: np.ndarray,
    edges: np.ndarray,
) -> np.ndarray:
    """int32[H, W, C]; see `rans.decode_in_context`."""
    out: list[int] = []
    rows = _chosen(out, grid, weights.astype(np.int64), edges)
    return np.array(_popped(data, tables, rows, out), np.int32).reshape(
        *grid, weights.shape[1]
    )


def _chosen(
    out: list[int], grid: tuple[int, int], weights: np.ndarray, edges: np.ndarray
) -> Iterator[int]:
    """The row of each symbol, by those that stand in `out` when it is asked for."""
    (height, width), channels = grid, weights.shape[1]
    known = np.zeros((height + 1, width + 2, channels), np.int64)
    parts = weights.reshape(5, channels, channels)
    for y in range(height):
        for x in range(width):
            sums = np.zeros(channels, np.int64)
            for (up, left), part in zip(NEIGHBOURS, parts):
                sums += known[y + 1 - up, x + 1 - left] @ part
            for c in range(channels):
                row = int(np.searchsorted(edges[c], sums[c], "right"))
                yield c * (edges.shape[1] + 1) + row
                known[y + 1, x + 1, c] = near = max(-REACH, min(REACH, out[-1]))
                sums += near * parts[4, c]
