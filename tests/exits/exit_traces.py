"""Made-up traces: deeper exits see the label more clearly, and say so themselves."""

import numpy as np

from sc_jax.exits.scores import Scoring
from sc_jax.traces.trace import Trace

EXITS = ("exit@a", "exit@b", "exit@c", "final")
COST = (10.0, 25.0, 45.0, 100.0)
WEIGHTS = {
    "failure_prediction": ((-1.0, 2.0, 1.0, -1.0, -0.5),) * 4,
    "eenet": tuple(
        (-1.0, 0.2, 0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 0.5, *(0.3,) * e) for e in range(4)
    ),
}


def scoring(name: str, **more) -> Scoring:
    """A score of up to 4 exits and 5 classes, with weights where it takes some."""
    return Scoring(name, weights=WEIGHTS.get(name, ()), **more)


def trace(
    examples: int = 400, classes: int = 5, seed: int = 0, exits: int = 4, **fields
) -> Trace:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=examples)
    ease = rng.uniform(0.2, 2.0, (1, examples, 1))
    signal = np.linspace(1.0, 3.0, exits)[:, None, None] * ease
    noise = rng.normal(size=(exits, examples, classes))
    logits = signal * np.eye(classes)[labels] + noise
    right = logits.argmax(-1) == labels
    surety = 2.0 * right - 1 + rng.normal(size=right.shape)
    made = {
        "answers": logits,
        "labels": labels,
        "cost": COST[-exits:],
        "net": "toy-0",
        "exits": EXITS[-exits:],
        "split": "validation",
        "confidence": 1 / (1 + np.exp(-surety)),
    }
    return Trace(**{**made, **fields})
