"""What an edge server answers to a frame: plain data, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reply:
    """The answer to one frame.

    outputs: the task's reply, arrays by name, of one example (no batch axis).
    queue_s: waited for the batch to begin; compute_s: of the whole batch of
    batch_size requests, without padding.
    """

    outputs: dict[str, np.ndarray]
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_size: int = 1

    @property
    def prediction(self) -> int:
        """The class, of a task that predicts one."""
        return int(self.outputs["prediction"])

    @property
    def logits(self) -> np.ndarray:
        """f32[K], of a task that has classes."""
        return self.outputs["logits"]
