"""Several servers of one tail file: one is killed, one is drained, nothing is lost."""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("grpc_reflection")
pytest.importorskip("prometheus_client")

from edge_tools import RAW, refusal, rejects, still, wait_until  # noqa: E402

from benchmarks.untrained import frames, untrained  # noqa: E402
from sc_jax.deploy.server import edge, models, tails  # noqa: E402
from sc_jax.deploy.wire import frame  # noqa: E402
from sc_jax.deploy.wire.client import Client, EdgeError, target  # noqa: E402
from sc_jax.errors import UsageError  # noqa: E402
from sc_jax.runs import run_folder  # noqa: E402

DEADLINE_S = 10.0
CLIENTS = 8


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """(tail file, frames, the classes that the run's own tail gives them)."""
    workdir = untrained(tmp_path_factory.mktemp("failover") / "first")
    file = workdir.parent / "first.tail"
    tails.pack(workdir, file)
    recipe = run_folder.recipe_of(workdir)
    images = run_folder.dataset_of(recipe, "test").images[:40]
    sent = frames(recipe.net, *run_folder.restore(recipe, workdir), images)
    (own,) = models.load(workdir)["first"]
    z = np.stack([own.codec.decode(frame.unpack(data).payload) for data in sent])
    return file, sent, own.reply(z)["prediction"]


def begin(file, stack):
    """A launch.serve of the file; its first line is still to be read."""
    command = [sys.executable, "-m", "launch.serve", f"--workdir={file}", "--port=0"]
    process = subprocess.Popen(
        [*command, "--max_batch=4"], stdout=subprocess.PIPE, text=True
    )
    stack.callback(process.wait)
    stack.callback(process.stdout.close)
    stack.callback(process.kill)
    return process


