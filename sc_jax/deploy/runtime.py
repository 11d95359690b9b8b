"""A .tflite segment on this machine: NumPy and LiteRT, no jax."""

import numpy as np

EXIT = "exit@"  # what names of outputs that are exits begin with


class Runner:
    """Calls one segment: array [B, ...] -> outputs by name.

    threads: of the interpreter. `exits`: names of the outputs that are exits. Where a
    quantised segment takes or gives a feature in int8, it is scaled from and to float32
    here; symbols are integers and stay so.
    """

    def __init__(self, model: bytes, threads: int = 1):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=model, num_threads=threads)
        signatures = self._interpreter.get_signature_list()
        (self.name,) = signatures
        (self.input,) = signatures[self.name]["inputs"]
        self._run = self._interpreter.get_signature_runner(self.name)
        outputs = signatures[self.name]["outputs"]
        self.exits = tuple(name for name in outputs if name.startswith(EXIT))
        self._taken = self._run.get_input_details()[self.input]
        self._given = {
            name: detail
            for name, detail in self._run.get_output_details().items()
            if _scaled(detail)
        }

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        if _scaled(self._taken) and x.dtype == np.float32:
            x = _quantised(x, self._taken)
        outputs = self._run(**{self.input: x})
        for name, detail in self._given.items():
            scale, zero = detail["quantization"]
            outputs[name] = np.float32(scale) * (
                outputs[name].astype(np.float32) - zero
            )
        return outputs

    def partitions(self) -> int:
        """Parts of the graph that a delegate took over; more than one costs copies."""
        ops = self._interpreter._get_ops_details()
        return sum(op["op_name"] == "DELEGATE" for op in ops)


def latent_of(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs that a codec packs: all but those of exits."""
    return {k: v for k, v in outputs.items() if not k.startswith(EXIT)}


def _scaled(detail: dict) -> bool:
    """Whether a tensor is int8 or uint8 for float32 values."""
    return detail["quantization"][0] != 0 and detail["dtype"] in (np.int8, np.uint8)


def _quantised(x: np.ndarray, detail: dict) -> np.ndarray:
    (scale, zero), limits = detail["quantization"], np.iinfo(detail["dtype"])
    levels = np.clip(np.round(x / scale) + zero, limits.min, limits.max)
    return levels.astype(detail["dtype"])
