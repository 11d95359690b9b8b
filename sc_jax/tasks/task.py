"""What a network is for: its quality, its reply, what an exit's score reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sc_jax.errors import UsageError, unknown

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A kind of answer, as plain functions of it; B, or N of a whole set, leads.

    An answer is what an exit gives (`Outputs.predictions`): an array or a pytree. The
    functions use array methods, or `namespace` of an array, so that they serve NumPy
    and, under jit, JAX.

    metrics(answer, batch) -> {name: [B, ...]}; batch holds input and targets. A metric
        of shape [B] is one number an example; further axes are for `summary` alone.
    quality: the metric f32[B] that traces keep and budgets are about, higher is better.
    summary({name: [N, ...]}) -> {name: float}: of a set, from its examples' metrics.
    figure: the one of `summary` that reports show, higher is better.
    reply(answer) -> named arrays [B, ...]: what a server sends and a device returns.
    logits(answer) -> f32[B, K]: what confidence scores read.
    unit: of `figure`; "%" for a share in 0..1, which reports multiply by 100.
    input, target: names in a batch of what the net reads and what losses compare to.
        Their shapes and types are the data set's (`Dataset.example`), not the task's.
    """

    name: str
    metrics: Callable[[Any, Mapping[str, Any]], dict[str, Any]]
    quality: str
    summary: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
    figure: str
    reply: Callable[[Any], dict[str, Any]]
    logits: Callable[[Any], Any]
    unit: str = "%"
    input: str = "image"
    target: str = "label"


def probabilities(reply: Mapping[str, Any]) -> np.ndarray:
    """f64[..., K] of a reply: of classes that sum to 1, or of each label by itself.

    Softmax of the logits where there is a prediction, sigmoid where there are labels;
    [0] where the reply has neither, or no logits.
    """
    if "logits" not in reply:
        return np.zeros(0)
    if "labels" in reply:
        logits = np.asarray(reply["logits"], np.float64)
        return 0.5 * (1 + np.tanh(0.5 * logits))  # no overflow, as of exp
    if "prediction" not in reply:
        return np.zeros(0)
    # Infinite ones have no difference.
    return softmax(np.clip(np.asarray(reply["logits"], np.float64), -1e300, 1e300))


def means(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The summary of metrics that are averages over examples."""
    # In float64: a float32 mean of 0 and 1 is off in the eighth digit.
    return {n: float(np.mean(v, dtype=np.float64)) for n, v in metrics.items()}


def namespace(array: Any) -> Any:
    """numpy or jax.numpy, whichever the array is of (the array API standard)."""
    return array.__array_namespace__()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits [..., K], in their own float type; of [0], [0]."""
    # Less the largest: exp overflows above 88 in float32.
    exps = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return exps / exps.sum(-1, keepdims=True)


def check(task: Task, answer: Any, batch: Mapping[str, Any]) -> None:
    """UsageError, one line, unless the task's functions can read this answer.

    answer, batch: arrays with leading B, or tracers of jax.eval_shape: only shapes are
    read. A function of the task that raises is named, with what it raised.
    """
    size = len(batch[task.target])
    metrics = _call(task, "metrics", answer, batch)
    if task.quality not in metrics:
        raise unknown(f"quality of task {task.name!r}", task.quality, metrics)
    for name, value in metrics.items():
        _leads(task, f"metrics[{name!r}]", value, size)
    _shape(task, f"metrics[{task.quality!r}]", metrics[task.quality], "[B]", 1)
    logits = _call(task, "logits", answer)
    _shape(task, "logits", logits, "[B, K]", 2)
    _leads(task, "logits", logits, size)
    for name, value in _call(task, "reply", answer).items():
        _leads(task, f"reply[{name!r}]", value, size)
    # Zeros of two examples: summaries are NumPy and cannot be traced.
    two = {n: np.zeros((2, *v.shape[1:]), np.float32) for n, v in metrics.items()}
    figures = _call(task, "summary", two)
    if task.figure not in figures:
        raise unknown(f"figure of task {task.name!r}", task.figure, figures)


def _call(task: Task, function: str, *arguments: Any) -> Any:
    try:
        return getattr(task, function)(*arguments)
    except UsageError:
        raise
    except Exception as error:
        # jax's messages run over many lines; users get one.
        text = " ".join(str(error).split())[:200]
        raise UsageError(
            f"task {task.name!r}: {function} cannot read the net's answer: "
            f"{type(error).__name__}: {text}"
        ) from error


def _shape(task: Task, what: str, value: Any, wanted: str, rank: int) -> None:
    if len(value.shape) != rank:
        raise UsageError(
            f"task {task.name!r}: {what} has shape {tuple(value.shape)}, not {wanted}"
        )


def _leads(task: Task, what: str, value: Any, size: int) -> None:
    shape = tuple(getattr(value, "shape", ()))
    if shape[:1] != (size,):
        raise UsageError(
            f"task {task.name!r}: {what} has shape {shape}, it must begin with the "
            f"batch's {size} examples"
        )
