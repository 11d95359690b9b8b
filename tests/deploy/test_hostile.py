"""Bad clients of the edge server, and tails that hang, die or give nonsense."""

import contextlib
import errno
import gc
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zlib

import jax
import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("grpc_reflection")
pytest.importorskip("prometheus_client")

from edge_tools import (  # noqa: E402
    NOT_SERVING,
    RAW,
    SERVING,
    held_by,
    refusal,
    rejects,
    state,
    still,
    wait_until,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402

from benchmarks.memory import resident_bytes  # noqa: E402
from benchmarks.serving import attacks, http2  # noqa: E402
from sc_jax.codec.raw import RawCodec  # noqa: E402
from sc_jax.deploy.server import edge, holding, portable, refusals  # noqa: E402
from sc_jax.deploy.wire import frame, layout, protocol  # noqa: E402
from sc_jax.deploy.wire.client import Client, EdgeError  # noqa: E402
from sc_jax.errors import UsageError  # noqa: E402

INFER = f"/{protocol.SERVICE}/ModelInfer"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = [f"/{protocol.SERVICE}/{name}" for name in protocol.METHODS]
BAD = b"\xff" * 9  # no protobuf
REQUEST = layout.request("still", RAW)
INVALID, UNIMPLEMENTED = 3, 12  # gRPC's numbers


def good():
    return {"still": (still(opened=True),)}


def outcomes(connection, count):
    """The statuses of the next `count` calls that end."""
    return [connection.ended().status for _ in range(count)]


def failures(address, calls):
    """What came instead of the right answer to so many requests."""
    wrong = []
    with Client(address, timeout_s=10) as client:
        for _ in range(calls):
            try:
                assert list(client.infer("still", RAW).logits) == [2, 2]
            except EdgeError as error:
                wrong.append(str(error))
    return wrong


@pytest.mark.parametrize("path", [*METHODS, CHECK, WATCH, REFLECT])
def test_bytes_that_are_no_message_keep_no_memory(start, path, monkeypatch):
    # More at once than may be held: on a slow machine the oldest would be ended.
    monkeypatch.setattr(holding, "MOMENT_S", 60.0)
    server, memory = start(good()), []
    with http2.Connection(server.address) as connection:
        for _ in range(3):  # the first warms up; each kept 18 kB once
            for _ in range(8):
                for _ in range(50):
                    connection.call(path, BAD)
                assert outcomes(connection, 50) == [INVALID] * 50
            memory.append(resident_bytes())
    assert rejects(server, "message") == 1200
    assert memory[-1] - memory[0] < 8 << 20, memory  # 14 MB were kept


def test_watch_keeps_no_name_and_says_unknown_once(start):
    server = start(good(), token="secret")  # health needs none
    request = health_pb2.HealthCheckRequest
    with http2.Connection(server.address) as connection:
        before = resident_bytes()
        for i in range(200):
            name = request(service=f"{i:060000}").SerializeToString()
            connection.call(WATCH, name)
            assert outcomes(connection, 1) == [INVALID]
        assert resident_bytes() - before < 6 << 20  # 12 MB of names
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert [a.status for a in stub.Watch(request(service="x"), timeout=5)] == [3]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(request(service="x"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("path", [INFER, CHECK, WATCH, REFLECT])
def test_calls_that_never_send_their_message_refuse_nobody(
    start, path, slow, monkeypatch
):
    monkeypatch.setattr(edge, "ARRIVING", 32)
    server = start(good())
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            bad = stack.enter_context(http2.Connection(server.address))
            with contextlib.suppress(http2.Lost):
                for _ in range(330):
                    stream = bad.open(path)
                    if slow:  # the length of a message, and its first bytes
                        bad.data(stream, http2.message(b"x" * 900)[:9])
        assert not failures(server.address, 60)
        assert state(server.address) == SERVING
    wait_until(lambda: rejects(server, "slow") > 100)  # of 3 x 128


def test_a_connection_may_have_so_many_calls_at_once(start):
    server = start(good())
    with http2.Connection(server.address) as connection:
        event = connection.read()
        settings = dict(struct.iter_unpack(">HI", event.payload))
    assert settings[3] == edge.STREAMS  # SETTINGS_MAX_CONCURRENT_STREAMS


@pytest.mark.parametrize("piece", [b"", http2.message(b"x" * 40)[:20]])
def test_a_message_that_does_not_come_whole_in_time_ends_its_call(start, piece):
    server = start(good(), receive_s=0.3)
    with http2.Connection(server.address, timeout_s=5) as connection:
        stream, begun = connection.open(INFER), time.monotonic()
        if piece:
            connection.data(stream, piece)
        outcomes(connection, 1)
        assert 0.3 <= time.monotonic() - begun < 3
    wait_until(lambda: rejects(server, "slow") == 1)
    assert not failures(server.address, 1)


@pytest.mark.parametrize("path", [INFER, CHECK, WATCH, REFLECT])
def test_a_call_that_was_given_up_goes_without_a_collection(start, path):
    server = start(good())
    with http2.Connection(server.address) as connection, no_circles():
        for _ in range(20):
            stream = connection.open(path)
            connection.call(INFER, BAD)
            connection.ended()
            connection.reset(stream)


@contextlib.contextmanager
def no_circles():
    """The calls of the body go without a collection of garbage, all but a few."""
    count = lambda: sum(  # noqa: E731
        type(each).__name__ == "_RPCState" for each in gc.get_objects()
    )
    gc.collect()
    gc.disable()
    try:
        before = count()
        yield
        wait_until(lambda: count() <= before + 4)
    finally:
        gc.enable()


@pytest.mark.parametrize("why", ["late", "internal"])
def test_a_call_that_is_refused_goes_without_a_collection(start, why, monkeypatch):
    monkeypatch.setattr(refusals.LOGGER, "disabled", True)  # pytest keeps tracebacks
    tail = still(opened=True)
    if why == "internal":
        tail.reply = None  # cannot be called
    server = start({"still": (tail,)})
    budget_s = 1e-9 if why == "late" else 0.0
    with Client(server.address) as client, no_circles():
        for _ in range(20):
            with pytest.raises(EdgeError):
                client.infer("still", RAW, budget_s)
    assert rejects(server, why) == 20


def test_a_call_that_leaves_the_queue_goes_without_a_collection(start):
    slow = still()
    server = start({"still": (slow,)})
    with http2.Connection(server.address) as connection, no_circles():
        streams = [connection.call(INFER, REQUEST) for _ in range(20)]
        assert slow.begun.acquire(timeout=5)
        wait_until(lambda: held_by(server) == 20)
        for stream in streams:
            connection.reset(stream)
        wait_until(lambda: rejects(server, "gone") == 19)  # all but the one that runs
    slow.gate.set()


def test_who_holds_most_loses_the_oldest(monkeypatch):
    monkeypatch.setattr(holding, "MOMENT_S", 0.0)

    class Context:
        def __init__(self, peer):
            self.peer, self.cancelled = lambda: peer, threading.Event()
            self.cancel = self.cancelled.set

    held, many = holding.Holding(4, 9.0), [Context("bad") for _ in range(4)]
    lone = Context("good")
    with contextlib.ExitStack() as stack:
        stack.enter_context(held.hold(lone))
        for number, context in enumerate(many):
            stack.enter_context(held.hold(context))
            assert held.count() == min(number + 2, 4)
        monkeypatch.setattr(holding, "MOMENT_S", 9.0)
        with held.hold(Context("new")):  # the oldest came a moment ago
            assert held.count() == 5
        assert [c.cancelled.is_set() for c in many] == [True, False, False, False]
        assert not lone.cancelled.is_set()
    assert held.count() == 0


def test_too_many_calls_are_refused_and_counted(start, monkeypatch):
    monkeypatch.setattr(edge, "CALLS", 3)
    slow = still()
    server = start({"slow": (slow,)})
    with http2.Connection(server.address) as connection:
        body = protocol.infer_request("slow", RAW).SerializeToString()
        for _ in range(5):
            connection.call(INFER, body)
        assert outcomes(connection, 2) == [8, 8]  # RESOURCE_EXHAUSTED
        assert rejects(server, "full") == 2
        assert state(server.address) == SERVING  # has its own
        slow.gate.set()
        assert outcomes(connection, 3) == [0] * 3


def test_watchers_that_read_nothing_hold_nobody_up(start):
    server = start(good())
    seen = []
    request = health_pb2.HealthCheckRequest()
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            deaf = http2.Connection(server.address, stream_window=0)
            stack.enter_context(deaf)
            for _ in range(60):
                deaf.call(WATCH, b"")
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=20)
        seen.append(next(watch).status)
        assert state(server.address) == SERVING
        begun = time.monotonic()
        drained = threading.Thread(target=server.drain, args=(2,))
        drained.start()
        seen.append(next(watch).status)
        assert time.monotonic() - begun < 5
        drained.join(8)
        assert not drained.is_alive()
    assert seen == [SERVING, NOT_SERVING]


def test_packed_messages_are_not_unpacked(start):
    server, before = start(good()), resident_bytes()
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(bytes(40 << 20)) + packer.flush()  # 40 kB
    with http2.Connection(server.address) as connection:
        extra = [(b"grpc-encoding", b"gzip")]
        for _ in range(3):
            connection.call(INFER, bomb, extra, compressed=True)
            assert outcomes(connection, 1) == [UNIMPLEMENTED]
    assert resident_bytes() - before < 20 << 20


def test_a_batch_that_overruns_is_said_and_recovered_from(start):
    slow = still()
    server = start({"slow": (slow,)}, batch_s=0.3)
    with Client(server.address) as client:
        assert refusal(client, "slow", RAW, timeout_s=5).code == "UNAVAILABLE"
        assert rejects(server, "stuck") >= 1
        wait_until(lambda: state(server.address) == NOT_SERVING)
        slow.gate.set()
        wait_until(lambda: state(server.address) == SERVING)
        wait_until(lambda: answered_by(client, "slow"))


def answered_by(client, model):
    with contextlib.suppress(EdgeError):
        return list(client.infer(model, RAW).logits) == [2, 2]
    return False


def test_draining_leaves_a_batch_that_does_not_end(start):
    slow = still()
    server = edge.serve({"slow": (slow,)}, edge.Settings(sizes=(1,), wait_s=0))
    with Client(server.address) as client:
        asked = threading.Thread(
            target=lambda: refusal(client, "slow", RAW), daemon=True
        )
        asked.start()
        assert slow.begun.acquire(timeout=5)
        begun = time.monotonic()
        assert server.drain(0.3) is False
        assert time.monotonic() - begun < 3
        asked.join(5)
        assert not asked.is_alive()
    slow.gate.set()


HUNG = """
import sys
sys.path.insert(0, {tests!r})
from edge_tools import still
from launch import cli, serve
from sc_jax.deploy.server import models
models.load_all = lambda workdirs: {{"slow": (still(),)}}
cli.start(serve.main)
"""


def test_the_binary_ends_though_a_batch_does_not():
    script = HUNG.format(tests=__file__.rpartition("/")[0])
    command = [sys.executable, "-c", script, "--port=0", "--grace_s=0.3"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            address = process.stdout.readline().split(" at ")[1].split(",")[0]
            with Client(address, timeout_s=30) as client:
                assert client.ready("slow")  # connected: the next call soon runs
                late = refusal(client, "slow", RAW, timeout_s=2)
                assert late.code == "DEADLINE_EXCEEDED"
            process.terminate()
            assert process.wait(30) == 1
        finally:
            process.kill()
        assert process.stderr.read().startswith("error: a batch does not end")


def test_a_tail_that_ends_its_thread_makes_the_server_not_serving(start, caplog):
    dead = still(opened=True)

    def reply(z):
        raise SystemExit("at " + __file__)

    dead.reply = reply
    server = start({"dead": (dead,)})
    with Client(server.address) as client:
        for _ in range(2):
            error = refusal(client, "dead", RAW, timeout_s=5)
            assert (error.code, __file__ in error.line) == ("UNAVAILABLE", False)
    assert "thread ended" in caplog.text and rejects(server, "stuck") >= 1
    wait_until(lambda: state(server.address) == NOT_SERVING)


def test_what_is_not_a_number_is_no_class(start):
    broken = still(opened=True)
    broken.reply = lambda z: {"prediction": z.argmax(-1), "logits": z * np.nan}
    server = start({"broken": (broken,), **good()})
    nan = frame.pack(1, 0, (2,), np.full(2, np.nan, np.float32).tobytes())
    with Client(server.address) as client:
        error = refusal(client, "broken", RAW)
        assert (error.code, "not a number" in error.line) == ("INTERNAL", True)
        assert rejects(server, "number") == 1
        assert refusal(client, "still", nan).code == "INVALID_ARGUMENT"
        assert client.infer("still", RAW).prediction == 0


def test_of_a_batch_only_what_is_not_a_number_is_refused(start):
    part = still(opened=True)
    part.reply = lambda z: {
        "prediction": z.argmax(-1), "logits": np.where(z, z, np.nan)
    }  # fmt: skip
    server = start({"part": (part,)}, sizes=(2,))  # beside each request a row of zeros
    zeros = frame.pack(1, 0, (2,), bytes(8))
    with Client(server.address) as client:
        assert list(client.infer("part", RAW).logits) == [1, 1]
        assert refusal(client, "part", zeros).code == "INTERNAL"
    assert rejects(server, "number") == 1


@pytest.mark.parametrize(
    "outputs",
    [
        lambda z: {"prediction": z.argmax(-1)[:-1], "logits": z},
        lambda z: {"prediction": z.argmax(-1), "logits": z[:-1]},
        lambda z: {"prediction": np.int64(1), "logits": z},
        lambda z: {},
    ],
)
def test_a_batch_of_too_few_answers_fails_in_one_line(start, outputs):
    broken = still(opened=True)
    broken.reply = outputs
    server = start({"broken": (broken,)})
    with Client(server.address) as client:
        assert refusal(client, "broken", RAW, timeout_s=5).code == "INTERNAL"
    assert rejects(server, "internal") == 1


@pytest.mark.parametrize(
    "reply",
    [
        lambda z: {"prediction": z.argmax(-1), "logits": z[:, :1]},
        lambda z: {"prediction": z.argmax(-1)[:1], "logits": z},
        lambda z: {"prediction": z.argmax(), "logits": z},
        lambda z: {"prediction": z.argmax(-1), "logits": z.sum(0)},
        lambda z: {"labels": z > 0, "logits": z.sum(-1)},
        lambda z: {"map": z.sum()},
        lambda z: {},
    ],
)
def test_a_tail_of_no_answers_is_refused_at_the_start(reply):
    jitted = jax.jit(lambda variables, z: reply(z))
    tail = portable.Tail(RawCodec((2,)), {}, jitted, labels=("a", "b"))
    with pytest.raises(UsageError, match="model wrong cannot be served") as caught:
        edge.serve({"wrong": (tail,)}, edge.Settings(sizes=(1, 2)))
    assert "\n" not in str(caught.value)


def test_responses_that_hold_no_tensors_are_one_line():
    for shape, data in (([], b"1234"), ([1, -1], b"1234"), ([2, 1], b"12345678"),
                        ([1, 1 << 62, 1 << 62], b""), ([1, 3], b"1234")):  # fmt: skip
        response = protocol.InferResponse()
        response.outputs.add(name="logits", datatype="FP32", shape=shape)
        response.raw_output_contents.append(data)
        with pytest.raises(protocol.TensorError, match="output logits") as caught:
            protocol.reply_of(response)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "127.0.0.1", "localhost"])
@pytest.mark.parametrize("metrics_port", [None, 0])
def test_every_spelling_of_a_host_is_served(start, host, metrics_port):
    if ":" in host and not has_ipv6():
        pytest.skip("no IPv6 here")
    server = start(good(), host=host, metrics_port=metrics_port)
    port = server.address.rpartition(":")[2]
    own = server.address.replace("[::]", "[::1]")
    addresses = [own, f"127.0.0.1:{port},{own}"]
    for address in addresses:
        assert not failures(address, 3)
    if metrics_port is not None:
        where = own.rpartition(":")[0]
        url = f"http://{where}:{server.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as page:
            assert b"sc_jax_edge_rejects" in page.read()


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_metrics_outlive_a_shortage_of_descriptors(start, monkeypatch):
    real, short = socket.socket.accept, [True, True]

    def accept(self):
        if short:
            short.pop()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    server = start(good(), metrics_port=0)
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    wait_until(lambda: fetched(url))
    assert not short


def test_slow_readers_of_metrics_hold_few_threads_and_not_for_long(start, monkeypatch):
    monkeypatch.setattr("sc_jax.deploy.server.metrics.SECONDS_EACH", 0.4)
    server = start(good(), metrics_port=0)
    where = "127.0.0.1", server.metrics_port
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(where, 5)) for _ in range(100)
        ]
        for each in slow:
            with contextlib.suppress(OSError):
                each.sendall(b"GET /met")
        time.sleep(0.1)
        assert threading.active_count() - before <= 4
        wait_until(lambda: fetched(url))
        for each in slow:  # all are closed by the server
            with contextlib.suppress(ConnectionError):
                assert each.recv(1) == b""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url + "x", timeout=5)


def fetched(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=3) as page:
        return b"sc_jax_edge" in page.read()
    return False


@pytest.mark.parametrize("kind", [*attacks.CALLS, "framing", "resets"])
def test_every_kind_of_bad_client_is_answered_or_cut_off(trained, start, kind):
    server = start({attacks.MODEL: trained.tails, **good()})
    order = attacks.Order(server.address, 60, 4, trained.sent)
    found = attacks.attack(kind, order, 2, seed=7)
    assert found.total() == 60 and not {"UNKNOWN", "UNAVAILABLE"} & set(found), found
    assert "silent" not in found or kind == "framing"
    assert rejects(server, "internal") == 0 and not failures(server.address, 5)
