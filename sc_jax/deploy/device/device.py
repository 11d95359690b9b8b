"""What a device runs: segments in LiteRT, the coder, the wire. No jax."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from sc_jax.codec import codecs
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.leaving import Leaving
from sc_jax.deploy.device.runtime import (
    FINAL,
    Runner,
    confidence_of,
    in_turn,
    latent_of,
)
from sc_jax.deploy.wire import frame, sending
from sc_jax.deploy.wire.breaker import Breaker, Open
from sc_jax.deploy.wire.reply import EDGE, PROBABILITY, Reply
from sc_jax.deploy.wire.sending import LATE, Send, ServerLost, connect, is_late, is_loss
from sc_jax.errors import UsageError
from sc_jax.tasks import TASKS, classification, multilabel, probabilities

__all__ = ["NOWHERE", "Answer", "Device", "ServerLost", "connect"]

NOWHERE = "none"  # the exit of an answer that nothing could give
DEVICE = "device"  # the tier of an exit here; a server's are those of its reply


@dataclass(frozen=True)
class Answer:
    """prediction: class, or None where the task predicts none or no exit answered.

    exit: the exit that answered, here or on a server that forwards; "edge" or "cloud"
    where that server's last answer is it; or NOWHERE. tier: "device", "edge", "cloud"
    or NOWHERE. sent_bytes: the frame's, 0 where it never left; forwarded_bytes: of the
    second frame, from edge to cloud. seconds: by step (head, code, edge; cloud is a
    part of edge). note: why the edge, or the cloud, did not answer, one line; status: a
    gRPC name for it, empty where the edge was not asked or answered. outputs: the
    task's reply, arrays by name; a class's are `prediction` and `logits`, of a server
    that was asked for the class alone `prediction` and `probability`. choice: of a
    plan's alternatives, the one that was followed. reply_bytes: of the server's
    message, 0 where none came.
    """

    prediction: int | None
    exit: str
    sent_bytes: int
    seconds: dict[str, float] = field(default_factory=dict)
    note: str = ""
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    status: str = ""
    tier: str = NOWHERE
    forwarded_bytes: int = 0
    choice: str = ""
    reply_bytes: int = 0

    @property
    def refused(self) -> bool:
        """Whether a server was asked and will not answer: it was not just late."""
        return self.status not in ("", LATE) and not self.answered

    @property
    def answered(self) -> bool:
        return self.exit != NOWHERE

    @property
    def probabilities(self) -> np.ndarray:
        """f64[K], of classes that sum to 1 or of each label; [0] of other answers.

        Of a server that was asked for the class alone [0] too: see `probability`.
        """
        return probabilities(self.outputs)

    @property
    def probability(self) -> float | None:
        """Of the predicted class, in 0..1; None where none was predicted."""
        if self.prediction is None:
            return None
        if (known := self.outputs.get(PROBABILITY)) is not None:
            return float(known)
        return float(self.probabilities.max())


class Device:
    """Answers images with a bundle's head and the edge server behind `send`.

    send: (model, frame, seconds left) -> Reply, or raises ServerLost; None: offline.
    deadline_s: of one answer, head and coding included. breaker: when a lost server is
    not asked. level: see `encode_at`; None: the bundle's own. One thread at a time:
    LiteRT's interpreter has one set of tensors.
    """

    def __init__(
        self,
        bundle: Bundle,
        send: Send | None = None,
        *,
        deadline_s: float = 1.0,
        threads: int = 1,
        breaker: Breaker | None = None,
        level: int | None = None,
    ):
        self.bundle, self.send, self.deadline_s = bundle, send, deadline_s
        self.breaker = breaker or Breaker()
        # Its encoder is a camera's or Pillow's: no head computes it.
        if bundle.codec is not None and not bundle.codec.exports:
            raise UsageError("an image codec needs no device runtime: send the file")
        self._codec = bundle.codec
        if level is not None:
            self.encode_at(level)
        self._segments = [Runner(model, threads) for model in bundle.segments.values()]
        self._shape = tuple(bundle.manifest["facts"]["input"])
        self._check_classes()
        self._leaving = Leaving(bundle, self._segments)
        # A task of one's own is code that a device does not have: it sees logits.
        task = TASKS.get(bundle.manifest["task"])
        self._reply = (
            (lambda logits: {"logits": logits}) if task is None else task.reply
        )

    def encode_at(self, level: int) -> None:
        """Sends what comes next at one of the bundle's rates, 0 the fewest bytes.

        The server needs no notice: each payload names its level. UsageError for a
        level that the bundle has not.
        """
        self._codec = codecs.at_level(self._codec, level)

    def infer(self, image: np.ndarray) -> Answer:
        """The task's answer to one image; never an exception from the network.

        The first local exit at which the bundle's policy leaves answers; where the
        server cannot, the last exit that the deadline left time for does.
        """
        best, data = self.begin(image)
        return best if data is None else self.deliver(data, best)

    def begin(self, image: np.ndarray) -> tuple[Answer, bytes | None]:
        """(the answer that needs no server, None), or (the best so far, the frame)."""
        self._check(image)
        seconds: dict[str, float] = {}
        best, memory = Answer(None, NOWHERE, 0), self._leaving.init()
        outputs: dict[str, np.ndarray] = {}
        passed, begun = image[None], time.perf_counter()
        for segment in self._segments:
            passed = outputs = segment(passed)
            seconds["head"] = time.perf_counter() - begun
            for name in segment.exits:
                logits = outputs.pop(name)
                confidence = outputs.pop(confidence_of(name), None)
                best = self._local(name, logits, seconds)
                leave, memory = self._leaving.step(name, logits, confidence, memory)
                if leave:
                    return best, None
            # After each segment, not once: an exit in time beats the edge too late.
            if seconds["head"] >= self.deadline_s:
                note = "the deadline passed in the head"
                return replace(best, seconds=seconds, note=note), None
        if self._codec is None:
            return self._local(FINAL, outputs[FINAL], seconds), None
        data, seconds["code"] = self._code(outputs)
        return replace(best, seconds=seconds), data

    def trial(self, image: np.ndarray) -> Answer:
        """An answer to see whether a server answers at all."""
        return self.infer(image)

    def deliver(self, data: bytes, best: Answer) -> Answer:
        """The server's answer to a frame, or the best local one with a note.

        It runs no segment: another thread may call it.
        """
        if self.send is None:
            return replace(best, note="no server is set")
        seconds = best.seconds
        # What is left of the image's own time, so that a slow head cuts the call.
        left, begun = self.deadline_s - sum(seconds.values()), time.perf_counter()
        if left <= 0:
            return replace(best, note="the deadline passed in the coder")

        model, labels = self.bundle.manifest["model"], self.bundle.labels
        ask = partial(sending.asked, self.send, model, data, left, labels)

        def lost(error: BaseException) -> bool | None:
            # Where head and coder took most of the time, it says nothing of the server.
            short = 2 * left < self.deadline_s
            return None if short and is_late(error) else is_loss(error)

        try:
            reply = self.breaker.call(ask, lost)
        except Open as error:
            return replace(best, note=str(error))
        except ServerLost as error:
            seconds["edge"] = time.perf_counter() - begun
            sent = len(data) if error.sent else 0
            return replace(best, note=str(error), status=error.status, sent_bytes=sent)
        seconds["edge"] = time.perf_counter() - begun
        return _of_server(reply, len(data), seconds)

    def _local(self, exit: str, logits: np.ndarray, seconds: dict) -> Answer:
        """The answer of a local exit with logits f32[1, K]."""
        outputs = {name: value[0] for name, value in self._reply(logits).items()}
        return _answer(outputs, exit, 0, seconds)

    def encode(self, image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        """uint8 [H, W, C] -> (frame, seconds of head and code), no exit taken."""
        self._check(image)
        if self._codec is None:
            raise UsageError("the bundle holds the whole net: it sends nothing")
        begun = time.perf_counter()
        outputs = in_turn(self._segments, image[None])
        head_s = time.perf_counter() - begun
        data, code_s = self._code(latent_of(outputs))
        return data, {"head": head_s, "code": code_s}

    def _check(self, image: np.ndarray) -> None:
        if np.shape(image) != self._shape or image.dtype != np.uint8:
            got = getattr(image, "dtype", type(image).__name__)
            raise UsageError(
                f"image is {got}{np.shape(image)}, the bundle takes uint8{self._shape}"
            )

    def _check_classes(self) -> None:
        """UsageError for an exit of other classes than the labels that name them."""
        task, known = self.bundle.manifest["task"], len(self.bundle.labels)
        if not known or task not in (classification.name, multilabel.name):
            return
        for segment in self._segments:
            for name in segment.outputs:
                if name != FINAL and name not in segment.exits:
                    continue
                if (found := segment.classes(name)) != known:
                    raise UsageError(
                        f"{name} answers {found} classes, the bundle names {known}"
                    )

    def _code(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, float]:
        """(frame of one latent's symbols, seconds)."""
        assert self._codec is not None  # a whole net has answered before
        begun = time.perf_counter()
        payload = self._codec.pack(**{k: v[0] for k, v in outputs.items()})
        split, shape = self.bundle.manifest["split"], self._codec.shape
        data = frame.pack(self._codec.id, split, shape, payload)
        return data, time.perf_counter() - begun


def _answer(outputs: dict, exit: str, sent_bytes: int, seconds: dict) -> Answer:
    prediction = int(outputs["prediction"]) if "prediction" in outputs else None
    return Answer(prediction, exit, sent_bytes, seconds, outputs=outputs, tier=DEVICE)


def _of_server(reply: Reply, sent_bytes: int, seconds: dict[str, float]) -> Answer:
    """A server's answer, or the next server's where it forwards."""
    answer = _answer(dict(reply.outputs), EDGE, sent_bytes, seconds)
    answer = replace(answer, reply_bytes=reply.message_bytes)
    if (hop := reply.hop) is None:
        return replace(answer, tier=EDGE)
    if hop.sent_bytes:
        seconds["cloud"] = hop.seconds
    return replace(
        answer,
        exit=hop.exit or hop.tier,
        tier=hop.tier,
        note=hop.note,
        forwarded_bytes=hop.sent_bytes,
    )
