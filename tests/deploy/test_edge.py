"""The edge server over real sockets: answers, batches, refusals, damage, draining."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("grpc_reflection")
pytest.importorskip("prometheus_client")

from edge_tools import (  # noqa: E402
    FULL,
    NOT_SERVING,
    RAW,
    SERVING,
    SIZES,
    held_by,
    refusal,
    rejects,
    state,
    still,
    wait_until,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402

from sc_jax.codec import codecs  # noqa: E402
from sc_jax.compressors import Affine  # noqa: E402
from sc_jax.compressors.splits import codecs_of  # noqa: E402
from sc_jax.deploy.server import edge, tails  # noqa: E402
from sc_jax.deploy.server.refusals import STATUS  # noqa: E402
from sc_jax.deploy.wire import frame  # noqa: E402
from sc_jax.deploy.wire.client import Client  # noqa: E402
from sc_jax.errors import UsageError  # noqa: E402
from sc_jax.evaluate import rate  # noqa: E402
from sc_jax.nets.net import cut_at, tail  # noqa: E402
from sc_jax.nets.run import Variables, run  # noqa: E402


def test_answers_are_those_of_the_tail_and_of_measure(trained, client):
    codec = trained.tails[0].codec
    z = np.stack([codec.decode(frame.unpack(data).payload) for data in trained.sent])
    after = tail(trained.net, "encoder")
    whole = jax.jit(lambda v, z: run(after, v, z)[0].predictions["final"])
    expected = np.asarray(whole(trained.variables, z))
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda f: client.infer("first", f), trained.sent))
    got = np.stack([reply.logits for reply in replies])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert len({tuple(row) for row in got}) == 40
    predictions = np.array([reply.prediction for reply in replies])
    np.testing.assert_array_equal(predictions, expected.argmax(-1))
    measured = rate.measure(
        trained.net, trained.variables, trained.codecs, trained.test, batch_size=40
    )
    assert not measured.disagreements
    right = predictions == trained.test.labels
    np.testing.assert_array_equal(right, measured.metrics["accuracy"])
    assert all(0 < reply.compute_s < 5 for reply in replies)


def test_concurrent_requests_share_batches_and_nothing_is_compiled(trained, start):
    server = start({"first": trained.tails}, sizes=SIZES, wait_s=0.02)
    compiled = trained.tails[0].jitted._cache_size()
    assert compiled == len(SIZES)
    seen, alone = [], {}
    with Client(server.address) as client:
        for data in trained.sent:
            alone[data] = client.infer("first", data).prediction
        for threads in (3, 16):
            with ThreadPoolExecutor(threads) as pool:
                call = lambda data: client.infer("first", data)  # noqa: E731
                for data, reply in zip(trained.sent, pool.map(call, trained.sent)):
                    assert reply.prediction == alone[data]
                    seen.append(reply.batch_size)
    assert 1 < max(seen) <= SIZES[-1] and len(set(seen)) > 1
    assert trained.tails[0].jitted._cache_size() == compiled


def test_each_refusal_has_its_status_and_one_line_and_is_counted(
    trained, client, server
):
    good = trained.sent[0]
    got = frame.unpack(good)
    raw = np.zeros(got.shape, np.float32).tobytes()
    skewed = bytearray(good)
    skewed[4] = 9
    wrong = [
        ("frame", "first", good[:-1], "frame"),
        ("frame", "first", b"", "cut short"),
        ("frame", "first", b"x" * 50, "not a frame"),
        ("version", "first", bytes(skewed), "version 9"),
        ("stream", "first", frame.pack(4, 0, got.shape, b"\xff" * 9), "corrupt"),
        ("mismatch", "first", frame.pack(4, 1, got.shape, got.payload), "split 1"),
        ("mismatch", "first", frame.pack(1, 0, got.shape, raw), "codec 1"),
        ("mismatch", "first", frame.pack(4, 0, (1 << 31,) * 3, b""), "latent"),
        ("model", "frist", good, "did you mean 'first'"),
        ("model", "x\n" * 99, good, "first"),
    ]
    for reason, model, data, words in wrong:
        before = rejects(server, reason)
        error = refusal(client, model, data)
        assert (error.code, words in error.line) == (STATUS[reason], True), error
        assert rejects(server, reason) == before + 1
    for budget in (-1.0, float("nan")):
        error = refusal(client, "first", good, budget_s=budget)
        assert error.code == "INVALID_ARGUMENT" and "budget_s" in error.line
    assert client.infer("first", good, budget_s=5.0).batch_size == 1


def test_several_models_and_splits_are_told_apart(trained, client, start):
    assert list(client.infer("still", RAW).logits) == [2.0, 2.0]
    net = cut_at(trained.net, "layer3", Affine(8))
    params, states = (part | {"split@layer3": {}} for part in trained.variables)
    variables = Variables(params, states)
    image = np.zeros((1, *trained.test.shape), np.uint8)
    two = tails.tails(net, variables, codecs_of(net, variables, image))
    server = start({"two": two}, sizes=(1, 2))
    codec = two[1].codec
    z = np.linspace(0, 1, int(np.prod(codec.shape)), dtype=np.float32)
    payload = codec.encode(z.reshape(codec.shape))
    expected = two[1].reply(codec.decode(payload)[None])["logits"][0]
    data = frame.pack(codecs.AffineCodec.id, 1, codec.shape, payload)
    with Client(server.address) as other:
        reply = other.infer("two", data)
        np.testing.assert_array_equal(reply.logits, expected)
        assert len(other.infer("two", trained.sent[0]).logits) == len(expected)


def test_a_full_queue_refuses_and_the_held_requests_are_answered(start):
    slow = still()
    server = start({"slow": (slow,)}, queue=3)
    with Client(server.address) as client, ThreadPoolExecutor(3) as pool:
        held = [pool.submit(client.infer, "slow", RAW)]
        assert slow.begun.acquire(timeout=5)
        held.append(pool.submit(client.infer, "slow", RAW))
        held.append(pool.submit(client.infer, "slow", RAW, 0.05))
        wait_until(lambda: held_by(server) == 3)
        for _ in range(50):
            error = refusal(client, "slow", RAW)
            assert (error.code, "queue of 3" in error.line) == (FULL, True)
        assert rejects(server, "full") == 50 and held_by(server) == 3
        assert state(server.address) == SERVING
        time.sleep(0.06)  # past the last one's budget
        slow.gate.set()
        assert [list(f.result(5).logits) for f in held[:2]] == [[2, 2], [2, 2]]
        error = held[2].exception(5)
        assert (error.code, "over budget" in error.line) == ("DEADLINE_EXCEEDED", True)
        assert list(client.infer("slow", RAW).logits) == [2, 2]
    assert held_by(server) == 0


def test_a_client_that_leaves_frees_its_place(start):
    slow = still()
    server = start({"slow": (slow,)}, queue=2)
    with Client(server.address, timeout_s=1) as hasty, ThreadPoolExecutor(1) as pool:
        assert hasty.ready("slow")  # connected: only the calls below take its time
        running = pool.submit(hasty.infer, "slow", RAW)
        assert slow.begun.acquire(timeout=5)
        assert refusal(hasty, "slow", RAW).code == "DEADLINE_EXCEEDED"
        assert running.exception(5).code == "DEADLINE_EXCEEDED"
    wait_until(lambda: rejects(server, "gone") == 1 and held_by(server) == 1)
    slow.gate.set()  # what had begun is computed all the same
    wait_until(lambda: held_by(server) == 0)


def test_draining_says_so_answers_what_is_held_and_ends(start):
    slow = still()
    server = edge.serve({"slow": (slow,)}, edge.Settings(sizes=(1,), metrics_port=0))
    seen, ended = [], threading.Event()
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as c:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=30
        )

        def follow():
            try:
                for answer in watch:
                    seen.append(answer.status)
                    if answer.status == NOT_SERVING:
                        ended.set()
            except grpc.RpcError:
                seen.append("end")

        with ThreadPoolExecutor(12) as pool:
            followed = pool.submit(follow)
            held = [pool.submit(c.infer, "slow", RAW) for _ in range(10)]
            wait_until(lambda: held_by(server) == 10)
            assert state(server.address) == SERVING
            drained = pool.submit(server.drain, 10)
            assert ended.wait(5)
            time.sleep(0.3)
            assert refusal(c, "slow", RAW).code == "UNAVAILABLE"
            assert not any(f.done() for f in (*held, drained))
            slow.gate.set()
            assert [list(f.result(5).logits) for f in held] == [[2, 2]] * 10
            begin = time.monotonic()
            drained.result(5)
            assert time.monotonic() - begin < 3  # not the whole grace
            followed.result(5)
    assert seen == [SERVING, NOT_SERVING, "end"]
    assert not [t for t in threading.enumerate() if t.name == "batch" and t.is_alive()
                and t._target.__self__._run is slow.reply]  # fmt: skip


def test_not_serving_until_everything_is_compiled():
    compiling, go = threading.Event(), threading.Event()

    def compile(sizes):
        compiling.set()
        assert go.wait(10)

    slow = still(opened=True)
    slow.compile = compile
    probe = edge.serve({}, edge.Settings())
    probe.drain(0)
    port = int(probe.address.rpartition(":")[2])
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(edge.serve, {"slow": (slow,)}, edge.Settings(port=port))
        assert compiling.wait(5)
        with Client(probe.address) as client:
            assert state(probe.address) == NOT_SERVING
            assert refusal(client, "slow", RAW).code == "UNAVAILABLE"
            go.set()
            server = started.result(5)
            assert state(server.address) == SERVING
            assert list(client.infer("slow", RAW).logits) == [2, 2]
        with pytest.raises(UsageError, match="cannot listen"):
            edge.serve({}, edge.Settings(port=port))
        server.drain(5)


def test_a_failing_tail_is_one_internal_error_and_the_server_lives(start, caplog):
    broken = still(opened=True)

    def reply(z):
        raise MemoryError(f"at {__file__}")

    broken.reply = reply
    server = start({"broken": (broken,), "good": (still(opened=True),)})
    with Client(server.address) as client:
        error = refusal(client, "broken", RAW)
        assert error.code == "INTERNAL" and __file__ not in error.line
        assert "MemoryError" in caplog.text
        assert list(client.infer("good", RAW).logits) == [2, 2]
