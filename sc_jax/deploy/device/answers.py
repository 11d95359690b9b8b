"""A device's answers to many images: as JSON lines, and in a few words. NumPy only."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sc_jax.data import folders, sources
from sc_jax.data.dataset import Dataset
from sc_jax.deploy.device.device import DEVICE, NOWHERE, Answer, Device
from sc_jax.deploy.device.following import Follower
from sc_jax.deploy.wire.reply import CLOUD, EDGE, LOGITS, PREDICTION
from sc_jax.errors import UsageError

STEPS = ("head", "code", "edge")  # one after another; a cloud's part is in the edge's


def wanted(reply: str | None, top: int) -> str:
    """What a server is asked for, one of REPLIES: the class alone where that does.

    reply: as it was set, None: not. UsageError where it is less than `top` needs.
    """
    if reply == PREDICTION and top > 1:
        raise UsageError(f"--top={top} needs every class: --reply={LOGITS}")
    return reply or (PREDICTION if top == 1 else LOGITS)


def images_of(name: str, shape: tuple[int, ...], limit: int) -> Dataset:
    """Some images of a data set's test part, or of any folder or zip of images.

    Class folders give labels; images in none are of class "unknown". shape: [H, W, C]
    that the head takes; others are resized and turned grey or coloured
    (`Dataset.fitted`). The order is shuffled by a fixed seed, so that `limit` images
    are of all classes.
    """
    if name.partition(":")[0] in (*sources.SOURCES, sources.ONLY):
        found = sources.load(name, "test")
    else:
        found = folders.load_pictures(name).readable()
    order = np.random.default_rng(0).permutation(len(found))[:limit]
    if not found.files:  # a set that has no files names its examples by number
        found = replace(found, files=tuple(map(str, range(len(found)))))
    return found.take(order).fitted(shape)


def answer_all(
    runtime: Device | Follower,
    examples: Dataset,
    add: Callable[[dict[str, Any]], None] | None,
    top: int = 1,
) -> None:
    """Answers every image, `add`s its row at once; prints a summary however it ends."""
    results, labels = [], runtime.bundle.labels
    try:
        for i in tqdm(range(len(examples)), "images", disable=None):
            answer = runtime.infer(examples.image(i))
            if add is not None:
                add(row(answer, examples.files[i], labels, top))
            results.append(answer)
    finally:
        printed = summary(results, examples, labels)
        if lost := runtime.breaker.summary():
            printed.append(lost)
        if len(results) < len(examples):
            printed.append(f"ended after {len(results)} of {len(examples)} images")
        print("\n".join(printed), flush=True)


def rows(
    answers: Sequence[Answer], examples: Dataset, labels: Sequence[str], top: int = 1
) -> Iterator[dict[str, Any]]:
    """One dict an answer, in the order of `examples`: file, class, probability, times.

    top: how many classes, likeliest first, each with its probability; of a server that
    was asked for the class alone one.
    """
    for answer, file in zip(answers, examples.files):
        yield row(answer, file, labels, top)


def row(
    answer: Answer, file: str, labels: Sequence[str], top: int = 1
) -> dict[str, Any]:
    """One answer, as `rows` says; a class that no label names has its number."""
    known = answer.probabilities
    likely = [(k, known[k]) for k in np.argsort(-known, kind="stable")[:top]]
    if not likely and answer.prediction is not None:
        likely = [(answer.prediction, answer.probability or 0.0)]
    classes = [
        {"class": labels[k] if k < len(labels) else str(k), "probability": float(p)}
        for k, p in likely
    ]
    return {
        "image": file,
        **(classes[0] if classes else {"class": None, "probability": None}),
        **_labels(answer, labels),
        **({"top": classes} if top > 1 else {}),
        **({"choice": answer.choice} if answer.choice else {}),
        "exit": answer.exit,
        "tier": answer.tier,
        "sent_bytes": answer.sent_bytes,
        "forwarded_bytes": answer.forwarded_bytes,
        "reply_bytes": answer.reply_bytes,
        "seconds": answer.seconds,
        "note": answer.note,
    }


def _labels(answer: Answer, names: Sequence[str]) -> dict[str, list[str]]:
    """Of a task that answers with several labels at once: those in the answer."""
    if "labels" not in answer.outputs:
        return {}
    return {"labels": [n for n, has in zip(names, answer.outputs["labels"]) if has]}


@contextmanager
def lines(file: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A new file of JSON lines, and what adds one: whole, and at once.

    UsageError, before anything is written, for a file that cannot be made, and for a
    line that does not fit; those before it stay. Nothing written leaves no file.
    """
    try:
        opened = file.open("xb", buffering=0)
    except FileExistsError:
        what = "is a folder" if file.is_dir() else "exists"
        raise UsageError(f"{file} {what}; give another --out") from None
    except FileNotFoundError:
        raise UsageError(f"{file}: make its folder first") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
    kept = 0

    def add(line: dict[str, Any]) -> None:
        nonlocal kept
        # One call of the system a line: who reads along, or a kill, sees no half.
        data = (json.dumps(line) + "\n").encode()
        try:
            if opened.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                opened.truncate(kept)
            raise UsageError(f"{file} cannot be written: {error.strerror}") from None
        kept += len(data)

    try:
        yield add
    finally:
        opened.close()
        if not kept:
            file.unlink(missing_ok=True)


