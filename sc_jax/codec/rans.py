"""Entropy coder: int32 symbols <-> bytes under integer tables.

Uses the kernel compiled from rans.c at install, else the Python reference; both
write the same bytes. SC_JAX_CODER=c or =python forces one. docs/bitstream.md
specifies the stream.
"""

import ctypes
import functools
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

from sc_jax.codec import reference
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import TOTAL, Tables

__all__ = [
    "CorruptStream",
    "backend",
    "context_rows",
    "decode",
    "decode_in_context",
    "encode",
]

VERSION = 2  # of the C interface, not of the stream
# Of the search index: 64 counts each, so that few slots are left to look at.
BUCKETS = 1024
CORRUPT = -1


class _CTables(ctypes.Structure):
    _fields_ = (
        ("cdf", ctypes.c_void_p),
        ("length", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("rows", ctypes.c_int32),
        ("stride", ctypes.c_int32),
    )


class _CContext(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("edges", ctypes.c_void_p),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("classes", ctypes.c_int32),
    )


@functools.cache
def _kernel() -> ctypes.CDLL | None:
    """The compiled kernel beside this file, or None."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_rans{suffix}")
        if not path.exists():
            continue
        try:
            library = ctypes.CDLL(str(path))
            # Left by an older install: the reference serves until it is built again.
            if library.sc_rans_version() != VERSION:
                continue
        except (OSError, AttributeError):
            continue
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        library.sc_rans_prepare.argtypes = [pointer]
        library.sc_rans_encode.argtypes = [*[pointer] * 3, size, pointer, size]
        library.sc_rans_encode.restype = ctypes.c_int64
        library.sc_rans_decode.argtypes = [
            *(pointer, ctypes.c_char_p, size),
            *(pointer, size, pointer),
        ]
        library.sc_context_rows.argtypes = [pointer] * 4
        library.sc_context_rows.restype = None
        library.sc_context_decode.argtypes = [
            *(pointer, pointer, ctypes.c_char_p, size, pointer, pointer)
        ]
        return library
    return None


def backend() -> str:
    """'c' or 'python': what encode and decode use now."""
    wanted = os.environ.get("SC_JAX_CODER", "")
    if wanted not in ("", "c", "python"):
        raise ValueError(f"SC_JAX_CODER is {wanted!r}, not 'c' or 'python'")
    if wanted == "python":
        return "python"
    if _kernel() is not None:
        return "c"
    if wanted == "c":
        raise ValueError(
            "SC_JAX_CODER=c, but no compiled coder: install with a C compiler"
        )
    return "python"


def _prepared(kernel: ctypes.CDLL, tables: Tables):
    """Pointer to the tables with their search index, built once per Tables."""
    if "c" not in tables.cache:
        # Held beside the pointers, or the memory that they point at would be freed.
        index = np.empty((tables.rows, BUCKETS), np.uint16)
        arrays = (tables.cdf, tables.length, tables.offset, index)
        struct = _CTables(*(a.ctypes.data for a in arrays), *tables.cdf.shape)
        if kernel.sc_rans_prepare(ctypes.byref(struct)):
            raise ValueError("the coder rejects these tables")
        tables.cache["c"] = struct, index
    return ctypes.byref(tables.cache["c"][0])


def _checked_rows(count: int, tables: Tables, rows) -> np.ndarray | None:
    # R equal runs in order: the receiver knows them without being sent any.
    if rows is None:
        if count % tables.rows:
            raise ValueError(f"{count} symbols are not {tables.rows} equal runs")
        return None
    rows = np.ascontiguousarray(rows)
    if rows.dtype != np.uint16 or rows.shape != (count,):
        raise ValueError(f"rows are {rows.dtype}{rows.shape}, not uint16({count},)")
    # Any uint16 is a row of a full table.
    if count and tables.rows < TOTAL and rows.max() >= tables.rows:
        raise ValueError(f"row {rows.max()} of tables with {tables.rows} rows")
    return rows


def _address(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def encode(
    symbols: np.ndarray, tables: Tables, rows: np.ndarray | None = None
) -> bytes:
    """Stream of int32[N] symbols; any int32 value can be coded.

    rows uint16[N]: the table row of each symbol; None: R equal runs in row order.
    ValueError for a wrong dtype, shape or row.
    """
    symbols = np.ascontiguousarray(symbols)
    if symbols.dtype != np.int32 or symbols.ndim != 1:
        raise ValueError(f"symbols are {symbols.dtype}{symbols.shape}, not int32(N,)")
    rows = _checked_rows(symbols.size, tables, rows)
    kernel = _kernel() if backend() == "c" else None
    if kernel is None:
        return reference.encode(symbols, tables, rows)
    room = np.empty(8 * symbols.size + 32, np.uint8)  # an escape is at most 56 bits
    size = kernel.sc_rans_encode(
        _prepared(kernel, tables),
        *(_address(symbols), _address(rows), symbols.size),
        *(_address(room), room.size),
    )
    if size < 0:
        raise RuntimeError(f"the coder failed with code {size}")
    # rANS writes backwards: the stream lies at the end of the buffer.
    return room[room.size - size :].tobytes()


def decode(
    data: bytes, count: int, tables: Tables, rows: np.ndarray | None = None
) -> np.ndarray:
    """int32[count] symbols of a stream that holds exactly those.

    rows: as for `encode`. CorruptStream for bytes `encode` never writes.
    """
    if count < 0:
        raise ValueError(f"count is {count}")
    # Immutable: C must not read a buffer that another thread may resize.
    data = bytes(memoryview(data))
    rows = _checked_rows(count, tables, rows)
    kernel = _kernel() if backend() == "c" else None
    if kernel is None:
        return reference.decode(data, count, tables, rows)
    # ctypes' own array: to ask NumPy's for its address takes as long as to decode one.
    out = (ctypes.c_int32 * count)()
    code = kernel.sc_rans_decode(
        *(_prepared(kernel, tables), data, len(data)),
        *(_address(rows), count, out),
    )
    if code == CORRUPT:
        raise CorruptStream(f"corrupt stream of {len(data)} bytes")
    if code:
        raise RuntimeError(f"the coder failed with code {code}")
    return np.ndarray(count, np.int32, out)


def _c_context(weights: np.ndarray, edges: np.ndarray, grid: tuple[int, int]):
    return _CContext(
        *(_address(weights), _address(edges), *grid, weights.shape[1]),
        edges.shape[1] + 1,
    )


def context_rows(
    symbols: np.ndarray, weights: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """uint16[H W C]: the row of each of int32[H, W, C] symbols, chosen by those before.

    weights int16[5 C, C], edges int32[C, K - 1]: of a `context.Context`, which has
    checked them. ValueError for symbols of another rank or other channels.
    """
    if symbols.ndim != 3 or symbols.shape[2] != weights.shape[1]:
        raise ValueError(f"symbols {symbols.shape}, not [H, W, {weights.shape[1]}]")
    kernel = _kernel() if backend() == "c" else None
    if kernel is None:
        return reference.context_rows(symbols, weights, edges)
    symbols = np.ascontiguousarray(symbols, np.int32)
    rows = np.empty(symbols.size, np.uint16)
    sums = np.empty(symbols.shape[-1], np.int32)
    context = _c_context(weights, edges, symbols.shape[:2])
    arrays = (_address(a) for a in (symbols, sums, rows))
    kernel.sc_context_rows(ctypes.byref(context), *arrays)
    return rows


def decode_in_context(
    data: bytes,
    grid: tuple[int, int],
    tables: Tables,
    weights: np.ndarray,
    edges: np.ndarray,
) -> np.ndarray:
    """int32[H, W, C] of a stream under `context_rows`; grid: (H, W). CorruptStream."""
    data = bytes(memoryview(data))
    kernel = _kernel() if backend() == "c" else None
    if kernel is None:
        return reference.decode_in_context(data, grid, tables, weights, edges)
    out = np.empty((*grid, weights.shape[1]), np.int32)
    sums = np.empty(weights.shape[1], np.int32)
    code = kernel.sc_context_decode(
        _prepared(kernel, tables),
        ctypes.byref(_c_context(weights, edges, grid)),
        *(data, len(data), _address(sums), _address(out)),
    )
    if code:
        raise CorruptStream(f"corrupt stream of {len(data)} bytes")
    return out
