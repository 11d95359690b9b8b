"""A .tflite segment on this machine: NumPy and LiteRT, no jax."""

import numpy as np


class Runner:
    """Calls one segment: array [B, ...] -> outputs by name.

    threads: of the interpreter. Integer outputs of quantised segments stay as they are.
    """

    def __init__(self, model: bytes, threads: int = 1):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=model, num_threads=threads)
        signatures = self._interpreter.get_signature_list()
        (self.name,) = signatures
        (self.input,) = signatures[self.name]["inputs"]
        self._run = self._interpreter.get_signature_runner(self.name)

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return self._run(**{self.input: x})

    def partitions(self) -> int:
        """Parts of the graph that a delegate took over; more than one costs copies."""
        ops = self._interpreter._get_ops_details()
        return sum(op["op_name"] == "DELEGATE" for op in ops)
