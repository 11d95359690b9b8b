"""Reads what LiteRT's and TensorFlow Lite's `benchmark_model` prints. Pure text.

Formats of 2019 to 2026 of both tools of that name (for the interpreter, and for
CompiledModel), as their sources print them: with or without "INFO:", logcat's prefixes,
percentiles, peak memory and operator tables. docs/on_device.md has the commands.
"""

import re
from dataclasses import dataclass
from typing import Any

from sc_jax.errors import UsageError

NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
PREFIX = re.compile(
    r"^(\d\d-\d\d [\d:.]+ .*?: )?((INFO|WARN|WARNING|ERROR|VERBOSE): )?(\[\S+:\d+\] ?)?"
)
ROW = re.compile(
    r"^\s*(?P<node>\S.*?)\s+([\d.]+\s+)?[\d.]+\s+(?P<avg>[\d.]+)\s+\S+%\s+\S+%"
    r"\s+[-\d.]+\s+(?P<calls>\d+)\s*(?P<name>\S.*)?$"
)
FIX = "give its whole output, stdout and stderr (2>&1), of a run that ended"


@dataclass(frozen=True)
class Operation:
    """One row of a profile. ms, share: of one inference; calls: of one, on average."""

    node: str  # "CONV_2D", or the delegate's own name of a kernel
    name: str
    ms: float
    share: float  # of the sum of all rows, 0..1
    calls: float


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
    operations: tuple[Operation, ...] | None


def read(text: str, file: str = "the file") -> Reading:
    """UsageError where there is no timing, or more than one run's."""
    lines = [PREFIX.sub("", line.rstrip()) for line in text.splitlines()]
    plain = "\n".join(lines)
    marks = "nference timings in us|BENCHMARK RESULTS"
    timings = re.findall(rf"(?m)^.*(?:{marks}).*$", plain)
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
        operations=operations(plain),
    )


def operations(text: str, runs: int | None = None) -> tuple[Operation, ...] | None:
    """The rows under "Run Order", initialisation left out; None where there are none.

    runs: inferences that LiteRT's own summary sums its calls over; None: as many as
    its rarest row was called. TensorFlow Lite's table has one inference's calls.
    """
    title, tables = "", {}
    rows: list[re.Match] | None = None
    for line in map(str.rstrip, text.splitlines()):
        if line.endswith(":") and ("Profiling Info" in line or "Delegate" in line):
            title = line
        if "====" in line:
            kept = "Run Order" in line and "Initialization" not in title
            rows = tables.setdefault(title, []) if kept else None
        elif rows is not None and (row := ROW.match(line)):
            rows.append(row)
    inner = [row for title, t in tables.items() if "Delegate" in title for row in t]
    outer = [row for title, t in tables.items() if "Delegate" not in title for row in t]
    if inner:  # a table of its own stands for the delegate's one row
        outer = [r for r in outer if not re.search("(?i)delegate$", r["node"])]
    found = outer + inner
    if not found:
        return None
    if runs is None:
        own = all(re.match(r"\[(Builtin|Delegate)\]:", r["name"] or "") for r in found)
        runs = min(int(row["calls"]) for row in found) if own else 1
    calls = [max(int(row["calls"]), 1) / max(runs, 1) for row in found]
    ms = [float(row["avg"]) * n for row, n in zip(found, calls)]
    whole = sum(ms) or 1.0
    return tuple(
        Operation(row["node"], row["name"] or "", t, t / whole, n)
        for row, t, n in zip(found, ms, calls)
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