def test_no_request_is_lost_when_one_server_is_killed_and_one_drained(packed):
    file, sent, wanted = packed
    answers, wrong, stop = [], [], threading.Event()

    def ask(client, number):
        i = number
        while not stop.is_set():
            begun = time.monotonic()
            try:
                reply = client.infer("first", sent[i % len(sent)])
                if reply.prediction != wanted[i % len(sent)]:
                    wrong.append(i)
            except EdgeError as error:
                wrong.append(error)
            answers.append((begun, time.monotonic() - begun))
            i += CLIENTS

    def load_for(seconds):
        time.sleep(seconds)
        return time.monotonic()

    with ExitStack() as stack:
        servers = [begin(file, stack) for _ in range(3)]
        lines = [server.stdout.readline() for server in servers]
        addresses = [line.split(" at ")[1].split(",")[0] for line in lines]
        client = stack.enter_context(Client(",".join(addresses), timeout_s=DEADLINE_S))
        threads = [
            threading.Thread(target=ask, args=(client, n)) for n in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            load_for(0.7)
            servers[0].kill()
            killed = load_for(0.7)
            servers[1].send_signal(signal.SIGTERM)
            assert servers[1].wait(10) == 0
            load_for(0.7)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong, wrong[:5]
        assert max(took for _, took in answers) < DEADLINE_S
        assert sum(begun > killed for begun, _ in answers) > 2 * CLIENTS
        assert servers[2].poll() is None


def test_unavailable_is_asked_again_and_other_refusals_are_not(start):
    server = start({"still": (still(opened=True),)})
    with Client(server.address) as client:
        assert refusal(client, "nobody", RAW).code == "NOT_FOUND"
        assert rejects(server, "model") == 1
    compiling, opened = threading.Event(), threading.Event()
    slow = still(opened=True)

    def compile(sizes):
        compiling.set()
        assert opened.wait(10)

    slow.compile = compile
    probe = edge.serve({}, edge.Settings(sizes=(1,)))
    probe.drain(0)
    port = int(probe.address.rpartition(":")[2])
    made = []
    thread = threading.Thread(
        target=lambda: made.append(start({"still": (slow,)}, port=port))
    )
    thread.start()
    assert compiling.wait(5)
    with Client(f"{probe.address},{server.address}") as client:
        for _ in range(20):  # the one that still compiles never answers
            assert client.infer("still", RAW).prediction == 0
    opened.set()
    thread.join()
    assert rejects(made[0], "starting") == 0  # its health kept all calls away


def test_a_missing_server_is_said_soon_and_a_late_one_is_found(start):
    probe = edge.serve({}, edge.Settings(sizes=(1,)))
    probe.drain(0)
    port = int(probe.address.rpartition(":")[2])
    with Client(probe.address, timeout_s=DEADLINE_S) as client:
        begun = time.monotonic()
        assert refusal(client, "still", RAW).code == "UNAVAILABLE"
        assert time.monotonic() - begun < 5
        start({"still": (still(opened=True),)}, port=port)
        end = time.monotonic() + 8
        while True:
            try:
                assert client.infer("still", RAW).prediction == 0
                break
            except EdgeError as error:
                assert error.code == "UNAVAILABLE" and time.monotonic() < end


def test_a_client_that_waits_asks_a_server_that_comes_later(start):
    probe = edge.serve({}, edge.Settings(sizes=(1,)))
    probe.drain(0)
    port = int(probe.address.rpartition(":")[2])
    late = threading.Timer(
        0.5, lambda: start({"still": (still(opened=True),)}, port=port)
    )
    late.start()
    with Client(probe.address, timeout_s=DEADLINE_S, wait=True) as client:
        assert client.infer("still", RAW).prediction == 0
    late.join()


def test_the_targets_of_addresses(monkeypatch):
    assert target("edge:50051")[0] == "edge:50051"
    assert target("[::1]:50051")[0] == "[::1]:50051"
    where, options, missing = target("localhost:1, 127.0.0.1:2")
    assert where.startswith("ipv") and where.endswith(("127.0.0.1:2", "127.0.0.1]:2"))
    assert ("grpc.default_authority", "localhost") in options and not missing
    where, options, _ = target("[::1]:1,127.0.0.1:2")
    assert where == "ipv6:[::1]:1,[::ffff:127.0.0.1]:2"
    assert ("grpc.default_authority", "[::1]") in options
    wrong = ("127.0.0.1:1,127.0.0.1", "127.0.0.1:1,", "127.0.0.1:1,x:0", "::1:50051")
    for text in (*wrong, "127.0.0.1:1,::1:2", "127.0.0.1:1,[edge]:2"):
        with pytest.raises(UsageError, match=r"server|IPv6"):
            target(text)


def test_a_name_that_cannot_be_looked_up_is_left_out_until_it_can(
    start, monkeypatch, caplog
):
    first = start({"still": (still(opened=True),)})
    second = start({"still": (still(opened=True),)})
    ports = [server.address.rpartition(":")[2] for server in (first, second)]
    known, real = {"127.0.0.1"}, socket.getaddrinfo

    def getaddrinfo(host, *arguments, **options):
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return real("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("sc_jax.deploy.wire.client.AGAIN_S", 0.05)
    address = f"127.0.0.1:{ports[0]},later.example:{ports[1]}"
    with Client(address, timeout_s=0.5) as client:
        assert client.infer("still", RAW).prediction == 0
        assert caplog.text.count("later.example") == 1
        known.add("later.example")

        def both():
            assert client.infer("still", RAW).prediction == 0
            return all(
                server.metrics.registry.get_sample_value(
                    "sc_jax_edge_latency_seconds_count", {"model": "still"}
                )
                for server in (first, second)
            )

        wait_until(both)
    known.clear()
    with pytest.raises(UsageError, match="no server of"):
        Client(address)


def test_a_request_counts_as_sent_only_if_it_may_have_left(start):
    probe = edge.serve({}, edge.Settings(sizes=(1,)))
    probe.drain(0)
    with Client(probe.address) as client:
        found = refusal(client, "still", RAW)
        assert (found.code, found.sent) == ("UNAVAILABLE", False)
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, and says nothing
    with silent, Client(f"127.0.0.1:{silent.getsockname()[1]}") as client:
        found = refusal(client, "still", RAW, timeout_s=0.3)
        assert (found.code, found.sent) == ("DEADLINE_EXCEEDED", False)
    hung = still()
    server = start({"hung": (hung,)})
    with Client(server.address) as client:
        found = refusal(client, "nobody", RAW)
        assert (found.code, found.sent) == ("NOT_FOUND", True)
        found = refusal(client, "hung", RAW, timeout_s=0.3)
        assert (found.code, found.sent) == ("DEADLINE_EXCEEDED", True)
    hung.gate.set()


def test_a_connection_is_followed_until_it_stands_and_again_after_a_loss(start):
    """Not all the time: gRPC does it in a thread that wakes five times a second."""
    server = start({"still": (still(opened=True),)})
    with Client(server.address) as client:
        client.infer("still", RAW)
        wait_until(lambda: not client._seen._followed)
        server.drain(0)
        assert refusal(client, "still", RAW).sent  # it may have left: nobody looked
        wait_until(lambda: not refusal(client, "still", RAW).sent)
        assert client._seen._followed
