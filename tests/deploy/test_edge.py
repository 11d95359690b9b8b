"""The edge server over real sockets: answers, batches, refusals, damage, draining."""

import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("grpc_reflection")
pytest.importorskip("prometheus_client")

from google.protobuf import descriptor_pb2  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402

from benchmarks.untrained import frames, untrained  # noqa: E402
from launch import cli  # noqa: E402
from sc_jax import experiment, recipes  # noqa: E402
from sc_jax.codec import codecs  # noqa: E402
from sc_jax.codec.simple import RawCodec  # noqa: E402
from sc_jax.compressors.freeze import freeze_all  # noqa: E402
from sc_jax.compressors.simple import Affine  # noqa: E402
from sc_jax.deploy import edge, frame, tails  # noqa: E402
from sc_jax.deploy.infer import STATUS  # noqa: E402
from sc_jax.deploy.protocol import SERVICE, Client, EdgeError  # noqa: E402
from sc_jax.errors import UsageError  # noqa: E402
from sc_jax.evaluate import rate  # noqa: E402
from sc_jax.nets.net import cut_at, tail  # noqa: E402
from sc_jax.nets.run import Variables, init, run  # noqa: E402

SIZES = (1, 2, 4, 8)
SERVING, NOT_SERVING = 1, 2  # of the health service
FULL = "RESOURCE_EXHAUSTED"
RAW = frame.pack(1, 0, (2,), np.ones(2, np.float32).tobytes())


