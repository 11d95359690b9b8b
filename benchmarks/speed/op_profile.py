"""What every operation of a segment takes here, by LiteRT's own profiler.

  python -m benchmarks.speed.op_profile head.tflite 1 50   # file, threads, inferences

LiteRT's Python classes hide its profiler, the C library beside them exports it; so a
child process calls that library (a wrong call would end the process, not raise).
Operations inside XNNPACK are listed too. Times are whole microseconds a call.
"""

import ctypes as c
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed.benchmark_model import Operation, operations

HANDLE, SIZE = c.c_void_p, c.c_size_t
HOST, READ_WRITE = 1, 2  # memory of a buffer, mode of a lock
BYTES = {1: 4, 2: 4, 3: 1, 4: 8, 7: 2, 9: 1}  # of LiteRT's element types
# identifier and TOML of LiteRT's options; the CPU's were renamed between versions
OPTIONS = {
    "runtime_options_string": "enable_profiling = true",
    "xnnpack": "num_threads = {threads}",
    "cpu_delegate": "num_threads = {threads}",
}


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


def profile(
    model: bytes, *, threads: int, runs: int, timeout_s: float = 300
) -> tuple[tuple[Operation, ...] | None, str]:
    """(operations in their order, "") or (None, why not)."""
    with TemporaryDirectory() as name:
        file = Path(name) / "head.tflite"
        file.write_bytes(model)
        command = [sys.executable, "-m", "benchmarks.speed.op_profile"]
        command += [str(file), str(threads), str(runs)]
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
    found = None if done.returncode else operations(done.stdout, runs)
    if found:
        return found, ""
    last = done.stderr.strip().rsplit("\n", 1)[-1]
    return None, f"LiteRT's profiler gave nothing: exit code {done.returncode}; {last}"


def summary(model: bytes, threads: int, runs: int, warm_up: int = 5) -> str:
    """LiteRT's tables for `runs` inferences of the only signature on random input."""
    from importlib.resources import files

    library = c.CDLL(str(files("ai_edge_litert") / "libLiteRt.so"))
    libc = c.CDLL(None)
    libc.strdup.restype = HANDLE

    def call(name: str, *arguments):
        status = getattr(library, name)(*arguments)
        if status:
            raise SystemExit(f"{name}: status {status}")

    def make(name: str, *arguments):
        made = HANDLE()
        call(name, *arguments, c.byref(made))
        return made

    environment = make("LiteRtCreateEnvironment", 0, None)
    kept = c.create_string_buffer(model, len(model))  # LiteRT does not copy it
    graph = make("LiteRtCreateModelFromBuffer", environment, kept, SIZE(len(model)))
    options = make("LiteRtCreateOptions")
    call("LiteRtSetOptionsHardwareAccelerators", options, 1)  # the CPU alone
    for name, toml in OPTIONS.items():
        text = HANDLE(libc.strdup(toml.format(threads=threads).encode()))
        one = make("LiteRtCreateOpaqueOptions", name.encode(), text, libc.free)
        call("LiteRtAddOpaqueOptions", options, one)
    compiled = make("LiteRtCreateCompiledModel", environment, graph, options)
    signature = make("LiteRtGetModelSignature", graph, SIZE(0))

    def buffer(side: str, index: int, layout: Layout):
        tensor = make(f"LiteRtGetSignature{side}TensorByIndex", signature, SIZE(index))
        kind = Tensor()
        call("LiteRtGetRankedTensorType", tensor, c.byref(kind))
        kind.layout, size = layout, BYTES[kind.element]
        for d in layout.dims[: layout.packed & 0x7F]:
            size *= d
        create = "LiteRtCreateManagedTensorBuffer"
        return make(create, environment, HOST, c.byref(kind), SIZE(size)), size

    def filled(index: int):
        layout = Layout()
        place = (compiled, SIZE(0), SIZE(index))
        call("LiteRtGetCompiledModelInputTensorLayout", *place, c.byref(layout))
        made, size = buffer("Input", index, layout)
        address = HANDLE()
        call("LiteRtLockTensorBuffer", made, c.byref(address), READ_WRITE)
        c.memmove(address, (bytes(range(256)) * (size // 256 + 1))[:size], size)
        call("LiteRtUnlockTensorBuffer", made)
        return made

    given, count = SIZE(), SIZE()
    first = (compiled, SIZE(0))
    call("LiteRtGetNumSignatureInputs", signature, c.byref(given))
    call("LiteRtGetNumSignatureOutputs", signature, c.byref(count))
    layouts = (Layout * count.value)()
    call("LiteRtGetCompiledModelOutputTensorLayouts", *first, count, layouts, True)
    made = [buffer("Output", i, one)[0] for i, one in enumerate(layouts)]
    outputs = (HANDLE * count.value)(*made)
    inputs = (HANDLE * given.value)(*map(filled, range(given.value)))
    profiler = make("LiteRtCompiledModelGetProfiler", compiled)
    for number in range(warm_up + runs):
        if number == warm_up:
            call("LiteRtStartProfiler", profiler)
        call("LiteRtRunCompiledModel", *first, given, inputs, count, outputs)
    call("LiteRtStopProfiler", profiler)
    text = c.c_char_p()
    call("LiteRtGetProfileSummary", profiler, compiled, c.byref(text))
    return (text.value or b"").decode()


if __name__ == "__main__":
    print(summary(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), int(sys.argv[3])))
