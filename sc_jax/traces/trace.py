"""What every exit answered on a recorded set: policies are then evaluated offline."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax import foreign
from sc_jax.errors import UsageError

OPTIONAL = {"confidence", "quality", "metric"}  # fields that a file may lack
# What traces.record keeps in the same file.
RECORDED = (
    *("head_cost", "on_device", "payload_bytes", "executed"),
    *("before_cloud", "forwarded_bytes"),
)


@dataclass(frozen=True, eq=False)
class Trace:
    """One run of a net with all its exits over one split of a data set.

    The last exit is the whole network. answers: what scores read of every exit's
    answer, `Task.logits`. quality: the task's, per example; where it is None labels are
    classes and it is whether the largest logit is the label's. cost: what an answer at
    exit e takes in all, exit classifiers on the way included; MACs of one example, or
    the unit of budgets.
    """

    answers: np.ndarray  # f32[E, N, K], logits
    labels: np.ndarray  # i32[N], the classes; or the targets [N, ...] of another task
    cost: np.ndarray  # f64[E], never falling
    net: str  # whose it is: recipe, setting, seed and step, as the caller names it
    exits: tuple[str, ...]  # [E], as Outputs.predictions names them; the last "final"
    split: str  # "train", "validation", "test": solvers refuse the last
    confidence: np.ndarray | None = None  # f32[E, N] in 0..1, learned confidences
    quality: Any = None  # f32[E, N], higher is better
    metric: str = "accuracy"  # the name of the quality

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", _as(self.answers, np.float32))
        kind = np.int32 if self.quality is None else None
        object.__setattr__(self, "labels", _as(self.labels, kind))
        object.__setattr__(self, "cost", _as(self.cost, np.float64))
        object.__setattr__(self, "exits", tuple(self.exits))
        if self.confidence is not None:
            object.__setattr__(self, "confidence", _as(self.confidence, np.float32))
        shape, problem = self.answers.shape, ""
        if len(shape) != 3 or 0 in shape or shape[2] < 2:
            problem = f"answers of exits, examples, 2 or more classes, not {shape}"
        elif self.labels.shape[:1] != shape[1:2]:
            problem = f"{self.labels.size} labels for {shape[1]} examples"
        elif self.cost.shape != shape[:1] or len(self.exits) != shape[0]:
            found = f"{self.cost.size} costs and {len(self.exits)} names"
            problem = f"{found} for {shape[0]} exits"
        elif len(set(self.exits)) != len(self.exits):
            problem = f"two exits have one name: {', '.join(self.exits)}"
        elif self.quality is None and not are_classes(self.labels, shape[2]):
            problem = f"labels are 0..{shape[2] - 1}, one is not"
        elif not np.isfinite(self.cost).all() or (np.diff(self.cost) < 0).any():
            problem = f"costs never fall from exit to exit: {self.cost.tolist()}"
        elif not (self.cost[0] >= 0 and self.cost[-1] > 0):
            problem = f"costs are 0 or more, the last above: {self.cost.tolist()}"
        elif not np.isfinite(self.answers).all():
            e, n, _ = np.argwhere(~np.isfinite(self.answers))[0]
            problem = f"exit {self.exits[e]!r}, example {n}: logits NaN or infinite"
        elif not self.split:
            problem = "the split has no name"
        elif self.confidence is not None:
            problem = _confidence(self.confidence, shape[:2])
        if problem:
            raise UsageError(f"trace: {problem}")
        right = self.answers.argmax(-1) == self.labels if self.quality is None else None
        quality = _as(self.quality if right is None else right, np.float32)
        if quality.shape != shape[:2] or not np.isfinite(quality).all():
            raise UsageError(f"trace: quality is finite numbers {list(shape[:2])}")
        object.__setattr__(self, "quality", quality)


def are_classes(labels: np.ndarray, classes: int) -> bool:
    """Whether labels are i[N] in 0..K-1."""
    whole = labels.ndim == 1 and labels.dtype.kind in "iu"
    return whole and bool(labels.min() >= 0 and labels.max() < classes)


def class_labels(trace: Trace) -> np.ndarray:
    """i32[N]; UsageError where the task of the trace predicts no class."""
    if not are_classes(trace.labels, trace.answers.shape[2]):
        raise UsageError(
            f"labels of this trace are no classes, its quality is {trace.metric}: a "
            "policy that is solved for budget, accuracy or lost"
        )
    return trace.labels.astype(np.int32)


def _confidence(confidence: np.ndarray, shape: tuple[int, ...]) -> str:
    """What is wrong with confidences of exits and examples; "" for nothing."""
    if confidence.shape != shape:
        found = list(confidence.shape)
        return f"confidences are {list(shape)}, exits and examples: {found}"
    if not ((confidence >= 0) & (confidence <= 1)).all():
        return "confidences are probabilities in 0..1, one is not"
    return ""


def save(trace: Trace, path: str | Path) -> None:
    """Writes the trace as .npz, in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    fields = {f.name: getattr(trace, f.name) for f in dataclasses.fields(trace)}
    if trace.confidence is None:
        del fields["confidence"]
    try:
        with draft.open("wb") as file:
            np.savez_compressed(file, **fields)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: str | Path, net: str | None = None) -> Trace:
    """The trace of a file; refused where it is of another net than `net`."""
    if not Path(path).is_file():
        raise UsageError(f"no trace at {str(path)!r}")
    with foreign.reading(path, "trace", "record it again: launch.train, same command"):
        found = from_arrays(foreign.read_arrays(path))
    if net is not None:
        of_net(found, net)
    return found


