"""What the tests of the edge server share; needs the extra serve."""

import threading
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sc_jax.codec.codecs import RawCodec
from sc_jax.deploy.wire import frame
from sc_jax.deploy.wire.client import EdgeError
from sc_jax.deploy.wire.protocol import SERVICE

SIZES = (1, 2, 4, 8)
SERVING, NOT_SERVING = 1, 2  # of the health service
FULL = "RESOURCE_EXHAUSTED"
RAW = frame.pack(1, 0, (2,), np.ones(2, np.float32).tobytes())


def still(opened=False):
    """A tail of raw pairs that answers twice the pair once `opened` is set."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def reply(z):
        begun.release()
        assert gate.wait(60)
        with np.errstate(over="ignore", invalid="ignore"):
            return {"prediction": z.argmax(-1), "logits": 2 * z}

    def outputs():
        return {name: each[:0] for name, each in reply(np.ones((1, 2), "f4")).items()}

    if opened:
        gate.set()
    return SimpleNamespace(
        codec=RawCodec((2,)), reply=reply, compile=lambda sizes: None, gate=gate,
        begun=begun, task="classification", labels=("a", "b"), outputs=outputs,
    )  # fmt: skip


def state(address):
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status


def held_by(server):
    return server.metrics.registry.get_sample_value("sc_jax_edge_held_requests")


def wait_until(true):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def rejects(server, reason):
    value = server.metrics.registry.get_sample_value(
        "sc_jax_edge_rejects_total", {"reason": reason}
    )
    return value or 0.0


def refusal(client, model, data, **options):
    with pytest.raises(EdgeError) as caught:
        client.infer(model, data, **options)
    assert "\n" not in caught.value.line
    return caught.value
