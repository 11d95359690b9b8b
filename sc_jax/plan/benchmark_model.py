"""Reads what LiteRT's and TensorFlow Lite's `benchmark_model` prints. Pure text.

Formats of 2019 to 2026 of both tools of that name (for the interpreter, and for
CompiledModel), as their sources print them: with or without "INFO:", logcat's prefixes,
percentiles, peak memory and operator tables. docs/on_device.md has the commands.
"""

import re
from dataclasses import dataclass
from typing import Any

from sc_jax.errors import UsageError
from sc_jax.plan.op_profile import OperationTime, operation_times

NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
PREFIX = re.compile(
    r"^(\d\d-\d\d [\d:.]+ .*?: )?((INFO|WARN|WARNING|ERROR|VERBOSE): )?(\[\S+:\d+\] ?)?"
)
FIX = "give its whole output, stdout and stderr (2>&1), of a run that ended"


@dataclass(frozen=True)
class Reading:
    """One run of the tool; None stands for what the log does not tell."""

    graph: str | None
    device: str | None  # from lines "device: ..." and "cores: ..." of the user's own
    cores: str | None
    threads: int | None
    warm_up: int | None  # runs
    runs: int | None
    delegate: str | None
    delegate_partitions: int | None
    model_bytes: int | None
    init_ms: float | None
    first_ms: float | None
    head_ms: dict[str, float | None]  # median, p95, min, mean
    memory_bytes: dict[str, int] | None  # growth of the process: init, overall
    peak_memory_bytes: int | None
    operations: tuple[OperationTime, ...] | None


def read(text: str, file: str = "the file") -> Reading:
    """UsageError where there is no timing, or more than one run's."""
    lines = [PREFIX.sub("", line.rstrip()) for line in text.splitlines()]
    plain = "\n".join(lines)
    titles = "nference timings in us|BENCHMARK RESULTS"
    timings = re.findall(rf"(?m)^.*(?:{titles}).*$", plain)
    if len(timings) > 1:
        raise UsageError(f"{file} holds {len(timings)} runs: give one run a file")
    counts = [line for line in lines if re.match(r"count=\d", line)]
    times = _times(counts, timings, plain)
    if times["mean"] is None:
        said = re.search(r"(?mi)^.*(error|fail|could not|not found|denied).*$", text)
        says = f" (it says: {said[0].strip()})" if said else ""
        raise UsageError(f"{file} holds no timing of benchmark_model{says}: {FIX}")
    threads = _int(r"(?:Num threads|#threads used for CPU inference): \[(\d+)\]", plain)
    size = _float(rf"input model file size \(MB\): {NUMBER}", plain)
    title = r"(?:peak memory footprint \(MB\) via.*?|Peak memory)"
    peak = _float(rf"{title}: +{NUMBER}", plain)
    line = timings[0] if timings else ""
    return Reading(
        graph=_text(r"Graph: \[(.*)\]", plain) or _text(r"Loaded model (\S+)", plain),
        device=_text(r"(?m)^device: *(.+)$", plain),
        cores=_text(r"(?m)^cores: *(.+)$", plain),
        threads=threads,
        warm_up=_int(r"count=(\d+)", counts[-2]) if len(counts) > 1 else None,
        runs=_int(r"count=(\d+)", counts[-1]) if counts else None,
        delegate=_delegate(plain),
        delegate_partitions=_partitions(plain),
        model_bytes=None if size is None else round(1e6 * size),
        init_ms=_ms(_float(rf"Init: {NUMBER}", line))
        or _float(rf"Model initialization: +{NUMBER} ms", plain),
        first_ms=_ms(_float(rf"First inference: {NUMBER}", line))
        or _float(rf"Warmup \(first\): +{NUMBER} ms", plain),
        head_ms=times,
        memory_bytes=_memory(plain),
        peak_memory_bytes=None if peak is None else round(2**20 * peak),
        operations=operation_times(plain),
    )


def _times(counts, timings, text: str) -> dict[str, float | None]:
    """In ms. A single run, or equal ones, are printed as `curr` alone."""
    values: dict[str, Any] = {}
    if counts:
        pairs = re.findall(rf"(curr|min|avg|median|p95)={NUMBER}", counts[-1])
        values = {name: float(value) for name, value in pairs}
        if "curr" in values and "avg" not in values:
            one = values["curr"]
            values = {"min": one, "avg": one, "median": one, "p95": one}
    if timings:
        name = r"(?:Inference \(avg\)|Inference|no stats)"
        mean = _float(rf"{name}: {NUMBER}", timings[0])
        values = {"avg": mean, **values}
    names = {"median": "median", "p95": "p95", "min": "min", "mean": "avg"}
    found = {name: _ms(values.get(own)) for name, own in names.items()}
    for name, own in (("mean", "avg"), ("min", "min")):  # of the CompiledModel's tool
        if found[name] is None:
            found[name] = _float(rf"Inference \({own}\): +{NUMBER} ms", text)
    return found


def _delegate(text: str) -> str | None:
    names = re.findall(r"Explicitly applied (\w+) delegate", text)
    if not names:
        one = r"Created TensorFlow Lite (?:(\w+) delegate for CPU|delegate for (\w+))"
        names = [first or second for first, second in re.findall(one, text)]
    return "+".join(dict.fromkeys(names)) or None


def _partitions(text: str) -> int | None:
    """Only where the tool says so; its "yielding N partitions" counts the rest too."""
    parts = re.findall(r"executed by the delegate w/ (\d+) delegate kernels", text)
    whole = text.count("completely executed by the delegate")
    return sum(map(int, parts)) + whole or None


def _memory(text: str) -> dict[str, int] | None:
    title = r"(?:delta from the start of the tool|Peak memory footprint) \(MB\)"
    found = re.search(rf"{title}: init={NUMBER} overall={NUMBER}", text)
    found = found or re.search(
        rf"Init footprint: +{NUMBER} MB\s+Overall footprint: +{NUMBER} MB", text
    )
    if not found:
        return None
    init, overall = (round(2**20 * float(one)) for one in found.groups())
    return {"init": init, "overall": overall}


def _text(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1].strip() if found else None


def _float(pattern: str, text: str) -> float | None:
    found = _text(pattern, text)
    return None if found is None else float(found)


def _int(pattern: str, text: str) -> int | None:
    found = _text(pattern, text)
    return None if found is None else int(found)


def _ms(us: float | None) -> float | None:
    return None if us is None else us / 1e3