def from_arrays(arrays: dict[str, np.ndarray]) -> Trace:
    """Of a file's arrays, of a recorded one's too; KeyError, ValueError, UsageError."""
    names = {f.name for f in dataclasses.fields(Trace)}
    # Answers were called predictions, and quality was that of labels.
    old = {"answers": "predictions"} if "predictions" in arrays else {}
    known = names | {*old.values(), *RECORDED}
    if others := arrays.keys() - known:
        raise ValueError(f"it holds {', '.join(sorted(others))}, which no trace does")
    fields: dict[str, Any] = {
        name: arrays[old.get(name, name)]
        for name in names - OPTIONAL | OPTIONAL & arrays.keys()
    }
    words = {"net", "split", "metric"} & set(fields)
    fields |= {name: str(fields[name]) for name in words}
    return Trace(**{**fields, "exits": tuple(map(str, fields["exits"]))})


def of_net(trace: Trace, net: str, exits: Sequence[str] | None = None) -> Trace:
    """The trace itself; UsageError where it was recorded from another net."""
    if trace.net != net:
        raise UsageError(f"the trace is of net {trace.net!r}, not of {net!r}")
    if exits is not None and tuple(exits) != trace.exits:
        known, wanted = ", ".join(trace.exits), ", ".join(exits)
        raise UsageError(f"the trace is of a net with exits {known}, not {wanted}")
    return trace


def for_fitting(trace: Trace) -> Trace:
    """The trace itself; UsageError where it is of the test split."""
    if trace.split == "test":
        raise UsageError(
            "nothing is fitted on the test split: record a trace of a validation split"
        )
    return trace


def subset(trace: Trace, index: np.ndarray) -> Trace:
    """The examples of `index` (whole numbers or a mask), same split."""
    confidence = trace.confidence
    return dataclasses.replace(
        trace,
        answers=trace.answers[:, index],
        labels=trace.labels[index],
        confidence=None if confidence is None else confidence[:, index],
        quality=trace.quality[:, index],
    )


@dataclass(frozen=True)
class Outcome:
    """What a policy gives on a split; the cost counts exit classifiers on the way."""

    split: str
    examples: int
    accuracy: float  # share in 0..1; of another task the mean quality
    mean_cost: float  # in the trace's unit
    cost_share: float  # of the whole network's
    exit_shares: tuple[float, ...]  # [E], sum 1
    recalls: tuple[float | None, ...]  # [K]; None: no such class; (): no classes
    metric: str = "accuracy"  # the name of the quality


def outcome(trace: Trace, taken: np.ndarray) -> Outcome:
    """Accuracy, mean cost, use of the exits and recalls when `taken` i32[N] answer."""
    exits, examples, classes = trace.answers.shape
    if taken.shape != (examples,) or not ((taken >= 0) & (taken < exits)).all():
        raise UsageError(f"exits taken are {examples} numbers in 0..{exits - 1}")
    own = np.arange(examples)
    recalls: tuple[float | None, ...] = ()
    if are_classes(trace.labels, classes):
        right = trace.answers[taken, own].argmax(-1) == trace.labels
        of_class = np.bincount(trace.labels, minlength=classes)
        found = np.bincount(trace.labels[right], minlength=classes).tolist()
        recalls = tuple(f / n if n else None for f, n in zip(found, of_class))
    mean_cost = float(trace.cost[taken].mean())
    return Outcome(
        split=trace.split,
        examples=examples,
        accuracy=float(trace.quality[taken, own].mean(dtype=np.float64)),
        mean_cost=mean_cost,
        cost_share=mean_cost / float(trace.cost[-1]),
        exit_shares=tuple((np.bincount(taken, minlength=exits) / examples).tolist()),
        recalls=recalls,
        metric=trace.metric,
    )


def _as(value: object, dtype: type | None) -> np.ndarray:
    try:
        return np.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise UsageError(f"trace: {error}") from None
