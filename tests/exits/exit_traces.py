"""Made-up traces: deeper exits see the label more clearly."""

import numpy as np

from sc_jax.evaluate.trace import Trace

EXITS = ("exit@a", "exit@b", "exit@c", "final")
COST = (10.0, 25.0, 45.0, 100.0)


def trace(
    examples: int = 400, classes: int = 5, seed: int = 0, exits: int = 4, **fields
) -> Trace:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=examples)
    ease = rng.uniform(0.2, 2.0, (1, examples, 1))
    signal = np.linspace(1.0, 3.0, exits)[:, None, None] * ease
    noise = rng.normal(size=(exits, examples, classes))
    logits = signal * np.eye(classes)[labels] + noise
    made = {
        "predictions": logits,
        "labels": labels,
        "cost": COST[-exits:],
        "net": "toy-0",
        "exits": EXITS[-exits:],
        "split": "validation",
    }
    return Trace(**{**made, **fields})
