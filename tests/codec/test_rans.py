import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import laplace

from sc_jax.codec import rans, reference
from sc_jax.codec.tables import Tables, bits, from_pmf

SOURCE = Path(rans.__file__).with_name("rans.c")
LIMIT = np.iinfo(np.int32)
needs_c = pytest.mark.skipif(rans._kernel() is None, reason="no compiled coder")


@pytest.fixture(params=["c", "python"])
def coder(request, monkeypatch):
    if request.param == "c" and rans._kernel() is None:
        pytest.skip("no compiled coder")
    monkeypatch.setenv("SC_JAX_CODER", request.param)
    assert rans.backend() == request.param


@functools.cache
def laplace_tables(scale: float, rows: int = 24) -> tuple[Tables, np.ndarray]:
    k = np.arange(-300, 301)
    scales = scale * np.exp(np.linspace(-0.7, 0.7, rows))
    pmf = np.stack(
        [np.diff(laplace.cdf(np.arange(-300, 302) - 0.5, 0, s)) for s in scales]
    )
    return from_pmf(pmf, int(k[0]), 2 * laplace.cdf(-300.5, 0, scales)), pmf


def draw(rng, scale: float, run: int, rows: int = 24) -> np.ndarray:
    scales = scale * np.exp(np.linspace(-0.7, 0.7, rows))
    noise = rng.laplace(size=(rows, run)) * scales[:, None]
    return np.rint(noise).astype(np.int32).reshape(-1)


def random_tables(rng, rows: int) -> Tables:
    pmf = [rng.dirichlet(np.full(rng.integers(1, 40), 0.3)) for _ in range(rows)]
    return from_pmf(pmf, rng.integers(-50, 50, rows), rng.choice([0, 1e-3, 0.3]))


def round_trip(symbols, tables, rows=None) -> bytes:
    data = rans.encode(symbols, tables, rows)
    out = rans.decode(data, symbols.size, tables, rows)
    assert out.dtype == np.int32 and np.array_equal(out, symbols)
    return data


WHOLE = Tables(np.array([[0, 65536]], "u4"), np.array([1], "i4"), np.array([3], "i4"))
PAIR = from_pmf([[0.5, 0.5]], 0)


@pytest.mark.usefixtures("coder")
@pytest.mark.parametrize("tables", [WHOLE, PAIR], ids=["whole-mass", "pair"])
def test_extremes_round_trip(tables):
    edge = [LIMIT.min, LIMIT.max, LIMIT.min + 1, -1, 0, 1, 2, 3, 4, LIMIT.max - 1]
    round_trip(np.array(edge, np.int32), tables)
    for value in edge:
        round_trip(np.array([value], np.int32), tables)


@pytest.mark.usefixtures("coder")
@pytest.mark.parametrize("offset", [LIMIT.min, LIMIT.max, 0])
def test_extreme_offsets(offset):
    tables = Tables(WHOLE.cdf, WHOLE.length, np.array([offset], np.int32))
    round_trip(np.array([LIMIT.min, 0, LIMIT.max], np.int32), tables)


@pytest.mark.usefixtures("coder")
def test_empty_and_free_symbols():
    assert round_trip(np.empty(0, np.int32), PAIR) == b""
    assert round_trip(np.empty(0, np.int32), PAIR, np.empty(0, np.uint16)) == b""
    assert round_trip(np.zeros(1, np.int32), PAIR) == b""  # slot 0 of state 0
    with pytest.raises(rans.CorruptStream):
        rans.decode(b"\x01", 0, PAIR)


@pytest.mark.usefixtures("coder")
def test_arguments_are_checked():
    tables, _ = laplace_tables(1.0)
    ok = np.zeros(48, np.int32)
    for bad in (ok.astype(np.int64), ok.astype(np.float32), ok.reshape(2, 24), ok[:25]):
        with pytest.raises(ValueError):
            rans.encode(bad, tables)
    for rows in (np.full(48, 24, np.uint16), np.zeros(48, np.int32), np.zeros(4, "u2")):
        with pytest.raises(ValueError):
            rans.encode(ok, tables, rows)
        with pytest.raises(ValueError):
            rans.decode(b"", 48, tables, rows)
    with pytest.raises(ValueError):
        rans.decode(b"", -24, tables)


def test_backend_choice(monkeypatch):
    monkeypatch.setenv("SC_JAX_CODER", "fortran")
    with pytest.raises(ValueError, match="fortran"):
        rans.backend()
    monkeypatch.setattr(rans, "_kernel", lambda: None)
    monkeypatch.setenv("SC_JAX_CODER", "c")
    with pytest.raises(ValueError, match="compiler"):
        rans.backend()
    monkeypatch.delenv("SC_JAX_CODER")
    assert rans.backend() == "python"


