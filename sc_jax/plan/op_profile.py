"""What every operation of a segment takes here, by LiteRT's own profiler.

LiteRT's Python classes hide its profiler, the C library beside them exports it; so a
child process calls that library (a wrong call would end the process, not raise).
Operations inside XNNPACK are listed too. Times are whole microseconds a call. The
tables are read as LiteRT and TensorFlow Lite's benchmark_model print them
(tflite/profiling/profile_summarizer.cc in https://github.com/google-ai-edge/LiteRT).
"""

from __future__ import annotations

import ctypes as c
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

ROUND = "next round"  # between the tables that the child process prints
HANDLE, SIZE = c.c_void_p, c.c_size_t
HOST, READ_WRITE = 1, 2  # memory of a buffer, mode of a lock
BYTES = {1: 4, 2: 4, 3: 1, 4: 8, 7: 2, 9: 1}  # of LiteRT's element types
# node, (start), first, average, % of all, cumulative %, memory, calls, (name)
ROW = re.compile(
    r"^\s*(?P<node>\S.*?)\s+([\d.]+\s+)?[\d.]+\s+(?P<avg>[\d.]+)\s+\S+%\s+\S+%"
    r"\s+[-\d.]+\s+(?P<calls>\d+)\s*(?P<name>\S.*)?$"
)
# Identifier and TOML of LiteRT's options; the CPU's were renamed between versions
OPTIONS = {
    "runtime_options_string": "enable_profiling = true",
    "xnnpack": "num_threads = {threads}",
    "cpu_delegate": "num_threads = {threads}",
}


@dataclass(frozen=True)
class OperationTime:
    """One row of a profile. ms, share: of one inference; calls: of one, on average."""

    node: str  # "CONV_2D", or the delegate's own name of a kernel
    name: str
    ms: float
    share: float  # of the sum of all rows, 0..1
    calls: float


class Layout(c.Structure):
    """LiteRtLayout: the rank is the low seven bits of `packed`."""

    _fields_ = (
        ("packed", c.c_uint32),
        ("dims", c.c_int32 * 8),
        ("strides", c.c_uint32 * 8),
    )


class Tensor(c.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = (("element", c.c_int32), ("layout", Layout))


def time_operations(
    model: bytes,
    *,
    threads: int,
    runs: int,
    rounds: int = 1,
    timeout_s: float = 300,
) -> tuple[tuple[OperationTime, ...] | None, str]:
    """(operations in their order, "") or (None, why not), of one .tflite file.

    The tool prints means alone: ms are means over `runs` inferences in a row on
    `threads` threads, with warm caches and without the call from Python. Of several
    `rounds`, each of a model loaded anew, every operation's least mean counts: with
    runs=1 that of single inferences, which other programs on the machine move least.
    """
    with TemporaryDirectory() as name:
        file = Path(name) / "head.tflite"
        file.write_bytes(model)
        code = "from sc_jax.plan import op_profile; op_profile.main()"
        numbers = map(str, (threads, runs, rounds))
        command = [sys.executable, "-c", code, str(file), *numbers]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                cwd=Path(__file__).parents[2],
            )
        except subprocess.TimeoutExpired:
            return None, f"LiteRT's profiler took over {timeout_s:g} s"
    found = None if done.returncode else least(done.stdout, runs)
    if found and not any(row.ms for row in found):
        return None, "every operation takes less than the profiler's microsecond"
    if found:
        return found, ""
    last = done.stderr.strip().rsplit("\n", 1)[-1]
    return None, f"LiteRT's profiler gave nothing: exit code {done.returncode}; {last}"


def least(text: str, runs: int) -> tuple[OperationTime, ...] | None:
    """Each operation's least ms over the rounds of `summaries`.

    None where a round has no operations, or others than the first.
    """
    rounds = [operation_times(part, runs) for part in text.split(ROUND)]
    known = [found for found in rounds if found]
    if len(known) < len(rounds) or len({tuple(r.node for r in f) for f in known}) > 1:
        return None
    ms = [min(row.ms for row in rows) for rows in zip(*known)]
    whole = sum(ms) or 1.0
    return tuple(replace(r, ms=t, share=t / whole) for r, t in zip(known[0], ms))


def operation_times(
    text: str, runs: int | None = None
) -> tuple[OperationTime, ...] | None:
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
        OperationTime(row["node"], row["name"] or "", t, t / whole, n)
        for row, t, n in zip(found, ms, calls)
    )


@dataclass(frozen=True)
class Library:
    """LiteRT's C library: every call gives a status, most give a handle as well."""

    shared: c.CDLL

    def call(self, name: str, *arguments) -> None:
        status = getattr(self.shared, name)(*arguments)
        if status:
            raise SystemExit(f"{name}: status {status}")

    def make(self, name: str, *arguments) -> c.c_void_p:
        handle = HANDLE()
        self.call(name, *arguments, c.byref(handle))
        return handle