@pytest.fixture(scope="module")
def trained():
    """An untrained net of the Entropic Student, 40 images and their frames."""
    recipe = recipes.build("entropic_student", recipes.tiny("entropic_student"))
    example = experiment.example_of(recipe)
    variables = init(recipe.net, jax.random.key(3), example)
    frozen = freeze_all(recipe.net, variables, example)
    test = experiment.dataset_of(recipe, "test").take(np.arange(40), "test")
    sent = frames(recipe.net, variables, frozen, test.images)
    own = tails.tails(recipe.net, variables, frozen)
    return SimpleNamespace(
        net=recipe.net, variables=variables, frozen=frozen, test=test, sent=sent,
        tails=own,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(trained):
    made = edge.serve(
        {"first": trained.tails, "still": (still(opened=True),)},
        edge.Settings(sizes=SIZES, wait_s=0.002, metrics_port=0),
    )
    yield made
    made.drain(5)


@pytest.fixture
def client(server):
    with Client(server.address) as made:
        yield made


@pytest.fixture
def start():
    """Starts servers that the test's end drains."""
    made = []

    def build(models, **settings):
        settings = {"sizes": (1,), "wait_s": 0.0} | settings
        made.append(edge.serve(models, edge.Settings(**settings)))
        return made[-1]

    yield build
    for each in made:
        each.drain(5)


def still(opened=False):
    """A tail of raw pairs that answers twice the pair once `opened` is set."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def logits(z):
        begun.release()
        assert gate.wait(10)
        with np.errstate(over="ignore", invalid="ignore"):
            return 2 * z

    if opened:
        gate.set()
    return SimpleNamespace(
        codec=RawCodec((2,)), logits=logits, compile=lambda sizes: None, gate=gate,
        begun=begun,
    )  # fmt: skip


def state(address):
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status


def held_by(server):
    return server.meters.registry.get_sample_value("sc_jax_edge_held_requests")


def wait_until(true):
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def rejects(server, reason):
    value = server.meters.registry.get_sample_value(
        "sc_jax_edge_rejects_total", {"reason": reason}
    )
    return value or 0.0


def refusal(client, model, data, **options):
    with pytest.raises(EdgeError) as caught:
        client.infer(model, data, **options)
    assert "\n" not in caught.value.line
    return caught.value


def resealed(body):
    """`body` with the checksum that fits it: damage that only a codec can see."""
    return bytes(body) + zlib.crc32(body).to_bytes(4, "little")


def test_answers_are_those_of_the_tail_and_of_measure(trained, client):
    codec = trained.tails[0].codec
    z = np.stack([codec.decode(frame.unpack(data).payload) for data in trained.sent])
    after = tail(trained.net, "encoder")
    whole = jax.jit(lambda v, z: run(after, v, z)[0].predictions["final"])
    expected = np.asarray(whole(trained.variables, z))
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda f: client.infer("first", f), trained.sent))
    got = np.array([reply.logits for reply in replies], np.float32)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert len({tuple(row) for row in got}) == 40
    predictions = np.array([reply.prediction for reply in replies])
    np.testing.assert_array_equal(predictions, expected.argmax(-1))
    measured = rate.measure(
        trained.net, trained.variables, trained.frozen, trained.test, batch_size=40
    )
    assert not measured.disagreements
    np.testing.assert_array_equal(predictions == trained.test.labels, measured.correct)
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
    assert max(seen) == SIZES[-1] and len(set(seen)) > 1
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
    two = tails.tails(net, variables, freeze_all(net, variables, image))
    server = start({"two": two}, sizes=(1, 2))
    codec = two[1].codec
    z = np.linspace(0, 1, int(np.prod(codec.shape)), dtype=np.float32)
    payload = codec.encode(z.reshape(codec.shape))
    expected = two[1].logits(codec.decode(payload)[None])[0]
    data = frame.pack(codecs.IDS["affine"], 1, codec.shape, payload)
    with Client(server.address) as other:
        reply = other.infer("two", data)
        np.testing.assert_array_equal(np.float32(reply.logits), expected)
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
    with Client(server.address, timeout_s=0.2) as hasty, ThreadPoolExecutor(1) as pool:
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
                and t._target.__self__._run is slow.logits]  # fmt: skip


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

    def logits(z):
        raise MemoryError(f"at {__file__}")

    broken.logits = logits
    server = start({"broken": (broken,), "good": (still(opened=True),)})
    with Client(server.address) as client:
        error = refusal(client, "broken", RAW)
        assert error.code == "INTERNAL" and __file__ not in error.line
        assert "MemoryError" in caplog.text
        assert list(client.infer("good", RAW).logits) == [2, 2]


def mutated(good, payload_bytes, rng):
    """One damaged frame: bits, cuts, header, payload, growth; half with a good sum."""
    data, kind = bytearray(good), rng.integers(5)
    start = len(good) - 4 - payload_bytes
    if kind == 0:
        for at in rng.integers(0, 8 * len(data), rng.integers(1, 5)):
            data[at // 8] ^= 1 << at % 8
    elif kind == 1:
        del data[rng.integers(len(data)) :]
    elif kind == 2:  # version, codec, split, rank, shape and length
        at = rng.integers(4, start)
        data[at : min(at + 4, start)] = rng.bytes(min(4, start - at))
    elif kind == 3:
        data[start:-4] = rng.bytes(payload_bytes)
    else:
        data += rng.bytes(rng.integers(1, 40))
    if rng.integers(2) and len(data) > 4:
        return resealed(data[:-4])
    return bytes(data)


def test_2000_damaged_frames_are_refused_or_answered(trained, start):
    rng = np.random.default_rng(11)
    server = start({"first": trained.tails, "still": (still(opened=True),)})
    whole = [("first", data) for data in trained.sent] + [("still", RAW)] * 10
    sizes = [len(frame.unpack(data).payload) for _, data in whole]
    found = dict.fromkeys(("answer", "INVALID_ARGUMENT", "FAILED_PRECONDITION"), 0)

    def call(i):
        try:
            return len(client.infer(whole[i % len(whole)][0], damaged[i]).logits)
        except EdgeError as error:
            assert "\n" not in error.line
            return error.code

    damaged = [
        mutated(whole[i % len(whole)][1], sizes[i % len(whole)], rng)
        for i in range(2000)
    ]
    with Client(server.address) as client:
        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(call, range(2000)):
                found["answer" if answer in (2, 10) else answer] += 1
        assert min(found.values()) > 20, found
        assert rejects(server, "stream") > 100 and not rejects(server, "internal")
        assert state(server.address) == SERVING
        assert client.infer("first", trained.sent[0]).batch_size == 1


def test_a_message_above_the_limit_is_refused(start):
    server = start({"still": (still(opened=True),)}, max_bytes=2000)
    with Client(server.address) as client:
        assert refusal(client, "still", b"x" * 3000).code == "RESOURCE_EXHAUSTED"
        assert client.infer("still", RAW).prediction == 0


def test_metrics_count_what_happened(trained, client, server):
    read = lambda name, **labels: (  # noqa: E731
        server.meters.registry.get_sample_value(f"sc_jax_edge_{name}", labels) or 0
    )
    names = ("latency_seconds_count", "received_bytes_total", "batch_examples_sum")
    before = [read(name, model="first") for name in names]
    for data in trained.sent[:5]:
        client.infer("first", data)
    after = [read(name, model="first") for name in names]
    size = sum(map(len, trained.sent[:5]))
    assert np.subtract(after, before).tolist() == [5, size, 5]
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as page:
        text = page.read().decode()
    for name in ("latency_seconds_bucket", "batch_examples_bucket", "received_bytes"):
        assert f"sc_jax_edge_{name}" in text


def test_reflection_tells_the_service_and_its_messages(server):
    ask = reflection_pb2.ServerReflectionRequest
    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [ask(list_services=""), ask(file_containing_symbol=SERVICE)]
        listed, file = stub.ServerReflectionInfo(iter(requests), timeout=5)
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    (text,) = file.file_descriptor_response.file_descriptor_proto
    described = descriptor_pb2.FileDescriptorProto.FromString(text)
    numbers = {
        message.name: [(f.name, f.number) for f in message.field]
        for message in described.message_type
    }
    assert numbers == {
        "Request": [("frame", 1), ("model", 2), ("budget_s", 3)],
        "Reply": [("prediction", 1), ("logits", 2), ("queue_s", 3), ("compute_s", 4),
                  ("batch_size", 5)],
    }  # fmt: skip


def test_only_the_token_opens_all_but_health(start):
    server = start({"still": (still(opened=True),)}, token="secret")
    for token in (None, "wrong", "secret2"):
        with Client(server.address, token) as client:
            error = refusal(client, "still", RAW)
            assert (error.code, "secret" in error.line) == ("UNAUTHENTICATED", False)
    assert rejects(server, "token") == 3
    with Client(server.address, "secret") as client:
        assert client.infer("still", RAW).prediction == 0
    assert state(server.address) == SERVING
    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ServerReflectionInfo(iter([request]), timeout=5))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate")
def test_tls_answers_those_who_trust_the_certificate(start, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    pair = cert.read_bytes(), key.read_bytes()
    server = start({"still": (still(opened=True),)}, tls=pair)
    address = server.address.replace("127.0.0.1", "localhost")
    with Client(address, root_certificates=pair[0]) as client:
        assert client.infer("still", RAW).prediction == 0
    with Client(address, timeout_s=2) as plain:
        assert refusal(plain, "still", RAW).code == "UNAVAILABLE"
    with pytest.raises(UsageError, match="PEM"):
        start({}, tls=(b"no", b"pem"))


def test_a_missing_server_is_a_typed_error(server):
    probe = edge.serve({}, replace(edge.Settings(), sizes=(1,)))
    probe.drain(0)
    with Client(probe.address, timeout_s=2) as client:
        assert refusal(client, "first", RAW).code == "UNAVAILABLE"


def test_the_binary_serves_a_folder_drains_on_sigterm_and_says_mistakes(tmp_path):
    command = [sys.executable, "-m", "launch.serve", "--port=0", "--max_batch=2"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path / 'none'}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "recipe.json" in done.stderr
    workdir = untrained(tmp_path / "a=b")
    recipe = experiment.recipe_of(workdir)
    variables, frozen = experiment.restore(recipe, workdir)
    images = experiment.dataset_of(recipe, "test").images[:1]
    (data,) = frames(recipe.net, variables, frozen, images)
    with subprocess.Popen(
        [*command, f"--workdir={workdir}"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("serving a=b at 127.0.0.1:"), line
            assert line.endswith("batches 1, 2\n")
            address = line.split(" at ")[1].split(",")[0]
            with Client(address) as client:
                reply = client.infer("a=b", data)
            assert state(address) == SERVING
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    own = tails.tails(recipe.net, variables, frozen)[0]
    z = own.codec.decode(frame.unpack(data).payload)
    assert reply.prediction == own.logits(z[None]).argmax()
    for texts in ([], [f"x={workdir}", f"x={workdir}"], [f"={workdir}"]):
        with pytest.raises(UsageError, match="--workdir"):
            tails.load_all(texts)
    for file in (workdir / "checkpoints").rglob("*"):
        if file.is_file() and file.parent.name != "checkpoints":
            file.write_bytes(b"x")
    with pytest.raises(UsageError, match="checkpoints"):
        tails.load_all([f"damaged={workdir}"])


def test_a_token_file_without_a_token_never_opens_the_door(tmp_path):
    file = tmp_path / "token"
    for text in ("", " \n", "two\nlines", "hé"):
        file.write_text(text)
        with pytest.raises(UsageError, match="one line"):
            cli.secret(str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        cli.secret(str(tmp_path))
    file.write_text("secret\n")
    assert cli.secret(str(file)) == "secret"