@needs_c
def test_c_and_python_write_the_same_bytes(monkeypatch):
    rng = np.random.default_rng(1)
    monkeypatch.setenv("SC_JAX_CODER", "c")
    for case in range(150):
        tables = random_tables(rng, int(rng.integers(1, 9)))
        count = tables.rows * int(rng.integers(0, 60))
        spread = int(rng.choice([3, 60, 5000, 2**31 - 1]))
        symbols = rng.integers(-spread - 1, spread, count, endpoint=True).astype("i4")
        rows = rng.integers(0, tables.rows, count).astype("u2") if case % 2 else None
        data = round_trip(symbols, tables, rows)
        assert reference.encode(symbols, tables, rows) == data
        assert np.array_equal(reference.decode(data, count, tables, rows), symbols)


@pytest.mark.parametrize("scale", [0.07, 0.1, 0.3, 1.0, 4.0])
def test_size_is_the_ideal(scale):
    rng = np.random.default_rng(2)
    tables, pmf = laplace_tables(scale)
    symbols = draw(rng, scale, 3025)
    size = len(round_trip(symbols, tables))
    assert size <= bits(tables, symbols) / 8 + 3
    p = np.maximum(pmf[np.repeat(np.arange(24), 3025), symbols + 300], 1e-300)
    assert size <= -np.log2(p).sum() / 8 * 1.005 + 8
    rows = np.repeat(np.arange(24), 3025).astype(np.uint16)
    assert rans.encode(symbols, tables, rows) == rans.encode(symbols, tables)


@pytest.mark.parametrize("scale", [0.15, 1.0])
def test_size_against_constriction(scale):
    constriction = pytest.importorskip("constriction")
    rng = np.random.default_rng(3)
    tables, pmf = laplace_tables(scale)
    symbols = draw(rng, scale, 3025)
    other = constriction.stream.stack.AnsCoder()
    for row, p in reversed(list(zip(symbols.reshape(24, -1), pmf))):
        model = constriction.stream.model.Categorical(p[260:341], perfect=False)
        other.encode_reverse(row + 40, model)
    theirs = 4 * len(other.get_compressed())
    assert len(round_trip(symbols, tables)) <= theirs * 1.002 + 8


def mutate(rng, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind, at = rng.integers(4), int(rng.integers(len(out) + 1))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del out[at : at + int(rng.integers(1, 9))]
        elif kind == 2:
            out[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            out[at : at + 4] = b"\xff" * 4
    return bytes(out)


@needs_c
def test_mutated_streams_are_refused_or_are_streams(monkeypatch):
    """Both coders agree on every stream, and whatever decodes encodes back to it."""
    monkeypatch.setenv("SC_JAX_CODER", "c")
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(40):
        tables = random_tables(rng, 3)
        symbols = rng.integers(-60, 60, 3 * int(rng.integers(1, 15))).astype("i4")
        data = rans.encode(symbols, tables)
        for k in range(100):
            bad = (
                rng.bytes(int(rng.integers(0, 30))) if k % 4 == 0 else mutate(rng, data)
            )
            try:
                out = rans.decode(bad, symbols.size, tables)
            except rans.CorruptStream:
                refused += 1
                with pytest.raises(rans.CorruptStream):
                    reference.decode(bad, symbols.size, tables, None)
            else:
                assert rans.encode(out, tables) == bad
                assert np.array_equal(
                    reference.decode(bad, symbols.size, tables, None), out
                )
    assert refused > 3000


@needs_c
def test_one_symbol_streams_are_exactly_the_canonical_ones():
    """Every stream of up to two bytes decodes to what encodes to it, or is refused."""
    for data in [
        b"",
        *(n.to_bytes(s, "little") for s in (1, 2) for n in range(256**s)),
    ]:
        try:
            out = rans.decode(data, 1, PAIR)
        except rans.CorruptStream:
            continue
        assert rans.encode(out, PAIR) == data


def test_c_source_compiles_strictly(tmp_path):
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        pytest.skip("no C compiler")
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O3"]
    out = ["-c", "-o", str(tmp_path / "rans.o")]
    assert subprocess.run([cc, *flags, str(SOURCE), *out]).returncode == 0


def test_import_needs_no_jax():
    code = (
        "import sys, sc_jax.codec.codecs, sc_jax.deploy.wire.frame;"
        "sys.exit(any(m in sys.modules for m in ('jax', 'flax', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
