"""What bad clients send, kind by kind, seeded; loopback servers of one's own only.

As a program it takes its orders as JSON lines, so that its work and the good clients'
do not share an interpreter:

    {"kind": "frames", "address": "127.0.0.1:50051", "frames": "frames.npz", "seed": 0,
     "count": 1000, "connections": 2, "window": 2}

and answers each with what became of the requests: names of gRPC's statuses, "reset",
"lost" (a connection, and what was under way on it), "silent" or "left".
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.serving import http2
from benchmarks.serving.damage import damaged
from sc_jax.deploy.wire import protocol

MODEL = "model"  # the id that benchmarks serve under
INFER = f"/{protocol.SERVICE}/ModelInfer"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = (
    *(f"/{protocol.SERVICE}/{name}" for name in protocol.METHODS),
    CHECK,
    WATCH,
    REFLECT,
)
PARSING = tuple(path for path in METHODS if path != WATCH)  # of "" it never ends
STATUSES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    "UNAUTHENTICATED",
)  # fmt: skip
OPEN = 330  # streams of one connection, of those that never end
SILENT_S = 0.3
HOLD_S = 1.0


class Call(NamedTuple):
    path: str
    body: bytes
    extra: tuple[tuple[bytes, bytes], ...] = ()


Good = Sequence[bytes]  # whole frames of the model
Rng = np.random.Generator


def _request(data: bytes, model: str = MODEL) -> bytes:
    return protocol.infer_request(model, data).SerializeToString()


def _pick(rng: Rng, values: Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def _noise(rng: Rng, longest: int) -> bytes:
    """1 to `longest` - 1 random bytes."""
    return rng.bytes(int(rng.integers(1, longest)))


def protobuf(good: Good, rng: Rng) -> Call:
    """Bytes that are no message, or a message that was hurt, to any method."""
    path = _pick(rng, PARSING)
    if rng.integers(2):
        return Call(path, _noise(rng, 200))
    data = bytearray(_request(_pick(rng, good)))
    if rng.integers(2):
        del data[rng.integers(1, len(data)) :]
    for at in rng.integers(0, len(data), rng.integers(1, 6)):
        data[at] = rng.integers(256)
    return Call(path, bytes(data))


def frames(good: Good, rng: Rng) -> Call:
    """Whole messages with damaged frames."""
    return Call(INFER, _request(damaged(_pick(rng, good), rng)[1]))


def models(good: Good, rng: Rng) -> Call:
    """Other models, versions, inputs and budgets."""
    request = protocol.infer_request(MODEL, _pick(rng, good))
    choice = rng.integers(6)
    if choice == 0:
        request.model_name = _noise(rng, 3000).hex()
    elif choice == 1:
        request.model_version = _noise(rng, 3000).hex()
    elif choice == 2:
        budgets = (-1.0, np.nan, np.inf, 1e-9, 1e308)
        request.parameters[protocol.BUDGET].double_param = _pick(rng, budgets)
    elif choice == 3:
        request.inputs[0].shape[:] = [
            int(n) for n in rng.integers(-(1 << 62), 1 << 62, 5)
        ]
    elif choice == 4:
        request.outputs.add(name=rng.bytes(9).hex())
    else:
        for _ in range(rng.integers(1, 50)):
            request.inputs.add(name=rng.bytes(4).hex(), datatype="BYTES")
    return Call(INFER, request.SerializeToString())


def metadata(good: Good, rng: Rng) -> Call:
    """Headers: many, long, odd; other paths, timeouts, encodings.

    gRPC lets those who break its rules wait for up to a second: one in twenty here.
    """
    extra = []
    many, longest = (40, 300) if rng.integers(100) == 0 else (12, 100)
    for _ in range(rng.integers(1, many)):
        name = b"x-" + _noise(rng, 20).hex().encode()
        value = _noise(rng, longest).hex().encode()
        extra.append((name, value))
    odd = (
        (b"grpc-timeout", b"1n"),
        (b"grpc-timeout", rng.bytes(4)),
        (b"grpc-encoding", b"gzip"),
        (b"grpc-encoding", rng.bytes(6)),
        (b"authorization", b"Bearer " + rng.bytes(20)),
        (b"x-bin", rng.bytes(9)),
        (b"Upper", b"case"),
    )
    if rng.integers(20) == 0:
        extra.append(_pick(rng, odd))
    path = INFER if rng.integers(4) else f"/{rng.bytes(9).hex()}/{rng.bytes(9).hex()}"
    return Call(path, _request(good[0]), tuple(extra))


def watch(good: Good, rng: Rng) -> Call:
    """Watch with names that nobody serves, short and long."""
    size = rng.integers(1, 15_000) if rng.integers(2) else rng.integers(1, 400)
    name = rng.bytes(int(size)).hex().encode()
    length = bytearray()
    left = len(name)
    while left >= 128:
        length.append(left % 128 | 128)
        left //= 128
    return Call(WATCH, b"\x0a" + bytes((*length, left)) + name)


def reflection(good: Good, rng: Rng) -> Call:
    """Questions for files and symbols that are and are not there."""
    names = (
        protocol.SERVICE.encode(),
        b"",
        _noise(rng, 60).hex().encode(),
    )
    name, field = _pick(rng, names), _pick(rng, (3, 4, 5, 6, 7))
    return Call(REFLECT, bytes((field << 3 | 2, len(name))) + name)


CALLS: dict[str, Callable[[Good, Rng], Call]] = {
    "protobuf": protobuf,
    "frames": frames,
    "models": models,
    "metadata": metadata,
    "watch": watch,
    "reflection": reflection,
}


class Order(NamedTuple):
    """count: of requests. window: of calls at once on one connection."""

    address: str
    count: int
    window: int
    good: Good


def flood(make: Callable[[Good, Rng], Call]) -> Callable:
    """Whole calls, `window` at once; a connection that is lost is made anew."""

    def attack(order: Order, rng: Rng) -> Counter[str]:
        found: Counter[str] = Counter()
        while (left := order.count - found.total()) > 0:
            connection = http2.Connection(order.address)
            try:
                _calls(connection, order, make, left, rng, found)
            except (http2.Lost, TimeoutError) as error:
                kind = "lost" if isinstance(error, http2.Lost) else "silent"
                found[kind] += min(max(len(connection.under_way), 1), left)
            finally:
                connection.close()
        return found

    return attack


def _calls(connection, order: Order, make, left: int, rng: Rng, found) -> None:
    """Sends and counts `left` calls; returns early when the server renews."""
    sent = 0
    while sent < left or connection.under_way:
        if sent == left or len(connection.under_way) >= order.window:
            status = connection.ended().status
            found["reset" if status is None else STATUSES[status]] += 1
        elif connection.closing:
            left = sent
        else:
            connection.call(*make(order.good, rng))
            sent += 1


def resets(order: Order, rng: Rng) -> Counter[str]:
    """Calls that are given up at once; a whole one in twenty waits for the server."""
    found: Counter[str] = Counter()
    body = _request(order.good[0])
    while (left := order.count - found.total()) > 0:
        connection = http2.Connection(order.address)
        try:
            for i in range(left):
                stream = connection.open(INFER)
                if rng.integers(2):
                    connection.data(stream, http2.message(body))
                connection.reset(stream)
                found["left"] += 1
                if i % 20 == 19:
                    connection.call(INFER, body)
                    connection.ended()
                if connection.closing:
                    break
        except (http2.Lost, TimeoutError):
            found["lost"] += 1
        finally:
            connection.close()
    return found


def framing(order: Order, rng: Rng) -> Counter[str]:
    """One damaged HTTP/2 frame on a connection of its own, then a whole call."""
    found: Counter[str] = Counter()
    body = _request(order.good[0])
    for _ in range(order.count):
        connection = http2.Connection(order.address, SILENT_S)
        try:
            stream = connection.open(INFER)
            connection.send(_frame(rng, stream))
            connection.call(INFER, body)
            while connection.ended().stream == stream:
                pass
            found["answered"] += 1
        except http2.Lost:
            found["lost"] += 1
        except TimeoutError:
            found["silent"] += 1
        finally:
            connection.close()
    return found


def _frame(rng: Rng, stream: int) -> bytes:
    """A frame of any kind, flags, stream and payload, or a whole one that was hurt."""
    payload = rng.bytes(int(rng.choice([0, 1, 4, 5, 8, 20, 300])))
    if rng.integers(2):
        number = int(rng.choice([0, stream, stream + 1, stream + 99, (1 << 31) - 1]))
        kind, flags = int(rng.integers(12)), int(rng.integers(256))
        return http2.frame(kind, flags, number, payload)
    whole = http2.frame(http2.HEADERS, 4, stream + 2, http2.call_headers(INFER))
    data = bytearray(whole + http2.frame(http2.DATA, 1, stream + 2, payload))
    for at in rng.integers(0, len(data), rng.integers(1, 4)):
        data[at] = rng.integers(256)
    return bytes(data)


def half_open(piece: bytes) -> Callable:
    """OPEN calls on each connection whose message does not come, or not whole.

    They are held for HOLD_S, a byte more of each every tenth of it where `piece` is the
    beginning of a message; then the connection goes.
    """

    def attack(order: Order, rng: Rng) -> Counter[str]:
        found: Counter[str] = Counter()
        while (left := order.count - found.total()) > 0:
            connection, streams = http2.Connection(order.address), []
            try:
                for _ in range(min(OPEN, left)):
                    path = _pick(rng, METHODS)
                    streams.append(connection.open(path))
                    if piece:
                        connection.data(streams[-1], piece)
                for _ in range(10):
                    time.sleep(HOLD_S / 10)
                    for stream in streams if piece else ():
                        connection.data(stream, b"x")
                found["left"] += len(streams)
            except (http2.Lost, TimeoutError):
                found["lost"] += max(len(streams), 1)
            finally:
                connection.close()
        return found

    return attack


KINDS: dict[str, Callable[[Order, Rng], Counter[str]]] = {
    **{kind: flood(make) for kind, make in CALLS.items()},
    "framing": framing,
    "resets": resets,
    "half-open": half_open(b""),
    "slow": half_open(http2.message(b"x" * 9000)[:9]),
}


def attack(kind: str, order: Order, connections: int, seed: int) -> Counter[str]:
    """`order.count` requests of a kind over so many connections at once."""
    found, lock = Counter(), threading.Lock()
    share = -(-order.count // connections)

    def one(number: int) -> None:
        rng = np.random.default_rng((seed, number))
        got = KINDS[kind](order._replace(count=share), rng)
        with lock:
            found.update(got)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main() -> None:
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        with np.load(given["frames"]) as arrays:
            good = [arrays[name].tobytes() for name in arrays.files]
        order = Order(given["address"], given["count"], given["window"], good)
        found = attack(given["kind"], order, given["connections"], given["seed"])
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