def summary(
    answers: Sequence[Answer], examples: Dataset, labels: Sequence[str]
) -> list[str]:
    """Lines for a person: where answers came from, accuracy, bytes, milliseconds.

    answers: to the first of the examples, or to all.
    """
    if not answers:
        return [f"answered 0 of {len(examples)}"]
    answered = [a.answered for a in answers]
    predicted = any(a.prediction is not None for a in answers)
    exits = Counter(a.exit for a in answers)
    where = ", ".join(f"{name} {count}" for name, count in exits.most_common())
    lines = [f"answered {sum(answered)} of {len(answers)} ({where})"]
    if predicted and {*examples.classes} - {"unknown"} <= set(labels):
        truth = [examples.classes[k] for k in examples.labels]
        right = [
            a.prediction is not None and labels[a.prediction] == t
            for a, t in zip(answers, truth)
            if t in labels
        ]
        if right:
            lines.append(f"top-1 {100 * np.mean(right):.2f} % of {len(right)} images")
    notes = Counter(a.note for a in answers if a.note)
    # A lost link gives a thousand notes of one kind.
    lines += [f"{count} x {note}" for note, count in notes.most_common(3)]
    lines += _hops(answers)
    for step in (*STEPS, "cloud"):
        spent = [1e3 * a.seconds[step] for a in answers if step in a.seconds]
        if spent:
            p95 = np.percentile(spent, 95)
            lines.append(f"{step}: median {np.median(spent):.3f} ms, p95 {p95:.3f} ms")
    return lines + _choices(answers)


def _choices(answers: Sequence[Answer]) -> list[str]:
    """How many images each of a plan's choices answered, and their mean time."""
    counts = Counter(a.choice for a in answers if a.choice)
    found = []
    for name, count in counts.most_common():
        each = [a.seconds for a in answers if a.choice == name]
        spent = [1e3 * sum(s.get(step, 0.0) for step in STEPS) for s in each]
        found.append(f"{name}: {count} images, mean {np.mean(spent):.3f} ms")
    return found


def _hops(answers: Sequence[Answer]) -> list[str]:
    """Bytes an image; of an edge that forwards, those of both hops, and the tiers.

    Of replies the mean over those that came.
    """
    sent, forwarded = (
        np.mean([getattr(a, name) for a in answers])
        for name in ("sent_bytes", "forwarded_bytes")
    )
    line = f"sent {sent:.1f} bytes an image, framed"
    if came := [a.reply_bytes for a in answers if a.reply_bytes]:
        line += f"; a reply has {np.mean(came):.1f}"
    tiers = Counter(a.tier for a in answers)
    names = [name for name in (DEVICE, EDGE, CLOUD, NOWHERE) if tiers[name]]
    forwards = any(a.forwarded_bytes or a.tier == CLOUD for a in answers)
    if not forwards and not any(a.tier == EDGE != a.exit for a in answers):
        return [line]
    counts = ", ".join(f"{name} {tiers[name]}" for name in names)
    return [
        f"answers by tier: {counts}",
        f"{line}; from edge to cloud {forwarded:.1f}",
    ]
