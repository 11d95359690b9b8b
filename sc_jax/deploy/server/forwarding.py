"""An edge server before another one: its exits answer who is sure, the rest goes on.

Device, edge and cloud in turn (Teerapittayanon, McDanel & Kung 2017,
https://arxiv.org/abs/1709.01921). A next server that is lost or late costs no answer
where the edge has an exit.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sc_jax.deploy.device.leaving import Steps
from sc_jax.deploy.device.runtime import FEATURE
from sc_jax.deploy.server.batching import Answer
from sc_jax.deploy.server.metrics import Metrics
from sc_jax.deploy.server.middle import ExitReply
from sc_jax.deploy.server.portable import Tail
from sc_jax.deploy.server.refusals import Refused
from sc_jax.deploy.wire import frame, hosts, sending
from sc_jax.deploy.wire.breaker import Breaker, Open
from sc_jax.deploy.wire.client import Client
from sc_jax.deploy.wire.reply import CLOUD, EDGE, Hop, Reply
from sc_jax.deploy.wire.sending import Send, ServerLost, is_late, is_loss
from sc_jax.errors import UsageError

LOGGER = logging.getLogger(__name__)
LONGEST_S = 10.0  # of asking the next server, for a request without a deadline
KEPT = 0.2  # of what is left of a deadline, for the edge's own answer to travel back
LATE_S = 0.5  # an answer that was given less time says nothing of a server
MOST_HOPS = 16  # ids of servers that a frame may bring along
LONGEST_ID = 64  # characters of one: what a client sends goes on with its frame
LOCAL = ("localhost", "127.0.0.1", "::1")
ANY = ("0.0.0.0", "::", "")


def remaining_s(deadline_s: float, context: Any) -> float:
    """The least that is left of a request's own deadline, of gRPC's, and LONGEST_S.

    deadline_s: on time.monotonic. Below 0 where it has passed.
    """
    said_s, call_s = deadline_s - time.monotonic(), context.time_remaining()
    return min(said_s, LONGEST_S, LONGEST_S if call_s is None else call_s)


class Forwarding:
    """The next server, asked through a breaker, and who need not go there.

    address: host:port,... of it. own_id: of this server: a frame that comes with it has
    gone in a circle. One for all threads.
    """

    def __init__(
        self,
        address: str,
        token: str | None,
        roots: bytes,
        metrics: Metrics,
        breaker: Breaker | None = None,
    ):
        self.own_id, self._metrics = secrets.token_hex(8), metrics
        self.breaker = breaker or Breaker()
        metrics.next_left_alone.set_function(lambda: float(self.breaker.is_open))
        self._client = Client(address, token, roots or None, LONGEST_S)
        self._steps: dict[tuple[str, int], Steps | None] = {}
        self._noted: set[str] = set()  # statuses that the log has a line of

    def prepare(self, model: str, tails: Sequence[Tail]) -> None:
        """Makes the steps of the model's policy; UsageError where it cannot decide."""
        for split, tail in enumerate(tails):
            if tail.middle is not None:
                self._steps[model, split] = tail.middle.steps(tail.task)

    def via(self, came: Sequence[str]) -> str:
        """What a frame says that goes on; Refused where it has been here."""
        if self.own_id in came:
            raise Refused("loop", "--forward leads back to the server it is set for")
        if len(came) >= MOST_HOPS:
            raise Refused("loop", f"forwarded {len(came)} times")
        if max(map(len, came), default=0) > LONGEST_ID:
            raise Refused("message", f"an id in via is over {LONGEST_ID} characters")
        return ",".join((*came, self.own_id))

    def onward(
        self,
        model: str,
        tails: Sequence[Tail],
        split: int,
        row: Answer,
        left_s: float,
        via: str,
        wanted: str,
    ) -> tuple[Answer, Hop]:
        """The answer to an example whose middle gave `row`: an exit's or the cloud's.

        wanted: of the next server, one of REPLIES; scores read the exits here alone.
        Refused where the next server gives none and no exit stands here.
        """
        tail, best = tails[split], None
        middle, steps = tail.middle, self._steps[model, split]
        assert middle is not None
        memory = None if steps is None else steps.init()
        for best in middle.replies(row.outputs):
            if steps is None:
                continue
            leave, memory = steps.step(best.name, best.scored, best.confidence, memory)
            if leave:
                return self._by_exit(model, row, best, Hop(EDGE, best.name))
        data = _encoded(tails[middle.to], middle.to, row.outputs[FEATURE])
        left_s *= 1.0 if best is None else 1 - KEPT
        begun = time.perf_counter()
        try:
            send = sending.through(self._client, via, wanted)
            reply = self._asked(send, model, data, left_s, tail.labels)
        except (Open, ServerLost) as error:
            sent = len(data) * getattr(error, "sent", False)
            note = self._lose(model, error, sent)
            if best is None:
                raise Refused("cloud", note) from None
            took_s = time.perf_counter() - begun
            hop = Hop(EDGE, best.name, sent, took_s, note)
            return self._by_exit(model, row, best, hop)
        self._count(model, len(data))
        hop = Hop(CLOUD, "", len(data), time.perf_counter() - begun)
        return row._replace(outputs=dict(reply.outputs)), hop

    def _asked(
        self, send: Send, model: str, data: bytes, left_s: float, labels: Sequence[str]
    ) -> Reply:
        """The next server's answer; ServerLost, or Open where it is left alone."""
        if left_s <= 0:
            raise ServerLost("the deadline passed here", sending.LATE, sent=False)
        ask = partial(sending.asked, send, model, data, left_s, labels)
        return self.breaker.call(ask, partial(_lost, left_s))

    def _by_exit(
        self, model: str, row: Answer, best: ExitReply, hop: Hop
    ) -> tuple[Answer, Hop]:
        self._metrics.exits.labels(model, best.name).inc()
        return row._replace(outputs=best.outputs), hop

    def _count(self, model: str, sent_bytes: int) -> None:
        if sent_bytes:
            self._metrics.forwarded.labels(model).inc()
            self._metrics.forwarded_bytes.labels(model).inc(sent_bytes)

    def _lose(self, model: str, error: Exception, sent_bytes: int) -> str:
        """Counts what the next server did not answer; one line that says so."""
        self._count(model, sent_bytes)
        status = getattr(error, "status", "OPEN")
        self._metrics.next_lost.labels(status).inc()
        if status not in self._noted:  # once: a lost link gives a thousand of a kind
            self._noted.add(status)
            LOGGER.warning("the next server: %s", error)
        return f"the next server: {error}"

    def close(self) -> None:
        self._client.close()


