"""Sending a frame to the next tier: what may be lost, and what that says of a server.

A device and a server that forwards ask alike. Only `connect` and `opened` load grpcio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sc_jax.deploy.wire import reply as replies
from sc_jax.deploy.wire.reply import LOGITS, Reply

if TYPE_CHECKING:
    from sc_jax.deploy.wire.client import Client

Send = Callable[[str, bytes, float], Reply]  # model, frame, seconds left
LATE = "DEADLINE_EXCEEDED"
# gRPC's names for what the same request would meet again: no sign of a lost server.
FAULTS = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "UNAUTHENTICATED",
    }
)


class ServerLost(Exception):
    """The server gave no answer: unreachable, too late, or refused (one line).

    status: gRPC's name for it. sent: whether the frame may have left this machine.
    """

    def __init__(self, line: str, status: str = "UNAVAILABLE", sent: bool = True):
        super().__init__(line)
        self.status, self.sent = status, sent


def is_loss(error: BaseException) -> bool:
    """Whether no later frame need be sent, not this one alone."""
    return not (isinstance(error, ServerLost) and error.status in FAULTS)


def is_late(error: BaseException) -> bool:
    return isinstance(error, ServerLost) and error.status == LATE


def asked(
    send: Send, model: str, data: bytes, left_s: float, labels: Sequence[str]
) -> Reply:
    """The server's answer to a frame, of the model's classes; ServerLost."""
    reply = send(model, data, left_s)
    try:
        replies.check(reply.outputs, len(labels))
    except replies.ReplyError as error:
        raise ServerLost(str(error), "DATA_LOSS") from None
    return reply


def connect(
    address: str, token: str | None = None, roots: bytes = b"", reply: str = LOGITS
) -> Send:
    """What sends to the servers at host:port,...; needs grpcio.

    token: the servers' bearer token. roots: PEM that their certificate is checked
    against; empty: no TLS. reply: what is asked for, one of `reply.REPLIES`. The
    connection stays open: `opened` closes it.
    """
    from sc_jax.deploy.wire.client import Client

    return through(Client(address, token, roots or None), reply=reply)


@contextmanager
def opened(
    address: str | None, token: str | None, roots: bytes, reply: str
) -> Iterator[Send | None]:
    """`connect`, until it is left; of no address None, for who works offline."""
    if not address:
        yield None
        return
    from sc_jax.deploy.wire.client import Client

    with Client(address, token, roots or None) as client:
        yield through(client, reply=reply)


def through(client: Client, via: str = "", reply: str = LOGITS) -> Send:
    """What sends by a client. via: ids of the servers that its frames came through.

    Who answers with the class alone, where all was asked for, is lost.
    """
    from sc_jax.deploy.wire.client import EdgeError

    def send(model: str, data: bytes, left_s: float) -> Reply:
        try:
            found = client.infer(
                model, data, left_s, timeout_s=left_s, via=via, reply=reply
            )
        except EdgeError as error:
            raise ServerLost(str(error), error.code, error.sent) from None
        if reply == LOGITS and replies.is_brief(found.outputs):
            raise ServerLost("the class alone, where all was asked for", "DATA_LOSS")
        return found

    return send
