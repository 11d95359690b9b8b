"""A .tflite segment on this machine: NumPy and LiteRT, no jax."""

from collections.abc import Mapping, Sequence

import numpy as np

EXIT = "exit@"  # what names of outputs that are exits begin with
CONFIDENCE = "confidence@"  # and of what an exit learnt to say of itself, 0 to 1
FINAL = "final"  # what the last stage gives where the whole net is on the device
FEATURE, CARRY = "feature", "carry"  # tensors that one segment hands to the next


class Runner:
    """Calls one segment: arrays [B, ...] by name -> outputs by name.

    What it does not take is left aside; where it takes one only, the array alone will
    do. threads: of the interpreter. `exits`: names of the outputs that are exits. Where
    a quantised segment takes or gives a feature in int8, it is scaled from and to
    float32 here; symbols are integers and stay so.
    """

    def __init__(self, model: bytes, threads: int = 1):
        # Late: names and `latent_of` serve where no LiteRT is installed.
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=model, num_threads=threads)
        signatures = self._interpreter.get_signature_list()
        (self.name,) = signatures
        self.inputs = tuple(signatures[self.name]["inputs"])
        self._run = self._interpreter.get_signature_runner(self.name)
        outputs = signatures[self.name]["outputs"]
        self.exits = tuple(name for name in outputs if name.startswith(EXIT))
        self.outputs = tuple(outputs)
        self._input_details = self._run.get_input_details()
        self._scaled_outputs = {
            name: detail
            for name, detail in self._run.get_output_details().items()
            if _scaled(detail)
        }

    def __call__(
        self, inputs: np.ndarray | Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        if not isinstance(inputs, Mapping):
            (only,) = self.inputs
            inputs = {only: inputs}
        outputs = self._run(
            **{
                name: _taken(inputs[name], self._input_details[name])
                for name in self.inputs
            }
        )
        for name, detail in self._scaled_outputs.items():
            scale, zero = detail["quantization"]
            outputs[name] = np.float32(scale) * (
                outputs[name].astype(np.float32) - zero
            )
        return outputs

    def classes(self, exit: str) -> int:
        """K of an exit."""
        return int(self._run.get_output_details()[exit]["shape"][-1])

    def partitions(self) -> int:
        """Parts of the graph that a delegate took over; more than one costs copies."""
        # Private, but the only sign of a graph that fell apart.
        ops = self._interpreter._get_ops_details()
        return sum(op["op_name"] == "DELEGATE" for op in ops)


def in_turn(segments: Sequence[Runner], image: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 [B, H, W, C] through all segments, no exit taken: every exit, the latent's.

    Each takes what the one before gave. Confidences stand beside their exits.
    """
    exits: dict[str, np.ndarray] = {}
    passed: np.ndarray | dict[str, np.ndarray] = image
    for segment in segments:
        passed = segment(passed)
        names = (*segment.exits, *map(confidence_of, segment.exits))
        exits |= {name: passed[name] for name in names if name in passed}
    assert isinstance(passed, dict), "there is a segment"
    return {**exits, **passed}


def latent_of(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs that a codec packs: all but those of exits."""
    return {k: v for k, v in outputs.items() if not k.startswith((EXIT, CONFIDENCE))}


def confidence_of(exit: str) -> str:
    """The output with the learned confidence of an exit, where it has one."""
    return CONFIDENCE + exit.removeprefix(EXIT)


def _scaled(detail: dict) -> bool:
    """Whether a tensor is int8 or uint8 for float32 values."""
    return detail["quantization"][0] != 0 and detail["dtype"] in (np.int8, np.uint8)


def _taken(x: np.ndarray, detail: dict) -> np.ndarray:
    """As the segment takes it: in int8 where it was quantised."""
    if not _scaled(detail) or x.dtype != np.float32:
        return x
    (scale, zero), limits = detail["quantization"], np.iinfo(detail["dtype"])
    levels = np.clip(np.round(x / scale) + zero, limits.min, limits.max)
    return levels.astype(detail["dtype"])
