"""What reaches the edge server from outside: damage, secrets, metrics, the binary."""

import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("grpc_reflection")
pytest.importorskip("prometheus_client")

from edge_tools import (  # noqa: E402
    RAW,
    SERVING,
    held_by,
    refusal,
    rejects,
    state,
    still,
)
from google.protobuf import descriptor_pb2  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402

from benchmarks.memory import resident_bytes  # noqa: E402
from benchmarks.serving.damage import damaged  # noqa: E402
from benchmarks.untrained import frames, untrained  # noqa: E402
from launch import cli  # noqa: E402
from sc_jax.deploy.server import edge, infer, models, tails  # noqa: E402
from sc_jax.deploy.wire import frame, protocol  # noqa: E402
from sc_jax.deploy.wire.client import Client, EdgeError  # noqa: E402
from sc_jax.deploy.wire.protocol import SERVICE  # noqa: E402
from sc_jax.errors import UsageError  # noqa: E402
from sc_jax.runs import run_folder  # noqa: E402

COUNT = 10_000


def test_100000_damaged_frames_decode_or_are_refused_by_name(trained):
    rng, own = np.random.default_rng(5), trained.tails
    found = Counter()
    for i in range(100_000):
        data = damaged(trained.sent[i % len(trained.sent)], rng)[1]
        try:
            split, z = infer.latent(data, own, 4 << 20)
            assert split == 0 and z.shape == own[0].codec.shape
            found["answer"] += 1
        except infer.Refused as error:
            assert "\n" not in error.args[1]
            found[error.args[0]] += 1
    assert set(found) == {"answer", "frame", "version", "mismatch", "stream"}
    assert min(found.values()) > 100, found


def test_10000_damaged_frames_over_a_socket_are_refused_or_answered(trained, start):
    rng, memory = np.random.default_rng(11), []
    server = start({"first": trained.tails, "still": (still(opened=True),)})
    whole = [("first", data) for data in trained.sent] + [("still", RAW)] * 10
    found = dict.fromkeys(("answer", "INVALID_ARGUMENT", "FAILED_PRECONDITION"), 0)

    def call(item):
        try:
            return len(client.infer(*item, timeout_s=30).logits)
        except EdgeError as error:
            assert "\n" not in error.line
            return error.code

    models = [whole[i % len(whole)] for i in range(COUNT)]
    sent = [(name, damaged(data, rng)[1]) for name, data in models]
    with Client(server.address) as client, ThreadPoolExecutor(8) as pool:
        for begin in range(0, COUNT, 1000):
            for answer in pool.map(call, sent[begin : begin + 1000]):
                found["answer" if answer in (2, 10) else answer] += 1
            memory.append(resident_bytes())
        assert min(found.values()) > 100 and sum(found.values()) == COUNT, found
        assert memory[-1] - memory[1] < 32 << 20, memory
        assert rejects(server, "stream") > 100 and not rejects(server, "internal")
        assert held_by(server) == 0 and state(server.address) == SERVING
        assert client.infer("first", trained.sent[0]).batch_size == 1


def test_a_message_above_the_limit_is_refused(start):
    server = start({"still": (still(opened=True),)}, max_bytes=2000)
    with Client(server.address) as client:
        assert refusal(client, "still", b"x" * 3000).code == "RESOURCE_EXHAUSTED"
        assert client.infer("still", RAW).prediction == 0


def test_metrics_count_what_happened(trained, client, server):
    read = lambda name, **labels: (  # noqa: E731
        server.metrics.registry.get_sample_value(f"sc_jax_edge_{name}", labels) or 0
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
    assert described == protocol.file_descriptor()


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
    recipe = run_folder.recipe_of(workdir)
    variables, codecs = run_folder.restore(recipe, workdir)
    images = run_folder.dataset_of(recipe, "test").images[:1]
    (data,) = frames(recipe.net, variables, codecs, images)
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
    own = tails.tails(recipe.net, variables, codecs)[0]
    z = own.codec.decode(frame.unpack(data).payload)
    assert reply.prediction == own.reply(z[None])["prediction"][0]
    for texts in ([], [f"x={workdir}", f"x={workdir}"], [f"={workdir}"]):
        with pytest.raises(UsageError, match="--workdir"):
            models.load_all(texts)
    for file in (workdir / "checkpoints").rglob("*"):
        if file.is_file() and file.parent.name != "checkpoints":
            file.write_bytes(b"x")
    with pytest.raises(UsageError, match="checkpoints"):
        models.load_all([f"damaged={workdir}"])


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