def summaries(
    model: bytes, threads: int, runs: int, rounds: int, warm_up: int = 5
) -> Iterator[str]:
    """LiteRT's tables for `runs` inferences of the only signature on fixed bytes.

    A table a round, without the `warm_up` inferences that begin it.
    """
    from importlib.resources import files

    lite = Library(c.CDLL(str(files("ai_edge_litert") / "libLiteRt.so")))
    environment = lite.make("LiteRtCreateEnvironment", 0, None)
    kept = c.create_string_buffer(model, len(model))  # LiteRT does not copy it
    graph = lite.make(
        "LiteRtCreateModelFromBuffer", environment, kept, SIZE(len(model))
    )
    signature = lite.make("LiteRtGetModelSignature", graph, SIZE(0))
    for _ in range(rounds):
        # Anew each time: a profiler that was reset still sums over all rounds.
        compiled = lite.make(
            "LiteRtCreateCompiledModel", environment, graph, _options(lite, threads)
        )
        inputs = _inputs(lite, environment, compiled, signature)
        outputs = _outputs(lite, environment, compiled, signature)
        ends = (SIZE(len(inputs)), inputs, SIZE(len(outputs)), outputs)
        profiler = lite.make("LiteRtCompiledModelGetProfiler", compiled)
        for number in range(warm_up + runs):
            if number == warm_up:
                lite.call("LiteRtStartProfiler", profiler)
            lite.call("LiteRtRunCompiledModel", compiled, SIZE(0), *ends)
        lite.call("LiteRtStopProfiler", profiler)
        text = c.c_char_p()
        lite.call("LiteRtGetProfileSummary", profiler, compiled, c.byref(text))
        yield (text.value or b"").decode()
        lite.shared.LiteRtDestroyCompiledModel(compiled)


def _options(lite: Library, threads: int) -> c.c_void_p:
    """The CPU alone, with its profiler and so many threads."""
    libc = c.CDLL(None)
    libc.strdup.restype = HANDLE
    options = lite.make("LiteRtCreateOptions")
    lite.call("LiteRtSetOptionsHardwareAccelerators", options, 1)
    for name, toml in OPTIONS.items():
        # LiteRT frees the text itself, so it must come from C's own allocator.
        text = HANDLE(libc.strdup(toml.format(threads=threads).encode()))
        one = lite.make("LiteRtCreateOpaqueOptions", name.encode(), text, libc.free)
        lite.call("LiteRtAddOpaqueOptions", options, one)
    return options


def _inputs(lite: Library, environment, compiled, signature) -> c.Array:
    """A buffer an input, filled with the bytes 0 to 255 in turn."""
    count = SIZE()
    lite.call("LiteRtGetNumSignatureInputs", signature, c.byref(count))
    buffers = []
    for index in range(count.value):
        layout, address = Layout(), HANDLE()
        place = (compiled, SIZE(0), SIZE(index))
        lite.call("LiteRtGetCompiledModelInputTensorLayout", *place, c.byref(layout))
        buffer, size = _buffer(lite, environment, signature, "Input", index, layout)
        lite.call("LiteRtLockTensorBuffer", buffer, c.byref(address), READ_WRITE)
        c.memmove(address, (bytes(range(256)) * (size // 256 + 1))[:size], size)
        lite.call("LiteRtUnlockTensorBuffer", buffer)
        buffers.append(buffer)
    return (HANDLE * len(buffers))(*buffers)


def _outputs(lite: Library, environment, compiled, signature) -> c.Array:
    count = SIZE()
    lite.call("LiteRtGetNumSignatureOutputs", signature, c.byref(count))
    layouts = (Layout * count.value)()
    # True: shapes that depend on the input's are worked out now.
    place = (compiled, SIZE(0), count, layouts, True)
    lite.call("LiteRtGetCompiledModelOutputTensorLayouts", *place)
    buffers = [
        _buffer(lite, environment, signature, "Output", index, layout)[0]
        for index, layout in enumerate(layouts)
    ]
    return (HANDLE * len(buffers))(*buffers)


def _buffer(
    lite: Library, environment, signature, side: str, index: int, layout: Layout
) -> tuple[c.c_void_p, int]:
    """(memory of one tensor of the signature, its bytes)."""
    name = f"LiteRtGetSignature{side}TensorByIndex"
    tensor, kind = lite.make(name, signature, SIZE(index)), Tensor()
    lite.call("LiteRtGetRankedTensorType", tensor, c.byref(kind))
    # The graph may leave its batch open: the compiled model's shape is the true one.
    kind.layout = layout
    rank = layout.packed & 0x7F
    size = BYTES[kind.element] * prod(layout.dims[:rank])
    create = "LiteRtCreateManagedTensorBuffer"
    return lite.make(create, environment, HOST, c.byref(kind), SIZE(size)), size


def main() -> None:
    """The child process: file, threads, inferences, rounds; prints the tables."""
    file, *numbers = sys.argv[1:]
    tables = summaries(Path(file).read_bytes(), *map(int, numbers))
    print(*tables, sep=f"\n{ROUND}\n")
