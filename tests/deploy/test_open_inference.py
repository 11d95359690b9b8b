"""The Open Inference Protocol: a client of others, the published numbers, damage."""

import json
from pathlib import Path

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("prometheus_client")
triton = pytest.importorskip("tritonclient.grpc")

from edge_tools import RAW, rejects, still, wait_until  # noqa: E402
from tritonclient.grpc import service_pb2  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

from sc_jax.deploy.server import describe  # noqa: E402
from sc_jax.deploy.wire import layout, proto_text, protocol  # noqa: E402
from sc_jax.deploy.wire.client import Client  # noqa: E402
from sc_jax.deploy.wire.protocol import SERVICE, TensorError  # noqa: E402
from sc_jax.deploy.wire.reply import Reply  # noqa: E402


@pytest.fixture
def tritonclient(server):
    with triton.InferenceServerClient(server.address) as client:
        yield client


def tensor(data, name="frame", shape=(1,), datatype="BYTES"):
    found = triton.InferInput(name, shape, datatype)
    if datatype == "BYTES":
        found.set_data_from_numpy(np.array([data] * shape[0], object))
    else:
        found.set_data_from_numpy(np.array([data], np.float32))
    return found


def test_tritons_client_gets_the_same_reply(trained, client, tritonclient):
    for data in trained.sent[:5]:
        result = tritonclient.infer("first", [tensor(data)], request_id="a7")
        reply = client.infer("first", data)
        assert set(reply.outputs) == {"logits", "prediction"}
        logits, prediction = map(result.as_numpy, ("logits", "prediction"))
        assert (logits.shape, logits.dtype) == ((1, 10), np.float32)
        assert (prediction.shape, prediction.dtype) == ((1,), np.int64)
        np.testing.assert_allclose(logits[0], reply.logits, rtol=1e-5, atol=1e-6)
        assert prediction[0] == logits.argmax() == reply.prediction
        response = result.get_response()
        assert (response.id, response.model_name) == ("a7", "first")
        timing = {k: protocol.parameter(v) for k, v in response.parameters.items()}
        assert timing["batch_size"] == 1 and 0 < timing["compute_s"] < 5
        assert timing["queue_s"] >= 0


def test_tritons_client_asks_for_one_output_and_a_deadline(tritonclient):
    outputs = [triton.InferRequestedOutput("prediction")]
    result = tritonclient.infer(
        "still", [tensor(RAW)], outputs=outputs, timeout=5_000_000
    )
    assert result.as_numpy("prediction") == [0] and result.as_numpy("logits") is None
    found = []

    def keep(result, error):
        found.append((result, error))

    tritonclient.async_infer("still", [tensor(RAW)], keep)
    wait_until(lambda: found)
    assert found[0][1] is None
    np.testing.assert_array_equal(found[0][0].as_numpy("logits"), [[2, 2]])


def test_tritons_client_asks_for_the_class_alone(trained, client, tritonclient):
    names = ("prediction", "probability")
    outputs = [triton.InferRequestedOutput(name) for name in names]
    for data in trained.sent[:3]:
        logits = client.infer("first", data).logits.astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum()
        result = tritonclient.infer("first", [tensor(data)], outputs=outputs)
        brief = tritonclient.infer(
            "first", [tensor(data)], request_id="a7", parameters={"reply": names[0]}
        )
        for found in (result, brief):
            assert found.as_numpy("logits") is None
            assert found.as_numpy(names[0]) == [logits.argmax()]
            likely = found.as_numpy(names[1])
            assert (likely.shape, likely.dtype) == ((1,), np.float32)
            np.testing.assert_allclose(likely, shares.max(), rtol=1e-5)
        assert result.get_response().model_name == "first"
        assert result.get_response().parameters["batch_size"].int64_param == 1
        assert not brief.get_response().parameters
        assert brief.get_response().id == "a7"


