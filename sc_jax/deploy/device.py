"""What a device runs: segments in LiteRT, the coder, the wire. No jax."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sc_jax.codec import codecs
from sc_jax.deploy import frame
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.runtime import Runner
from sc_jax.errors import UsageError

NOWHERE = "none"  # the exit of an answer that nothing could give


@dataclass(frozen=True)
class Answer:
    """prediction: class, or None where no exit answered before the server was lost.

    exit: "edge", or the local exit that answered. sent_bytes: the frame's. seconds:
    by step (head, code, edge). note: why the edge did not answer, one line.
    """

    prediction: int | None
    exit: str
    sent_bytes: int
    seconds: dict[str, float] = field(default_factory=dict)
    note: str = ""


class ServerLost(Exception):
    """The server gave no answer: unreachable, too late, or refused (one line)."""


class Device:
    """Answers images with a bundle's head and the edge server behind `send`.

    send: (model, frame, seconds left) -> class, or raises ServerLost; None: offline.
    deadline_s: of one answer, head and coding included.
    """

    def __init__(
        self,
        bundle: Bundle,
        send: Callable[[str, bytes, float], int] | None = None,
        *,
        deadline_s: float = 1.0,
        threads: int = 1,
    ):
        self.bundle, self.send, self.deadline_s = bundle, send, deadline_s
        if isinstance(bundle.codec, codecs.ImageCodec):
            raise UsageError("an image codec needs no device runtime: send the file")
        self._codec = bundle.codec
        (head,) = bundle.segments.values()
        self._head = Runner(head, threads)
        self._shape = tuple(bundle.manifest["facts"]["input"])
        self._codec_id = codecs.IDS[codecs.kind(bundle.codec)]

    def encode(self, image: np.ndarray) -> tuple[bytes, dict[str, float]]:
        """uint8 [H, W, C] -> (frame, seconds of head and code)."""
        image = np.asarray(image)
        if image.shape != self._shape or image.dtype != np.uint8:
            raise UsageError(
                f"image is {image.dtype}{image.shape}, the bundle takes "
                f"uint8{self._shape}"
            )
        begun = time.perf_counter()
        outputs = self._head(image[None])
        ran = time.perf_counter()
        payload = self._codec.pack(**{k: v[0] for k, v in outputs.items()})
        manifest = self.bundle.manifest
        shape = self.bundle.codec.shape
        data = frame.pack(self._codec_id, manifest["split"], shape, payload)
        return data, {"head": ran - begun, "code": time.perf_counter() - ran}

    def infer(self, image: np.ndarray) -> Answer:
        """The class of one image; never an exception from the network."""
        data, seconds = self.encode(image)
        if self.send is None:
            return Answer(None, NOWHERE, 0, seconds, "no server was given")
        left, begun = self.deadline_s - sum(seconds.values()), time.perf_counter()
        if left <= 0:
            return Answer(None, NOWHERE, 0, seconds, "the deadline passed in the head")
        try:
            prediction = self.send(self.bundle.manifest["model"], data, left)
        except ServerLost as error:
            seconds["edge"] = time.perf_counter() - begun
            return Answer(None, NOWHERE, len(data), seconds, str(error))
        seconds["edge"] = time.perf_counter() - begun
        return Answer(prediction, "edge", len(data), seconds)


def connect(
    address: str, token: str | None = None, roots: bytes = b""
) -> Callable[[str, bytes, float], int]:
    """`send` of a Device for the edge server at host:port; needs grpcio.

    token: the server's bearer token. roots: PEM that its certificate is checked
    against; empty: no TLS.
    """
    from sc_jax.deploy.protocol import Client, EdgeError

    client = Client(address, token, roots or None)

    def send(model: str, data: bytes, left: float) -> int:
        try:
            return client.infer(model, data, left, timeout_s=left).prediction
        except EdgeError as error:
            raise ServerLost(str(error)) from None

    return send
