"""The wire frame: one payload with what the receiver needs to route and check it."""

import struct
import zlib
from dataclasses import dataclass

MAGIC = b"SCJX"
VERSION = 1
MAX_RANK = 8
MAX_BYTES = 1 << 26
HEAD = struct.Struct("<4sBBHB")  # magic, version, codec, split, rank
U32 = struct.Struct("<I")


class FrameError(ValueError):
    """Bytes that are not one whole frame, or values that do not fit one."""


class VersionError(FrameError):
    """A frame of another version than this reader's."""


@dataclass(frozen=True)
class Frame:
    """codec: id 0-255; split: id 0-65535; shape: at most 8 axes, each below 2^32."""

    codec: int
    split: int
    shape: tuple[int, ...]
    payload: bytes


def pack(codec: int, split: int, shape: tuple[int, ...], payload: bytes) -> bytes:
    """The frame's bytes: 17 + 4 * rank more than the payload. FrameError on range."""
    if len(shape) > MAX_RANK:
        raise FrameError(f"frame of rank {len(shape)}, above {MAX_RANK}")
    try:
        header = HEAD.pack(MAGIC, VERSION, codec, split, len(shape))
        dims = struct.pack(f"<{len(shape)}I", *shape)
        body = header + dims + U32.pack(len(payload)) + payload
    except struct.error as error:
        raise FrameError(f"frame field out of range: {error}") from error
    return body + U32.pack(zlib.crc32(body))


def unpack(data: bytes, max_bytes: int = MAX_BYTES) -> Frame:
    """The one frame that `data` is, exactly.

    FrameError, one line, for each way to be wrong; lengths are checked against the
    bytes at hand before anything is sliced, so a hostile length costs nothing.
    """
    if len(data) > max_bytes:
        raise FrameError(f"frame of {len(data)} bytes, above the limit {max_bytes}")
    if len(data) < HEAD.size + 2 * U32.size:
        raise FrameError(f"frame cut short: {len(data)} bytes")
    magic, version, codec, split, rank = HEAD.unpack_from(data)
    # Magic, then version: of another version no field behind it is known.
    if magic != MAGIC:
        raise FrameError(f"not a frame: begins with {magic!r}")
    if version != VERSION:
        raise VersionError(f"frame version {version}, this reader knows {VERSION}")
    # Before it is multiplied: every length is checked before it is used.
    if rank > MAX_RANK:
        raise FrameError(f"frame of rank {rank}, above {MAX_RANK}")
    start = HEAD.size + 4 * rank + U32.size
    if len(data) < start + U32.size:
        raise FrameError(f"frame cut short: {len(data)} bytes")
    *shape, size = struct.unpack_from(f"<{rank + 1}I", data, HEAD.size)
    if len(data) != start + size + U32.size:
        have = len(data) - start - U32.size
        raise FrameError(f"frame announces {size} payload bytes and holds {have}")
    end = start + size
    if U32.unpack_from(data, end)[0] != zlib.crc32(memoryview(data)[:end]):
        raise FrameError("frame checksum differs")
    return Frame(codec, split, tuple(shape), bytes(data[start:end]))
