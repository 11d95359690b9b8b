"""Messages laid out by hand are those of Protocol Buffers."""

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("google.protobuf")

from sc_jax.deploy.wire import layout, protocol
from sc_jax.deploy.wire.protocol import InferRequest, InferResponse
from sc_jax.deploy.wire.reply import Reply, ReplyError, check

OUTPUTS = {
    "logits": np.arange(10, dtype=np.float32) - 3,
    "prediction": np.int64(7),
    "boxes": np.ones((2, 3, 4), np.uint8),
    "none": np.zeros((0, 4), np.float16),
}


def built(request, reply, names):
    """The response field by field."""
    message = InferResponse(model_name=request.model_name, model_version="1")
    message.id = request.id
    message.parameters["queue_s"].double_param = reply.queue_s
    message.parameters["compute_s"].double_param = reply.compute_s
    message.parameters["batch_size"].int64_param = reply.batch_size
    for name in names:
        array = reply.outputs[name]
        datatype = protocol.DATATYPES[array.dtype.name]
        message.outputs.add(name=name, datatype=datatype, shape=(1, *array.shape))
        message.raw_output_contents.append(array.tobytes())
    return message


def same(one, other):
    assert (one.queue_s, one.compute_s, one.batch_size) == (
        other.queue_s, other.compute_s, other.batch_size,
    )  # fmt: skip
    assert list(one.outputs) == list(other.outputs)
    for name, array in one.outputs.items():
        assert array.dtype == other.outputs[name].dtype
        assert array.shape == other.outputs[name].shape
        assert array.tobytes() == other.outputs[name].tobytes()


@pytest.mark.parametrize("size", [0, 1, 123, 124, 16379, 16380, 3 << 20])
@pytest.mark.parametrize("model", ["m", "größer", "x" * 200])
def test_a_request_is_that_of_protobuf(model, size):
    frame = bytes(range(256)) * (size // 256 + 1)
    wanted = protocol.infer_request(model, frame[:size])
    assert layout.request(model, frame[:size]) == wanted.SerializeToString()
    wanted = protocol.infer_request(model, frame[:size], 0.25)
    assert InferRequest.FromString(layout.request(model, frame[:size], 0.25)) == wanted


@pytest.mark.parametrize("count", [0, 1, 127, 128, 5000])
@pytest.mark.parametrize("names", [(), ("prediction",), ("boxes", "logits")])
@pytest.mark.parametrize("own", ["", "a request's id"])
def test_a_response_is_that_of_protobuf(count, names, own):
    request, reply = (
        InferRequest(model_name="m", id=own),
        Reply(OUTPUTS, 1e-3, 2, count),
    )
    for name in names:
        request.outputs.add(name=name)
    data = layout.response(request, reply)
    wanted = built(request, reply, names or OUTPUTS)
    assert InferResponse.FromString(data) == wanted
    read = layout.Reader()
    for _ in range(2):  # by protobuf, then by the layout
        same(read(data), protocol.reply_of(wanted))
    assert (read._last.read(data) is None) == (bool(own) or count > layout.LARGEST)
    same(read(wanted.SerializeToString()), protocol.reply_of(wanted))


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("own", ["", "a7"])
def test_a_brief_response_has_the_class_and_its_probability_in_some_tens_of_bytes(
    classes, own
):
    logits = np.random.default_rng(classes).normal(0, 3, classes).astype(np.float32)
    outputs = {"prediction": np.int64(logits.argmax()), "logits": logits}
    asked = InferRequest.FromString(
        layout.request("entropic_student-0123456789ab", b"", reply="prediction")
    )
    asked.id = own
    data = layout.response(asked, Reply(outputs, 1e-3, 2, 5000))
    shares = np.exp(logits.astype(np.float64) - logits.max())
    likely = np.float32(1 / shares.sum())
    wanted = InferResponse(id=own)
    for name, kind, value in (
        ("prediction", "INT64", outputs["prediction"]),
        ("probability", "FP32", likely),
    ):
        wanted.outputs.add(name=name, datatype=kind, shape=(1,))
        wanted.raw_output_contents.append(value.tobytes())
    assert InferResponse.FromString(data) == wanted
    assert len(data) == len(wanted.SerializeToString()) == 64 + ((own and 4) or 0)
    read = layout.Reader()
    for _ in range(2):  # by protobuf, then by the layout
        reply = read(data)
        assert {k: v.item() for k, v in reply.outputs.items()} == {
            "prediction": logits.argmax(), "probability": likely,
        }  # fmt: skip
        assert (reply.batch_size, reply.message_bytes) == (1, len(data))
    assert (read._last.read(data) is None) == bool(own)
    # What an older server makes of it: all, as of a request without.
    del asked.parameters["reply"]
    assert set(read(layout.response(asked, Reply(outputs))).outputs) == set(outputs)


def test_a_brief_response_of_a_task_without_a_class_has_all_of_it():
    asked = InferRequest.FromString(layout.request("m", b"", reply="prediction"))
    for names in (("boxes", "none"), ("logits",)):
        outputs = {name: OUTPUTS[name] for name in names}
        reply = layout.Reader()(layout.response(asked, Reply(outputs)))
        assert list(reply.outputs) == list(names)


def test_a_reader_goes_from_one_layout_to_another():
    request, read = InferRequest(model_name="m"), layout.Reader()
    for names in (
        ["logits"],
        ["logits"],
        ["boxes"],
        ["logits"],
        ["prediction", "none"],
    ):
        reply = Reply({name: OUTPUTS[name] for name in names}, 0.5, 0.25, 3)
        same(read(layout.response(request, reply)), reply)


def test_a_response_without_outputs_is_read_and_no_answer():
    hop = InferResponse(parameters={"tier": {"string_param": "cloud"}})
    read = layout.Reader()
    for data in (b"", hop.SerializeToString(), b""):
        reply = read(data)
        assert reply.outputs == {} and reply.message_bytes == len(data)
        with pytest.raises(ReplyError, match="no outputs"):
            check(reply.outputs)


@pytest.mark.parametrize("value", [OUTPUTS["logits"], np.float32(7), np.float32("inf")])
def test_a_probability_is_one_number_in_0_to_1(value):
    brief = {"prediction": np.asarray(1), "probability": np.asarray(value)}
    for outputs in (brief, brief | {"logits": OUTPUTS["logits"]}):
        with pytest.raises(ReplyError, match="'probability' is"):
            check(outputs)
        check(outputs | {"probability": np.asarray(0.5, np.float32)})


def test_a_reader_keeps_little_of_what_a_server_sends():
    read = layout.Reader()
    tracemalloc.start()
    for number in range(50):
        request = InferRequest(model_name=f"{number}" + "x" * (1 << 18))
        read(built(request, Reply(OUTPUTS), ["logits"]).SerializeToString())
    del request
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * layout.KEPT << 18  # of a layout its name and its bytes


@pytest.mark.parametrize("flip", [1, 0x80, 0xFF])
def test_of_changed_bytes_a_layout_reads_what_protobuf_reads(flip):
    request = InferRequest(model_name="m")
    data = layout.response(request, Reply(OUTPUTS, 0.5, 0.25, 3))
    refused = 0
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
        read = layout.Reader()
        read(data)
        try:
            wanted = layout.Reader()(changed)  # has no layout yet
        except protocol.TensorError:
            refused += 1
            with pytest.raises(protocol.TensorError):
                read(changed)
        else:
            same(read(changed), wanted)
    assert 0 < refused < len(data)
