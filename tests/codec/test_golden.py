"""Frozen streams stay readable and stay what encode writes; the page's example too."""

import re
from pathlib import Path

import numpy as np
import pytest

from sc_jax.codec import codecs, rans
from sc_jax.codec.context import Context
from sc_jax.codec.tables import Tables
from sc_jax.codec.variable_rate import VariableRateCodec, bins_of
from sc_jax.deploy.wire import frame

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def golden():
    with np.load(ROOT / "tests/golden/codec.npz") as arrays:
        return dict(arrays)


@pytest.fixture(params=["c", "python"], autouse=True)
def coder(request, monkeypatch):
    if request.param == "c" and rans._kernel() is None:
        pytest.skip("no compiled coder")
    monkeypatch.setenv("SC_JAX_CODER", request.param)


def part(golden, name: str) -> dict[str, np.ndarray]:
    prefix = name + "/"
    return {k[len(prefix) :]: v for k, v in golden.items() if k.startswith(prefix)}


@pytest.mark.parametrize("name", ["runs", "mixed"])
def test_streams(golden, name):
    tables = Tables.from_arrays(part(golden, "tables"))
    case = part(golden, name)
    rows, symbols = case.get("rows"), case["symbols"]
    stream = case["stream"].tobytes()
    assert rans.encode(symbols, tables, rows) == stream
    assert np.array_equal(rans.decode(stream, symbols.size, tables, rows), symbols)


@pytest.mark.parametrize("name", ["raw16", "affine5", "factorized"])
def test_codecs(golden, name):
    case = part(golden, name)
    codec = codecs.from_arrays(case)
    wire = frame.unpack(case["frame"].tobytes())
    assert wire.codec == codec.id
    assert (wire.split, wire.shape) == (3, codec.shape)
    assert np.array_equal(codec.decode(wire.payload), case["z_hat"])
    assert codec.encode(golden["z"]) == wire.payload


def test_the_example_of_the_page():
    page = (ROOT / "docs/bitstream.md").read_text()
    streams = [
        bytes.fromhex(text)
        for text in re.findall(r"^    ((?:[0-9a-f]{2} ?)+)$", page, re.M)
    ]
    cdf = np.array([[0, 16384, 49152, 65280, 65536]], np.uint32)
    tables = Tables(cdf, np.array([4], np.int32), np.array([-1], np.int32))
    codec = codecs.FactorizedCodec((6, 1), tables, np.zeros(1, np.float32))
    z = np.array([[0], [1], [-1], [5], [0], [0]], np.float32)
    payload = codec.encode(z)
    affine = codecs.AffineCodec((3,), 3).encode(np.array([-1, 0.75, 2.5], np.float32))
    sparse = codecs.TopKCodec((6,), 2, 4)
    top_k = sparse.encode(np.array([0.5, -3, 0, 1, 2, -1], np.float32))
    moved = Tables(cdf, np.array([4], np.int32), np.array([0], np.int32))
    points = codecs.ClippedCodec((6, 1), moved, [0.0, 1.0], [-0.5, 0.5, 2.0])
    values = np.array([[-9], [0.25], [1], [0], [0.5], [7]], np.float32)
    clipped = points.encode(values)
    assert points.decode(clipped).T.tolist() == [[-0.5, 0.5, 2, 0.5, 0.5, 2]]
    blocks = codecs.SlicerCodec((8,), 4, 2.0, 2, 4, 16)
    z8 = np.array([0.5, -3, 0, 1, 0, -1.5, 8, 0.25], np.float32)
    rows = np.array([[-0.5, 0, 1], [0, 0, 0]], np.float32)
    csr = codecs.CSRCodec((2, 3), 2).encode(rows)
    filtered = [blocks.encode(z8), csr]
    bins = bins_of(np.array([[1.0], [0.5]]), np.zeros(1))
    levels = VariableRateCodec((6, 1), (tables, tables), np.zeros(1), bins, level=1)
    level = levels.encode(z / 2)
    assert np.array_equal(levels.decode(level), z / 2)
    chosen = np.array([[0, 16384, 49152, 65280, 65536], [0, 4096, 16384, 61440, 65536]])
    both = Tables(chosen.astype(np.uint32), *np.array([[4, 4], [-1, -1]], np.int32))
    weights = np.array([[5], [0], [0], [0], [0]], np.int16)
    row = np.array([[1], [1], [0], [-1]], np.int32)
    context = Context(weights, np.array([[1]], np.int32), both).encode(row)
    framed = frame.pack(4, 2, (6, 1), payload)
    before = [payload, affine, top_k, clipped]
    assert streams == [*before, *filtered, level, context, framed]
