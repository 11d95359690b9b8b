"""HTTP/2 by hand, for bad clients: what this sends no library of gRPC would.

Headers are literals (RFC 7541, 6.2.2) without Huffman codes, and the server is asked
for the same by a table of size 0, so that grpc-status can be read out of its trailers.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
CANCEL = struct.pack(">I", 8)
WINDOW = 65_535  # of a connection and of a stream, until the other side says more
LONGEST = 16_384  # of a frame
TABLE_SIZE, INITIAL_WINDOW = 1, 4  # of SETTINGS


class Lost(ConnectionError):
    """The server has closed the connection, or said that it will."""


class Event(NamedTuple):
    """One frame of the server; status: of gRPC, where its trailers hold one."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def status(self) -> int | None:
        name = b"grpc-status"
        at = self.payload.find(name) if self.kind == HEADERS else -1
        if at < 0:
            return None
        at += len(name)
        return int(self.payload[at + 1 : at + 1 + (self.payload[at] & 0x7F)])

    @property
    def ends(self) -> bool:
        """Whether it is the last of its stream."""
        return self.kind == RST_STREAM or bool(
            self.kind in (DATA, HEADERS) and self.flags & END_STREAM
        )


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes((kind, flags))
    return head + struct.pack(">I", stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """One header: a literal that enters no table."""
    return b"\0" + _text(name) + _text(value)


def _text(data: bytes) -> bytes:
    """Length in 7 bits and more bytes if it needs them (RFC 7541, 5.1), then `data`."""
    length = len(data)
    if length < 127:
        return bytes((length,)) + data
    head, length = bytearray((127,)), length - 127
    while length >= 128:
        head.append(length % 128 | 128)
        length //= 128
    head.append(length)
    return bytes(head) + data


def call_headers(path: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The header block of a gRPC call."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *extra,
    ]
    return b"".join(field(*each) for each in fields)


def message(data: bytes, compressed: bool = False) -> bytes:
    """A gRPC message: a byte, its length, itself."""
    return bytes((compressed,)) + struct.pack(">I", len(data)) + data


class Connection:
    """One connection that keeps to flow control and answers pings; not thread-safe.

    Lost: where the server is gone. TimeoutError: where it says nothing for timeout_s.
    """

    def __init__(
        self, address: str, timeout_s: float = 10.0, stream_window: int = 1 << 24
    ):
        host, _, port = address.rpartition(":")
        where = host.strip("[]"), int(port)
        self.socket = socket.create_connection(where, timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._next, self._window = b"", 1, WINDOW
        self._kept: deque[Event] = deque()  # read while something else was waited for
        self.under_way: set[int] = set()  # streams that have not ended
        self.closing = False  # GOAWAY came: no new streams
        mine = struct.pack(">HIHI", TABLE_SIZE, 0, INITIAL_WINDOW, stream_window)
        much = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
        self.send(PREFACE + frame(SETTINGS, 0, 0, mine) + much)

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Lost(str(error)) from None

    def open(self, path: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> int:
        """Begins a call, its message still to come; the stream's number."""
        stream = self._new()
        block = call_headers(path, extra)
        self.send(frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def call(self, path: str, data: bytes, extra=(), compressed: bool = False) -> int:
        """A whole call with one message; the stream's number.

        Headers and message leave in one piece where flow control allows it.
        """
        stream = self._new()
        out = frame(HEADERS, END_HEADERS, stream, call_headers(path, extra))
        body = message(data, compressed)
        if len(body) > WINDOW:
            raise ValueError(f"{len(body)} bytes do not fit a stream's first window")
        self._need(len(body))
        pieces = range(0, len(body), LONGEST)
        for at in pieces:
            last = END_STREAM if at == pieces[-1] else 0
            out += frame(DATA, last, stream, body[at : at + LONGEST])
        self.send(out)
        return stream

    def _new(self) -> int:
        stream, self._next = self._next, self._next + 2
        self.under_way.add(stream)
        return stream

    def data(self, stream: int, data: bytes, flags: int = 0) -> None:
        """Some bytes of a stream, whatever they are."""
        self._need(len(data))
        self.send(frame(DATA, flags, stream, data))

    def reset(self, stream: int) -> None:
        self.send(frame(RST_STREAM, 0, stream, CANCEL))
        self.under_way.discard(stream)

    def ended(self) -> Event:
        """The last frame, or trailers, of the next stream under way that ends."""
        while True:
            event = self.read()
            # After its trailers a server may still reset the stream.
            if event.ends and event.stream in self.under_way:
                self.under_way.discard(event.stream)
                return event

    def _need(self, count: int) -> None:
        """Takes so much of what the connection may send, when it may."""
        while count > self._window:
            self._kept.append(self._frame())
        self._window -= count

    def read(self) -> Event:
        """The next frame; what the protocol wants answered is."""
        return self._kept.popleft() if self._kept else self._frame()

    def _frame(self) -> Event:
        head = self._bytes(9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        event = Event(kind, flags, stream, self._bytes(size))
        if kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, event.payload))
        elif kind == WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(event.payload, "big")
        elif kind == GOAWAY:
            self.closing = True
        return event

    def _bytes(self, count: int) -> bytes:
        while len(self._in) < count:
            try:
                more = self.socket.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError as error:
                raise Lost(str(error)) from None
            if not more:
                raise Lost("the server closed the connection")
            self._in += more
        data, self._in = self._in[:count], self._in[count:]
        return data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_) -> None:
        self.close()
