"""What the edge server says about itself and its models: alive, ready, metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from sc_jax.deploy.server.infer import find
from sc_jax.deploy.server.portable import Tail
from sc_jax.deploy.server.refusals import parsed
from sc_jax.deploy.wire import protocol
from sc_jax.deploy.wire.reply import offered


def answers(
    models: Mapping[str, Sequence[Tail]],
    compiled: Mapping[str, object],
    well: Callable[[], bool],
) -> dict[str, Callable[[bytes, Any], bytes]]:
    """Method -> (message, gRPC's context) -> its response's bytes; may raise Refused.

    compiled: holds the ids of `models` that answer by now. well: whether the server
    takes requests: it does not drain, and no batch is stuck.
    """

    def server_live(request):
        return {"live": True}

    def server_ready(request):
        # Models are compiled in turn; a batcher appears when its model is through.
        return {"ready": len(compiled) == len(models) and well()}

    def model_ready(request):
        return {"ready": request.name in compiled and well()}

    def server_metadata(request):
        return {"name": "sc_jax", "version": version("sc_jax")}

    def model_metadata(request):
        return metadata(request.name, find(models, request.name, request.version))

    methods = {
        "ServerLive": server_live,
        "ServerReady": server_ready,
        "ModelReady": model_ready,
        "ServerMetadata": server_metadata,
        "ModelMetadata": model_metadata,
    }
    return {name: _method(name, fields) for name, fields in methods.items()}


def _method(name: str, fields: Callable[[Any], dict[str, Any]]) -> Callable:
    request = protocol.message(f"{name}Request")
    response = protocol.message(f"{name}Response")

    def answer(message, context):
        return response(**fields(parsed(request, message))).SerializeToString()

    return answer


def metadata(name: str, tails: Sequence[Tail]) -> dict[str, Any]:
    """Fields of a ModelMetadataResponse; every split answers with the same outputs.

    Those not requested are the first, without the probability of the class.

    The first output's parameters hold the task and, as JSON, the labels of classes.
    """
    outputs = [
        {
            "name": output,
            "datatype": protocol.DATATYPES[zeros.dtype.name],
            "shape": (1, *zeros.shape[1:]),
        }
        for output, zeros in offered(tails[0].outputs()).items()
    ]
    facts = {"task": tails[0].task, "labels": json.dumps(tails[0].labels)}
    outputs[0]["parameters"] = {
        key: {"string_param": text} for key, text in facts.items()
    }
    return {
        "name": name,
        "versions": (protocol.VERSION,),
        "platform": "sc_jax",
        "inputs": [{"name": protocol.FRAME, "datatype": "BYTES", "shape": (1,)}],
        "outputs": outputs,
    }
