"""The user-space link: bytes unchanged, as late as rate and round trip say."""

import socket
import threading
import time

import numpy as np
import pytest

from benchmarks.serving.shaper import Shaper
from sc_jax.plan import Link, latency_s


@pytest.fixture
def echo():
    """A server that answers a connection with the one byte that ends its bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []

    def serve():
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            data = b""
            while not data.endswith(b"."):
                data += connection.recv(65536)
            got.append(data)
            connection.sendall(b"!")
            connection.recv(1)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", got
    listener.close()


def asked(address: str, data: bytes) -> float:
    """Seconds from the first byte sent to the answer."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as client:
        begun = time.perf_counter()
        client.sendall(data)
        assert client.recv(1) == b"!"
        return time.perf_counter() - begun


@pytest.mark.parametrize("loss", [0.0, 0.5])
def test_an_answer_takes_what_the_link_says(echo, loss):
    link = Link(400e3, rtt_s=0.05, loss=loss)
    data = np.random.default_rng(0).bytes(9999).replace(b".", b",") + b"."
    with Shaper(echo[0], link) as shaper:
        taken = [asked(shaper.address, data) for _ in range(2)]
    assert echo[1] == [data, data]
    assert shaper.up.sent_bytes == 2 * len(data)
    wanted = latency_s(link, len(data))
    # Never early; a loaded machine wakes late.
    assert wanted - 0.002 < min(taken) < wanted + 0.15


def test_connections_share_the_link_and_a_trace_sets_its_rate(echo):
    link, data = Link(1e6, rtt_s=0.0), bytes(4999) + b"."
    begun = time.perf_counter()
    # Nothing for a tenth of a second, then 50,000 bytes a second.
    with Shaper(echo[0], link, up=lambda t: 400e3 * (t > 0.1)) as shaper:
        threads = [
            threading.Thread(target=asked, args=(shaper.address, data))
            for _ in range(2)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        taken = time.perf_counter() - begun
    assert 0.3 < taken < 0.5


def test_answers_come_at_the_rate_down_as_a_plan_has_it():
    for down, wanted in ((None, 1e6), (4e5, 4e5)):
        link = Link(1e6, rtt_s=0.0, loss=0.5, down_bits_per_s=down)
        with Shaper("127.0.0.1:1", link) as shaper:
            assert shaper.down.rate(0.0) == 0.5 * wanted
            assert shaper.up.rate(0.0) == 0.5e6


def test_a_target_that_is_not_there_ends_the_connection():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Shaper(f"127.0.0.1:{port}", Link(1e6, rtt_s=0.0)) as shaper:
        host, at = shaper.address.split(":")
        with socket.create_connection((host, int(at)), timeout=5) as client:
            assert client.recv(1) == b""
