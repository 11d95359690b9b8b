"""The C client alone: warnings are errors, bytes are Python's, damage is refused."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sc_jax
from benchmarks.serving.damage import damaged
from sc_jax.codec import rans
from sc_jax.codec.rans import CorruptStream
from sc_jax.codec.tables import from_pmf
from sc_jax.deploy.wire import frame

ROOT = Path(sc_jax.__file__).parent
SOURCES = [str(ROOT / "deploy/c/coder.c"), str(ROOT / "codec/rans.c")]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FRAMES = 100_000
CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler cc")


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(9, 0.6), 4) * 0.98
    return from_pmf(list(rows), np.array([-4, -1, 0, -3]), np.full(4, 0.02))


@pytest.fixture(scope="module")
def coder(tables, tmp_path_factory):
    """(command, tables file); built with the sanitizers where they link."""
    folder = tmp_path_factory.mktemp("c")
    binary, file = folder / "coder", folder / "tables"
    command = [str(CC), *STRICT, *SOURCES, "-o", str(binary)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    built = subprocess.run([*command, *SANITIZE], capture_output=True, text=True)
    assert "warning" not in built.stderr
    shape = np.array(tables.cdf.shape, np.int32)
    arrays = (shape, tables.cdf, tables.length, tables.offset)
    file.write_bytes(b"".join(a.tobytes() for a in arrays))
    return binary, file


def call(coder, mode, data, *more):
    binary, file = coder
    command = [str(binary), mode, str(file), *map(str, more)]
    return subprocess.run(command, input=data, capture_output=True)


def some_symbols(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    symbols = rng.integers(-5, 6, count).astype(np.int32)
    symbols[::97] = rng.integers(-(2**31), 2**31, len(symbols[::97]))
    return symbols


def test_rans_alone_compiles_without_a_warning(tmp_path):
    command = [str(CC), *STRICT, "-c", SOURCES[1], "-o", str(tmp_path / "rans.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("count", [0, 4, 400, 40_000])
def test_streams_cross_between_c_and_python(coder, tables, count):
    symbols = some_symbols(count)
    stream = rans.encode(symbols, tables)
    assert call(coder, "encode", symbols.tobytes()).stdout == stream
    assert call(coder, "decode", stream, count).stdout == symbols.tobytes()


def test_a_corrupt_stream_is_one_line_and_exit_code_2(coder, tables):
    stream = rans.encode(some_symbols(400), tables)
    done = call(coder, "decode", stream[:-1], 400)
    assert (done.returncode, done.stderr) == (2, b"error: corrupt stream\n")


def test_100000_damaged_frames_are_judged_alike_by_c_and_python(coder, tables):
    rng = np.random.default_rng(2)
    streams = [rans.encode(some_symbols(400)[::-1], tables)]
    streams += [
        rans.encode(rng.integers(-3, 4, 400).astype(np.int32), tables)
        for _ in range(20)
    ]
    good = [frame.pack(4, 0, (10, 10, 4), stream) for stream in streams]
    frames = good + [damaged(good[i % len(good)], rng)[1] for i in range(FRAMES)]
    corpus = b"".join(len(f).to_bytes(4, "little") + f for f in frames)
    done = call(coder, "check", corpus, 400)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    letters = []
    for data in frames:
        try:
            rans.decode(frame.unpack(data).payload, 400, tables)
            letters.append(".")
        except frame.FrameError:
            letters.append("f")
        except CorruptStream:
            letters.append("c")
    assert done.stdout.decode() == "".join(letters)
    assert letters[: len(good)] == ["."] * len(good)
    assert min(letters.count(letter) for letter in "fc") > 1000
