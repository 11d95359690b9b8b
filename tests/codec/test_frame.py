import struct
import zlib

import numpy as np
import pytest

from sc_jax.deploy.wire.frame import Frame, FrameError, pack, unpack

FRAME = Frame(4, 513, (24, 55, 55), b"payload")


def bytes_of(frame: Frame) -> bytes:
    return pack(frame.codec, frame.split, frame.shape, frame.payload)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize(
    "frame",
    [FRAME, Frame(0, 0, (), b""), Frame(255, 65535, (2**32 - 1,) * 8, b"\0" * 99)],
)
def test_round_trip(frame):
    data = bytes_of(frame)
    assert len(data) == 17 + 4 * len(frame.shape) + len(frame.payload)
    assert unpack(data) == frame
    assert unpack(memoryview(data)) == frame


@pytest.mark.parametrize(
    "arguments",
    [
        (256, 0, (), b""),
        (0, 65536, (), b""),
        (0, 0, (2**32,), b""),
        (0, 0, (-1,), b""),
        (0, 0, (1,) * 9, b""),
    ],
)
def test_values_out_of_range(arguments):
    with pytest.raises(FrameError):
        pack(*arguments)


def test_each_way_to_be_wrong_has_its_line():
    data = bytes_of(FRAME)
    body = data[:-4]
    hostile = body[:21] + b"\xff\xff\xff\xff" + body[25:]
    for bad, message in [
        (b"", "cut short"),
        (data[:20], "cut short"),
        (b"JUNK" + data[4:], "not a frame"),
        (sealed(body[:4] + b"\x02" + body[5:]), "version 2"),
        (sealed(body[:8] + b"\x09" + body[9:]), "rank 9"),
        (sealed(hostile), "announces 4294967295"),
        (data + b"\0", "holds 8"),
        (data[:-1], "holds 6"),
        (data[:-5] + b"\0" + data[-4:], "checksum"),
    ]:
        with pytest.raises(FrameError, match=message) as caught:
            unpack(bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(FrameError, match="limit 10"):
        unpack(data, max_bytes=10)


def test_any_single_changed_bit_is_found():
    data = bytes_of(FRAME)
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            unpack(bytes(bad))


def test_random_bytes_only_raise_frame_error():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        with pytest.raises(FrameError):
            unpack(b"SCJX\x01" + rng.bytes(int(rng.integers(0, 60))))
