"""Damage to wire frames, seeded: what the coders and the server are tested against."""

import zlib
from collections.abc import Callable

import numpy as np

from sc_jax.deploy.wire.frame import HEAD, U32

Damage = Callable[[bytearray, np.random.Generator], object]


def _at(start: int, stop: int) -> Damage:
    """Random bytes in place of those from start to stop."""

    def damage(data, rng):
        data[start:stop] = rng.bytes(stop - start)

    return damage


def _bits(data, rng):
    for at in rng.integers(0, 8 * len(data), rng.integers(1, 5)):
        data[at // 8] ^= 1 << at % 8


def _cut(data, rng):
    del data[rng.integers(len(data)) :]


def _grown(data, rng):
    data += rng.bytes(rng.integers(1, 40))


def _hostile(where: Callable[[bytearray], int]) -> Damage:
    """A number of 32 bits that is huge, small, or one off."""

    def damage(data, rng):
        at = where(data)
        (old,) = U32.unpack_from(data, at)
        choices = (rng.integers(1 << 32), rng.integers(9), old + 1, (1 << 32) - 1)
        U32.pack_into(data, at, int(choices[rng.integers(4)]) & 0xFFFFFFFF)

    return damage


def _payload(data, rng):
    start = HEAD.size + 4 * data[8] + 4
    if rng.integers(2):
        data[start:-4] = rng.bytes(len(data) - 4 - start)
    elif len(data) - 4 > start:
        data[rng.integers(start, len(data) - 4)] ^= 1 << rng.integers(8)


DAMAGE: dict[str, Damage] = {
    "bits": _bits,
    "cut": _cut,
    "grown": _grown,
    "magic": _at(0, 4),
    "version": _at(4, 5),
    "codec": _at(5, 6),
    "split": _at(6, 8),
    "rank": _at(8, 9),
    "shape": _hostile(lambda data: HEAD.size),
    "length": _hostile(lambda data: HEAD.size + 4 * data[8]),
    "payload": _payload,
    "checksum": lambda data, rng: _at(len(data) - 4, len(data))(data, rng),
}


def damaged(good: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """(kind of DAMAGE, a frame of rank 1 or more with it); half get a fitting sum."""
    kind = tuple(DAMAGE)[rng.integers(len(DAMAGE))]
    data = bytearray(good)
    DAMAGE[kind](data, rng)
    if rng.integers(2) and kind != "checksum" and len(data) > 4:
        return kind, resealed(data[:-4])
    return kind, bytes(data)


def resealed(body: bytes | bytearray) -> bytes:
    """`body` with the checksum that fits it: damage that only a codec can see."""
    return bytes(body) + zlib.crc32(body).to_bytes(4, "little")