def test_tritons_client_reads_what_is_served(server, tritonclient, start):
    assert tritonclient.is_server_live() and tritonclient.is_server_ready()
    assert tritonclient.is_model_ready("first")
    assert not tritonclient.is_model_ready("frist")
    assert tritonclient.get_server_metadata().name == "sc_jax"
    found = tritonclient.get_model_metadata("first", as_json=True)
    assert (found["name"], found["versions"]) == ("first", ["1"])
    assert found["inputs"] == [{"name": "frame", "datatype": "BYTES", "shape": ["1"]}]
    assert found["outputs"] == [
        {"name": "logits", "datatype": "FP32", "shape": ["1", "10"]},
        {"name": "prediction", "datatype": "INT64", "shape": ["1"]},
        {"name": "probability", "datatype": "FP32", "shape": ["1"]},
    ]
    with Client(server.address) as client:
        assert client.ready("still") and not client.ready("nobody")
        facts, *_ = client.metadata("still")["outputs"]
    parameters = {k: v["stringParam"] for k, v in facts["parameters"].items()}
    assert parameters["task"] == "classification"
    assert json.loads(parameters["labels"]) == ["a", "b"]


def test_the_mistakes_of_tritons_client_are_one_line_and_counted(tritonclient, server):
    wrong = [
        ("frist", [tensor(RAW)], {}, "model", "NOT_FOUND", "did you mean"),
        ("still", [tensor(RAW)], {"model_version": "7"}, "model", "NOT_FOUND", "7"),
        ("still", [tensor(RAW, "image")], {}, "message", "INVALID", "image"),
        ("still", [tensor(RAW, shape=(2,))], {}, "message", "INVALID", "[2]"),
        ("still", [tensor(RAW)] * 2, {}, "message", "INVALID", "inputs"),
        ("still", [tensor(1.0, datatype="FP32", shape=(1,))], {}, "message",
         "INVALID", "FP32"),
        ("still", [tensor(RAW)], {"outputs": [triton.InferRequestedOutput("boxes")]},
         "message", "INVALID", "boxes"),
        ("still", [tensor(RAW)], {"parameters": {"budget_s": -1}}, "budget",
         "INVALID", "budget_s"),
        ("still", [tensor(RAW)], {"parameters": {"budget_s": "soon"}}, "budget",
         "INVALID", "soon"),
        ("still", [tensor(RAW)], {"parameters": {"reply": "labels"}}, "message",
         "INVALID", "'labels', not prediction or logits"),
        ("still", [tensor(b"junk")], {}, "frame", "INVALID", "cut short"),
    ]  # fmt: skip
    for model, inputs, options, reason, status, words in wrong:
        before = rejects(server, reason)
        with pytest.raises(InferenceServerException) as caught:
            tritonclient.infer(model, inputs, **options)
        assert status in caught.value.status() and words in caught.value.message()
        assert "\n" not in caught.value.message()
        assert rejects(server, reason) == before + 1
    with pytest.raises(InferenceServerException, match="did you mean"):
        tritonclient.get_model_metadata("frist")


def test_unknown_outputs_are_refused_before_anything_is_computed(start):
    tail = still(opened=True)
    tail.outputs = lambda: {"prediction": 0, "logits": 0}
    server = start({"still": (tail,)})
    with triton.InferenceServerClient(server.address) as client:
        outputs = [triton.InferRequestedOutput("boxes")]
        with pytest.raises(InferenceServerException, match="boxes"):
            client.infer("still", [tensor(RAW)], outputs=outputs)
    assert not tail.begun.acquire(blocking=False)


def test_a_draining_server_is_not_ready():
    for well in (False, True):
        methods = describe.answers({"a": ()}, {"a": ()}, lambda well=well: well)
        answered = methods["ServerReady"](b"", None)
        assert (
            protocol.message("ServerReadyResponse").FromString(answered).ready is well
        )
        request = protocol.message("ModelReadyRequest")(name="a").SerializeToString()
        answered = methods["ModelReady"](request, None)
        assert protocol.message("ModelReadyResponse").FromString(answered).ready is well
        answered = methods["ServerLive"](b"", None)
        assert protocol.message("ServerLiveResponse").FromString(answered).live


