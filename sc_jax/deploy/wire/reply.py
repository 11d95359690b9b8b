"""What an edge server answers to a frame: plain data, no protobuf."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

# What a client asks for: the class and its probability, or all that the task replies.
REPLIES = PREDICTION, LOGITS = "prediction", "logits"
PROBABILITY = "probability"  # f32 of the class, an output beside the task's own
EDGE, CLOUD = "edge", "cloud"  # tiers behind the device (Teerapittayanon et al. 2017)


class ReplyError(ValueError):
    """Arrays that are no answer of the task; one line."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Who answered a frame that came to a server which forwards.

    tier: EDGE, one of its own exits, whose name is `exit`, or CLOUD, the next server.
    sent_bytes: of the frame that it forwarded, 0 where none left; seconds: of asking.
    note: why the next server did not answer though it should have, one line.
    """

    tier: str
    exit: str = ""
    sent_bytes: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one frame.

    outputs: the task's reply, arrays by name, of one example (no batch axis).
    queue_s: waited for the batch to begin; compute_s: of the whole batch of
    batch_size requests, without padding. hop: None of a server that does not forward.
    message_bytes: of the response that it was read from, 0: of none.
    """

    outputs: dict[str, np.ndarray]
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 1
    hop: Hop | None = None
    message_bytes: int = 0

    @property
    def prediction(self) -> int:
        """The class, of a task that predicts one."""
        return int(self.outputs["prediction"])

    @property
    def logits(self) -> np.ndarray:
        """f32[K], of a task that has classes."""
        return self.outputs["logits"]


def names(outputs: Collection[str]) -> list[str]:
    """What may be requested of a reply with these outputs."""
    has_class = PREDICTION in outputs and LOGITS in outputs
    return [*outputs, *([PROBABILITY] if has_class else [])]


def offered(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The task's reply, and of a class its probability too."""
    found = dict(outputs)
    if PROBABILITY in names(outputs) and PROBABILITY not in outputs:
        found[PROBABILITY] = _largest_probability(outputs[LOGITS])
    return found


def _largest_probability(logits: np.ndarray) -> np.ndarray:
    """f32[...] of logits [..., K]: of the softmax, in float64 as a device's own."""
    # Infinite ones have no difference.
    known = np.clip(logits.astype(np.float64), -1e300, 1e300)
    exps = np.exp(known - known.max(-1, keepdims=True))
    return np.asarray(1 / exps.sum(-1), np.float32)


def brief(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The class and its probability; of a task that answers with no class, all."""
    known = offered(outputs)
    if PROBABILITY not in known:
        return dict(outputs)
    return {name: known[name] for name in (PREDICTION, PROBABILITY)}


def check(outputs: Mapping[str, np.ndarray], classes: int = 0) -> None:
    """ReplyError unless this is an answer to one example.

    classes: K of the model; 0: not known. A class is a whole number below K, logits of
    classes or labels are K numbers, the probability of a class is in 0..1, and no
    output is NaN.
    """
    check_shapes({name: array[None] for name, array in outputs.items()}, 1, classes)
    check_numbers(outputs)
    if (prediction := outputs.get("prediction")) is not None:
        known = classes or len(outputs.get("logits", ())) or math.inf
        if not 0 <= int(prediction) < known:
            raise ReplyError(f"class {int(prediction)}, the model has {known}")
        if not 0 <= (probability := outputs.get(PROBABILITY, 0)) <= 1:
            raise ReplyError(f"output {PROBABILITY!r} is {probability}, not in 0..1")


def check_shapes(outputs: Mapping[str, np.ndarray], count: int, classes: int) -> None:
    """ReplyError unless these are answers to `count` examples, one behind another."""
    if not outputs:
        raise ReplyError("the answer has no outputs")
    for name, array in outputs.items():
        if np.shape(array)[:1] != (count,):
            shape = list(np.shape(array))
            raise ReplyError(f"output {name!r} is {shape}, not {count} examples")
    if "prediction" in outputs:
        prediction = outputs["prediction"]
        if prediction.ndim != 1 or prediction.dtype.kind not in "iu":
            found = f"{prediction.dtype.name}{list(prediction.shape)}"
            raise ReplyError(f"output 'prediction' is {found}, not a class an example")
        shape = np.shape(outputs.get(PROBABILITY, prediction))
        if shape != (count,):
            raise ReplyError(f"output {PROBABILITY!r} is {list(shape)}, not [{count}]")
    if is_brief(outputs):
        return
    if "prediction" in outputs or "labels" in outputs:
        shape = np.shape(outputs["logits"]) if "logits" in outputs else ()
        if len(shape) != 2 or (classes or shape[-1]) != shape[-1] or not shape[-1]:
            wanted = f"[{count}, {classes or 'K'}]"
            raise ReplyError(f"output 'logits' is {list(shape)}, not {wanted}")


def is_brief(outputs: Collection[str]) -> bool:
    """Whether these are the class and its probability, without all others."""
    return PREDICTION in outputs and PROBABILITY in outputs and LOGITS not in outputs


def check_numbers(outputs: Mapping[str, np.ndarray]) -> None:
    """ReplyError where an output is NaN: its largest would be class 0."""
    for name, array in outputs.items():
        if _has_nan(array):
            raise ReplyError(f"output {name!r} is not a number")


def all_numbers(outputs: Mapping[str, np.ndarray]) -> bool:
    return not any(map(_has_nan, outputs.values()))


def _has_nan(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
