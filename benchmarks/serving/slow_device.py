"""A device some times slower than this machine: it sleeps for the rest of its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sc_jax.codec.codecs import Codec
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.device import Device
from sc_jax.deploy.wire import frame
from sc_jax.deploy.wire.client import Client
from sc_jax.deploy.wire.reply import PREDICTION

# image -> (frame or None, class or None): one of the two.
Compute = Callable[[np.ndarray], tuple[bytes | None, int | None]]
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Once:
    """One input: seconds from the image to the answer, of them the device's; bytes."""

    latency_s: float
    device_s: float
    sent_bytes: int
    prediction: int


def installed(bundle: Bundle, level: int | None = None) -> Compute:
    """The whole network, or a head and its coder at one of its rates; one thread.

    Who leaves at an exit by the bundle's policy sends nothing.
    """
    device = Device(bundle, deadline_s=PATIENCE_S, level=level)

    def compute(image: np.ndarray) -> tuple[bytes | None, int | None]:
        answer, data = device.begin(image)
        return data, answer.prediction if data is None else None

    return compute


def file(codec: Codec) -> Compute:
    """An image file, through Pillow."""

    def compute(image: np.ndarray) -> tuple[bytes, None]:
        return frame.pack(codec.id, 0, codec.shape, codec.encode(image)), None

    return compute


def once(
    compute: Compute, image: np.ndarray, factor: float, client: Client, model: str
) -> Once:
    """One input on a device that takes `factor` times this machine's seconds."""
    begun = time.perf_counter()
    data, prediction = compute(image)
    time.sleep((factor - 1) * (time.perf_counter() - begun))
    device_s = time.perf_counter() - begun
    if data is not None:
        reply = client.infer(model, data, timeout_s=PATIENCE_S, reply=PREDICTION)
        prediction = int(reply.outputs["prediction"])
    assert prediction is not None  # classification, by a network or the edge
    end = time.perf_counter()
    return Once(end - begun, device_s, len(data or b""), prediction)