def test_bytes_that_are_no_message_are_refused_and_counted(start):
    server = start({"still": (still(opened=True),)})
    rng, before = np.random.default_rng(3), rejects(server, "message")
    whole = protocol.infer_request("still", RAW).SerializeToString()
    codes = []
    with grpc.insecure_channel(server.address) as channel:
        for method in protocol.METHODS:
            call = channel.unary_unary(f"/{SERVICE}/{method}")
            for data in (b"\xff", b"\x0a\x7fx", *(rng.bytes(40) for _ in range(20))):
                try:
                    call(data, timeout=5)
                except grpc.RpcError as error:
                    codes.append(error.code())
                    assert "\n" not in error.details()
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        for cut in range(len(whole)):
            with pytest.raises(grpc.RpcError) as caught:
                call(whole[:cut], timeout=5)
            codes.append(caught.value.code())
        call(whole, timeout=5)
    kinds = grpc.StatusCode
    assert set(codes) <= {kinds.INVALID_ARGUMENT, kinds.NOT_FOUND}
    assert rejects(server, "message") - before >= len(protocol.METHODS)
    assert not rejects(server, "internal")


def fields(messages, within=""):
    """(message, field, number, type, ...) of every field, from descriptors."""
    for name, message in messages.items():
        for field in message.fields:
            group, inner = field.containing_oneof, field.message_type
            yield (f"{within}{name}", field.name, field.number, field.type,
                   field.is_repeated, group and group.name,
                   inner and inner.full_name)  # fmt: skip
        yield from fields(message.nested_types_by_name, f"{within}{name}.")


def test_messages_have_the_published_names_and_numbers():
    file = protocol.POOL.FindFileByName(protocol.file_descriptor().name)
    own = set(fields(file.message_types_by_name))
    published = set(fields(service_pb2.DESCRIPTOR.message_types_by_name))
    extra = {found[:2] for found in own - published}
    tensor = "ModelMetadataResponse.TensorMetadata"
    entry = f"{tensor}.ParametersEntry"  # MLServer's; Triton has it not
    assert extra == {(tensor, "parameters"), (entry, "key"), (entry, "value")}
    assert len(own) > 60


def test_the_proto_file_is_that_of_the_descriptor():
    text = (Path(__file__).parents[2] / "docs/edge.proto").read_text()
    assert text == proto_text.proto_text(), proto_text.__doc__


def test_tensors_that_do_not_fit_are_one_line():
    request = protocol.infer_request("m", RAW)
    for raw in (b"", b"\x05\0\0\0abc", RAW):
        request.ClearField("raw_input_contents")
        request.inputs[0].ClearField("contents")
        request.raw_input_contents.append(raw)
        with pytest.raises(TensorError, match="raw contents"):
            protocol.frame_of(request)
    request.inputs[0].contents.bytes_contents.append(RAW)
    with pytest.raises(TensorError, match="1 raw and 1 typed"):
        protocol.frame_of(request)
    request.ClearField("raw_input_contents")
    assert protocol.frame_of(request) == RAW
    reply = Reply({"y": np.arange(6, dtype=np.uint8).reshape(2, 3)}, 0.5, 0.25, 3)
    answered = layout.response(protocol.infer_request("m", RAW), reply)
    response = protocol.InferResponse.FromString(answered)
    back = protocol.reply_of(response)
    np.testing.assert_array_equal(back.outputs["y"], reply.outputs["y"])
    assert (back.queue_s, back.compute_s, back.batch_size) == (0.5, 0.25, 3)
    for wrong in (b"short", b"1234567"):
        response.raw_output_contents[0] = wrong
        with pytest.raises(TensorError, match="output y"):
            protocol.reply_of(response)
