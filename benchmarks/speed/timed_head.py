"""One bundle's head on this machine: its rounds, then its profile and its energy."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.memory import resident_bytes
from benchmarks.speed.head_report import Head
from sc_jax.data import sources
from sc_jax.deploy import bundle
from sc_jax.deploy.device.runtime import Runner, in_turn, latent_of
from sc_jax.errors import UsageError
from sc_jax.plan import energy, op_profile
from sc_jax.plan.op_cost import operation_costs


@dataclass(frozen=True)
class Subject:
    """A head ready to run. times: of every round, in ms; memory: of the process,
    before loading, after it, and after the first round."""

    path: str
    models: tuple[bytes, ...]
    codec: Any  # what packs the outputs; None: a whole net, which sends nothing
    runners: list[Runner]
    images: np.ndarray
    threads: int
    start_ms: tuple[float, float]  # of loading, and of the first inference
    memory: list[int]
    times: dict[str, list[float]]
    sent: list[int] = field(default_factory=list)


def pictures(source: str, shape: tuple[int, ...], count: int = 16) -> np.ndarray:
    """uint8 [count, H, W, C] of real images, resized to a bundle's input."""
    images = sources.load(source, "test").images
    found = []
    for i in range(min(count, len(images))):
        image = images[i]
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        picture = picture.convert("L" if shape[2] == 1 else "RGB")
        found.append(np.asarray(picture.resize((shape[1], shape[0]))).reshape(shape))
    return np.stack(found)


def opened(path: str) -> tuple[bundle.Bundle, tuple[bytes, ...]]:
    """A bundle and the bytes of its head's segments."""
    own = bundle.read(Path(path))
    if own.codec is not None and not own.codec.exports:
        raise UsageError(f"{path} has no head: its codec is an image format")
    return own, tuple(own.segments.values())


def load(path: str, threads: int, source: str) -> Subject:
    own, models = opened(path)
    images = pictures(source, tuple(own.manifest["facts"]["input"]))
    # Imported before the clock starts: its memory and seconds are no head's.
    import_module("ai_edge_litert.interpreter")
    before, begun = resident_bytes(), time.perf_counter()
    runners = [Runner(model, threads) for model in models]
    init_ms = 1e3 * (time.perf_counter() - begun)
    memory = [before, resident_bytes()]
    begun = time.perf_counter()
    in_turn(runners, images[:1])
    first_ms = 1e3 * (time.perf_counter() - begun)
    memory.append(resident_bytes())
    times: dict[str, list[float]] = {"head": [], "code": [], "cpu": []}
    return Subject(
        path,
        models,
        own.codec,
        runners,
        images,
        threads,
        (init_ms, first_ms),
        memory,
        times,
    )


def turn(subject: Subject, number: int) -> None:
    """One image through head and coder, no exit taken; appends to the times."""
    image = subject.images[number % len(subject.images)][None]
    begun, cpu = time.perf_counter(), time.process_time()
    outputs = in_turn(subject.runners, image)
    ran, spent = time.perf_counter(), time.process_time()
    payload = b""
    if subject.codec is not None:
        latent = {k: v[0] for k, v in latent_of(outputs).items()}
        payload = subject.codec.pack(**latent)
    done = time.perf_counter()
    subject.times["head"].append(1e3 * (ran - begun))
    subject.times["code"].append(1e3 * (done - ran))
    subject.times["cpu"].append(1e3 * (spent - cpu))
    subject.sent.append(len(payload))


def facts(path: str) -> dict[str, Any]:
    """What a bundle tells of its head without running it."""
    own, models = opened(path)
    found = [op for model in models for op in operation_costs(model)]
    counted = [op.macs for op in found]
    return {
        "bundle": Path(path).name,
        "model": own.manifest["model"],
        "dtype": own.manifest["facts"]["dtype"],
        "model_bytes": sum(map(len, models)),
        "macs": None if None in counted else sum(n for n in counted if n),
        "operations": [asdict(op) for op in found],
    }


def result(subject: Subject, *, skip: int, profile_runs: int, energy_s: float) -> Head:
    """After the rounds, of which `skip` do not count; 0 leaves out what costs more."""
    missing: dict[str, str] = {}
    profile, joules = None, None
    if profile_runs:
        each = [
            op_profile.time_operations(
                model, threads=subject.threads, runs=profile_runs
            )
            for model in subject.models
        ]
        if all(found for found, _ in each):
            by = "LiteRT's profiler, in whole us a call"
            rows = [asdict(row) for found, _ in each for row in found or ()]
            profile = {"by": by, "runs": profile_runs, "operations": rows}
        else:
            missing["profile"] = next(why for found, why in each if not found)
    if energy_s:
        if meter := energy.find_meter():
            once = partial(in_turn, subject.runners, subject.images[:1])
            joules = energy.measure_j(meter, once, energy_s)
        else:
            missing["energy"] = energy.NONE
    before, loaded, ran = subject.memory
    partitions = sum(runner.partitions() for runner in subject.runners)
    times = {name: summary(ms[skip:]) for name, ms in subject.times.items()}
    return Head(
        **facts(subject.path),
        head_ms=times["head"],
        code_ms=times["code"],
        cpu_ms=times["cpu"],
        payload_bytes=float(np.mean(subject.sent)),
        delegate="XNNPACK" if partitions else None,  # LiteRT's only one by default
        delegate_partitions=partitions,
        init_ms=subject.start_ms[0],
        first_ms=subject.start_ms[1],
        memory_bytes={"init": loaded - before, "overall": ran - before},
        energy=joules,
        profile=profile,
        missing=missing,
    )


def summary(values: list[float]) -> dict[str, float | None]:
    kept = np.array(values)
    return {
        "median": float(np.median(kept)),
        "p95": float(np.percentile(kept, 95)),
        "min": float(kept.min()),
        "mean": float(kept.mean()),
    }
