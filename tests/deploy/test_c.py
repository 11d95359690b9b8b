"""The C library alone: warnings are errors, bytes are Python's, damage is refused."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sc_jax
from benchmarks.serving.damage import damaged
from sc_jax.codec import rans
from sc_jax.codec.codecs import FactorizedCodec, RawCodec
from sc_jax.codec.rans import CorruptStream
from sc_jax.codec.tables import from_pmf
from sc_jax.deploy import bundle
from sc_jax.deploy.wire import frame

ROOT = Path(sc_jax.__file__).parent
NAMES = ("deploy/c/coder_main.c", "deploy/c/coder.c", "codec/rans.c")
SOURCES = [str(ROOT / name) for name in NAMES]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FRAMES = 100_000
SHAPE = (10, 10, 4)
CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler cc")


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(9, 0.6), 4) * 0.98
    return from_pmf(list(rows), np.array([-4, -1, 0, -3]), np.full(4, 0.02))


@pytest.fixture(scope="module")
def coder(tmp_path_factory):
    """The program, built with the sanitizers where they link."""
    binary = tmp_path_factory.mktemp("c") / "coder"
    command = [str(CC), *STRICT, *SOURCES, "-o", str(binary)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    built = subprocess.run([*command, *SANITIZE], capture_output=True, text=True)
    assert "warning" not in built.stderr
    return binary


@pytest.fixture
def codec_file(tables, tmp_path):
    """Writes codec.npz of latents of a shape, as bundles hold it."""

    def write(shape=SHAPE):
        medians = np.zeros(shape[-1], np.float32)
        codec = FactorizedCodec(shape, tables, medians)
        (tmp_path / "codec.npz").write_bytes(bundle.table_bytes(codec))
        return tmp_path / "codec.npz"

    return write


def call(coder, mode, file, data):
    return subprocess.run(
        [str(coder), mode, str(file)], input=data, capture_output=True
    )


def some_symbols(shape) -> np.ndarray:
    rng = np.random.default_rng(1)
    symbols = rng.integers(-5, 6, shape).astype(np.int32)
    some = symbols.reshape(-1)[::97]
    some[:] = rng.integers(-(2**31), 2**31, len(some))
    return symbols


def channels_first(symbols) -> np.ndarray:
    return np.moveaxis(symbols, -1, 0).reshape(-1)


@pytest.mark.parametrize("source", SOURCES[1:])
def test_each_part_compiles_alone_without_a_warning(source, tmp_path):
    command = [str(CC), *STRICT, "-c", source, "-o", str(tmp_path / "part.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("shape", [(1, 1, 4), SHAPE, (100, 100, 4)])
def test_frames_cross_between_c_and_python(coder, codec_file, tables, shape):
    symbols, file = some_symbols(shape), codec_file(shape)
    ordered = channels_first(symbols)
    packed = frame.pack(4, 0, shape, rans.encode(ordered, tables))
    assert call(coder, "frame", file, symbols.tobytes()).stdout == packed
    assert call(coder, "unframe", file, packed).stdout == ordered.tobytes()


def test_mistakes_are_one_line_and_exit_code_2(coder, codec_file, tables, tmp_path):
    file = codec_file()
    stream = rans.encode(channels_first(some_symbols(SHAPE)), tables)
    raw = tmp_path / "raw.npz"
    raw.write_bytes(bundle.table_bytes(RawCodec(SHAPE)))
    cases = [
        ("unframe", file, frame.pack(4, 0, SHAPE, stream[:-1]), "corrupt stream"),
        ("unframe", file, stream, "no frame"),
        ("frame", file, bytes(4), "not the symbols of one latent"),
        ("frame", tmp_path / "none", b"", "the codec cannot be opened"),
        ("frame", raw, b"", "a codec of another kind than factorized"),
        ("frame", __file__, b"", "no codec.npz of a bundle"),
    ]
    for mode, path, data, line in cases:
        done = call(coder, mode, path, data)
        assert (done.returncode, done.stderr.decode()) == (2, f"error: {line}\n")


def test_damaged_codec_files_are_refused_or_read_within_bounds(coder, codec_file):
    file, rng = codec_file(), np.random.default_rng(4)
    whole, codes = file.read_bytes(), []
    for i in range(60):
        data = bytearray(whole)
        # Headers decide about sizes: most of the damage goes there.
        places = [data.find(b"PK\3\4", rng.integers(len(data))) for _ in range(3)]
        for place in places:
            data[max(place, 0) + rng.integers(150)] = rng.integers(256)
        file.write_bytes(data if i % 3 else data[: rng.integers(len(data))])
        done = call(coder, "check", file, b"")
        codes.append(done.returncode)
        assert done.stderr.count(b"\n") == (done.returncode == 2), done.stderr.decode()
    assert set(codes) == {0, 2}


def test_100000_damaged_frames_are_found_alike_by_c_and_python(
    coder, codec_file, tables
):
    rng = np.random.default_rng(2)
    streams = [rans.encode(some_symbols(400)[::-1], tables)]
    streams += [
        rans.encode(rng.integers(-3, 4, 400).astype(np.int32), tables)
        for _ in range(20)
    ]
    good = [frame.pack(4, 0, SHAPE, stream) for stream in streams]
    frames = good + [damaged(good[i % len(good)], rng)[1] for i in range(FRAMES)]
    corpus = b"".join(len(f).to_bytes(4, "little") + f for f in frames)
    done = call(coder, "check", codec_file(), corpus)
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
