"""The C++ client of examples/, built as its page says, against a live server."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc_health")
pytest.importorskip("prometheus_client")

from sc_jax.codec import rans
from sc_jax.deploy import bundle
from sc_jax.deploy.wire import frame

ROOT = Path(__file__).parents[2]
TOOLS = ("cmake", "g++", "protoc", "grpc_cpp_plugin", "pkg-config")
LIBRARIES = ["pkg-config", "--exists", "grpc++", "protobuf"]
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
if not MISSING and subprocess.run(LIBRARIES).returncode:
    MISSING = ["libgrpc++-dev or libprotobuf-dev"]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"C++ needs {MISSING}")


def litert() -> Path | None:
    """libLiteRt.so of the Python package, where it is installed."""
    try:
        import ai_edge_litert
    except ImportError:
        return None
    file = Path(ai_edge_litert.__file__).with_name("libLiteRt.so")
    return file if file.is_file() else None


@pytest.fixture(scope="module")
def edge_client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpp")
    source = ROOT / "examples/edge_client"
    configure = ["cmake", "-S", str(source), "-B", str(folder)]
    if library := litert():
        configure.append(f"-DLITERT_LIBRARY={library}")
    for command in (configure, ["cmake", "--build", str(folder), "-j", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "warning" not in done.stderr
    return folder / "edge_client"


def call(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def outputs(text: str) -> dict[str, np.ndarray]:
    """The lines "name TYPE [shape]: values" of the client."""
    found = {}
    for line in text.splitlines():
        kind, values = line.split(":")
        found[kind.split()[0]] = np.array(values.split(), np.float32)
    return found


def test_bytes_of_a_cpp_device_get_the_servers_reply(
    trained, server, client, edge_client, tmp_path
):
    codec = trained.tails[0].codec
    tables, file = tmp_path / "codec.npz", tmp_path / "symbols"
    tables.write_bytes(bundle.table_bytes(codec))
    at = [server.address, "first", tables, 0]
    *places, channels = codec.shape
    for data in trained.sent[:3]:
        payload = frame.unpack(data).payload
        symbols = rans.decode(payload, int(np.prod(codec.shape)), codec.tables)
        symbols = np.moveaxis(symbols.reshape(channels, *places), 0, -1)
        file.write_bytes(np.ascontiguousarray(symbols, "<i4").tobytes())
        done = call(edge_client, *at, file)
        assert done.returncode == 0, done.stderr
        reply, printed = client.infer("first", data), outputs(done.stdout)
        assert printed["prediction"] == reply.prediction
        np.testing.assert_allclose(printed["logits"], reply.logits, 1e-5, 1e-6)
    refused = call(edge_client, server.address, "frist", tables, 0, file)
    assert refused.returncode == 1 and "did you mean 'first'" in refused.stderr
    wrong = call(edge_client, *at, tables)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr


@pytest.mark.skipif(litert() is None, reason="libLiteRt.so is not installed")
def test_a_head_runs_in_litert_under_cpp(
    trained, server, client, edge_client, tmp_path
):
    pytest.importorskip("litert_converter", reason="the extra export is not installed")
    from sc_jax.deploy.device.runtime import Runner
    from sc_jax.deploy.export import segments

    codec, images = trained.tails[0].codec, np.asarray(trained.test.images)
    head = segments.head_segment(
        trained.net, trained.variables, "encoder", codec, images
    )
    tables, model, image = (tmp_path / n for n in ("codec.npz", "head.tflite", "image"))
    tables.write_bytes(bundle.table_bytes(codec))
    model.write_bytes(head.model)
    image.write_bytes(images[0].tobytes())
    done = call(edge_client, server.address, "first", tables, 0, model, image)
    assert done.returncode == 0, done.stderr
    payload = codec.pack(symbols=Runner(head.model)(images[:1])["symbols"][0])
    reply = client.infer("first", frame.pack(4, 0, codec.shape, payload))
    printed = outputs(done.stdout)
    assert printed["prediction"] == reply.prediction
    np.testing.assert_allclose(printed["logits"], reply.logits, 1e-5, 1e-6)
