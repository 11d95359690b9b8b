"""StableHLO to a .tflite segment: the only file that imports the converter.

Converting runs in a child process, `python -m sc_jax.deploy.export.convert FOLDER`:
some programs end the converter without a Python error. The child imports neither jax
nor TensorFlow. Every segment must afterwards be compared with JAX
(deploy/export/segments.py): the converter is known to turn a transposed convolution
with output padding into wrong values without a word.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from sc_jax.errors import ExportError, unknown

DTYPES = ("float32", "float16", "int8_weights", "dynamic", "int8")
# What int8 leaves in float: XNNPACK has no integer division, and a head with GDN took
# three to nine times as long with one (docs/results.md, head designs).
FLOAT_OPS = ("DIV",)
LEGALISE = "builtin.module(vhlo-legalize-stablehlo,reconcile-unrealized-casts)"
KEPT = ("tfl.", "arith.", "func.", "builtin.")


@dataclass(frozen=True)
class Signature:
    """Names of a segment and of its tensors; outputs sorted, as jax orders a dict."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def convert(program: bytes, signature: Signature, *, timeout_s: float = 300) -> bytes:
    """Serialised StableHLO (jax.export) to a float32 .tflite; ExportError."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "program.mlir").write_bytes(program)
        (folder / "signature.json").write_text(json.dumps(asdict(signature)))
        # The program by a file: writing to the pipe of a child that died would raise.
        command = [sys.executable, "-m", "sc_jax.deploy.export.convert", name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            raise ExportError(f"conversion took over {timeout_s} s") from None
        if done.returncode:
            raise ExportError(_reason(done))
        return (folder / "segment.tflite").read_bytes()


def _reason(done: subprocess.CompletedProcess) -> str:
    # A signal says more than whatever was printed before it.
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        return f"the converter died of signal {-done.returncode}"
    return lines[-1].removeprefix("error: ") if lines else "the converter failed"


def quantise(
    model: bytes,
    dtype: str,
    signature: Signature,
    examples: Iterable[Mapping[str, np.ndarray]] = (),
    float_ops: tuple[str, ...] = (),
    float_scopes: tuple[str, ...] = (),
) -> bytes:
    """A float32 segment in another number format, one of DTYPES.

    int8 calibrates on `examples`; there operations named in `float_ops` (DIV, CONV_2D)
    stay in float. So, in all, do those whose results match a pattern of `float_scopes`.
    int8_weights keeps float arithmetic; dynamic quantises activations while it runs.
    """
    from ai_edge_quantizer import qtyping, quantizer

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    names = qtyping.TFLOperationName
    known = {n.value: n for n in names}
    for op in float_ops:
        if op not in known:
            raise unknown("operation", op, sorted(known))
    if dtype == "float32":
        return model
    rules = quantizer.Quantizer(bytearray(model))
    _add_rules(rules, dtype)
    # After the rule for all operations: of two that match, the later one counts.
    for op in float_ops if dtype == "int8" else ():
        rules.update_quantization_recipe(".*", known[op], algorithm_key="no_quantize")
    for scope in float_scopes:
        rules.update_quantization_recipe(
            scope, names.ALL_SUPPORTED, algorithm_key="no_quantize"
        )
    calibration = None
    if rules.need_calibration:
        data: Any = {signature.name: [dict(e) for e in examples]}
        if not data[signature.name]:
            raise ExportError(f"{dtype} needs examples to calibrate on")
        with _calm():
            calibration = rules.calibrate(data, num_threads=1)
    with _calm():
        quantised = rules.quantize(calibration, enable_progress_report=False)
    if quantised.quantized_model is None:
        raise ExportError(f"the quantiser gave no {dtype} model")
    return bytes(quantised.quantized_model)


def _add_rules(rules: Any, dtype: str) -> None:
    """What a dtype does to all operations that the quantiser supports."""
    from ai_edge_quantizer import qtyping

    every: Any = {
        "regex": ".*",
        "operation_name": qtyping.TFLOperationName.ALL_SUPPORTED,
    }
    if dtype == "float16":
        half = qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=qtyping.TensorDataType.FLOAT
        )
        rules.update_quantization_recipe(
            **every,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=half,
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_key="float_casting",
        )
    elif dtype == "int8_weights":
        rules.add_weight_only_config(**every, num_bits=8)
    elif dtype == "dynamic":
        rules.add_dynamic_config(**every, num_bits=8)
    else:
        rules.add_static_config(**every, activation_num_bits=8, weight_num_bits=8)


@contextmanager
def _calm():
    """No warning of the quantiser's memory; its bar only where someone looks."""
    away = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), away:
        warnings.filterwarnings("ignore", "Warning. Enabling `experimental")
        yield


def operations(model: bytes) -> tuple[str, ...]:
    """Operations of a segment in order, by their LiteRT names."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # A delegate would replace the operations by one of its own.
    reference = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=reference
    )
    return tuple(op["op_name"] for op in interpreter._get_ops_details())


def _child(folder: Path) -> None:
    """Converts folder/program.mlir to folder/segment.tflite."""
    names = ("converter_api_ext", "mlir.ir", "mlir.passmanager")  # without stubs
    modules = (import_module(f"litert_converter.{name}") for name in names)
    converter, ir, passmanager = cast(Any, modules)
    signature = Signature(**json.loads((folder / "signature.json").read_text()))
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse((folder / "program.mlir").read_bytes())
        passmanager.PassManager.parse(LEGALISE).run(module.operation)
        # A list: erasing while the module is walked would skip its neighbour.
        for op in list(_operations(module.operation)):
            # jax's check of a symbolic batch, which no runtime needs to repeat
            if "shape_assertion" in str(op.attributes.get("call_target_name", "")):
                op.erase()
        converter.set_signature(
            module.operation,
            signature_name=signature.name,
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
        )
        module = converter.merge_modules([module])
        settings = converter.ConvertToTFLConfig()
        # A batch of any size needs no BROADCAST_TO of every constant.
        settings.unsafe_fuse_dynamic_shaped_broadcast = True
        converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), settings)
        names = sorted({op.name for op in _operations(module.operation)})
        # A custom operation is written without a word, and runs nowhere.
        left = [n for n in names if not n.startswith(KEPT) or n == "tfl.custom"]
        if left:
            raise ExportError(f"no LiteRT operation for {', '.join(left)}")
        try:
            model = converter.export_flatbuffer_to_bytes(module.operation)
        except ValueError as error:
            raise ExportError(
                f"LiteRT cannot hold one of {', '.join(names)} ({error})"
            ) from None
    (folder / "segment.tflite").write_bytes(model)


def _operations(operation):
    for region in operation.regions:
        for block in region:
            for op in block:
                yield op.operation
                yield from _operations(op.operation)


if __name__ == "__main__":
    try:
        _child(Path(sys.argv[1]))
    except Exception as error:
        print(
            f"error: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr
        )
        sys.exit(1)