def _encoded(next_tail: Tail, split: int, z: np.ndarray) -> bytes:
    """The frame of what the next split sends; Refused for what is not finite."""
    if not np.isfinite(z).all():
        raise Refused("number", "what the next split sends is not a finite number")
    codec = next_tail.codec
    return frame.pack(codec.id, split, codec.shape, codec.encode(z))


def _lost(left_s: float, error: BaseException) -> bool | None:
    # A client in a hurry, or with a frame that the next server fails on, must not keep
    # the others from it.
    hurried = is_late(error) and left_s < LATE_S
    failed = isinstance(error, ServerLost) and error.status == "INTERNAL"
    return None if hurried or failed else is_loss(error)


def check(address: str, host: str, port: int, models: Mapping[str, Any]) -> None:
    """UsageError where nothing can be forwarded, or only to the server itself."""
    if not any(tail.middle for tails in models.values() for tail in tails):
        raise UsageError(
            f"--forward={address}: no model has a second split, to forward from"
        )
    for text in address.split(","):
        there, there_port = hosts.split(text.strip())
        here = host == there or (there in (*LOCAL, *ANY) and host in (*LOCAL, *ANY))
        if here and there_port == port:
            raise UsageError(f"--forward={address} is the server itself")


def runs(tail: Tail, forwards: bool) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What batches of a tail run through: to the next split, or to the end."""
    return tail.up_to_next if forwards and tail.middle is not None else tail.reply
