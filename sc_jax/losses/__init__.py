"""Losses: one value an example, reduced in one place (losses.terms)."""

from collections.abc import Callable

from sc_jax.losses.distillation import Hint, KnowledgeDistillation, Reconstruction
from sc_jax.losses.exits import (
    AdaptiveWeights,
    AssignedCrossEntropy,
    ExitDistillation,
    OwnCrossEntropy,
    WeighedCrossEntropy,
)
from sc_jax.losses.gates import (
    ConfidenceTarget,
    GateCost,
    GatedCrossEntropy,
    GateTarget,
    Mixture,
)
from sc_jax.losses.rate import Rate
from sc_jax.losses.task import BinaryCrossEntropy, CrossEntropy
from sc_jax.losses.terms import Context, Term

__all__ = [
    "LOSSES",
    "AdaptiveWeights",
    "AssignedCrossEntropy",
    "BinaryCrossEntropy",
    "ConfidenceTarget",
    "Context",
    "CrossEntropy",
    "ExitDistillation",
    "GateCost",
    "GateTarget",
    "GatedCrossEntropy",
    "Hint",
    "KnowledgeDistillation",
    "Mixture",
    "OwnCrossEntropy",
    "Rate",
    "Reconstruction",
    "Term",
    "WeighedCrossEntropy",
]

_EXITS, _COSTS = ("exit@a", "exit@b", "final"), (0.1, 0.5, 1.0)
# Name -> samples, each tested: of a net with those exits, a stage "a" where the decoder
# of a split stands, and gated blocks "gated".
LOSSES: dict[str, tuple[Callable, ...]] = {
    "cross_entropy": (CrossEntropy(), CrossEntropy("exit@a")),
    "binary_cross_entropy": (BinaryCrossEntropy(),),
    "knowledge_distillation": (
        KnowledgeDistillation(),
        KnowledgeDistillation(0.0, 4.0),
        KnowledgeDistillation(0.3, 0.5, "exit@a"),
    ),
    "hint": (Hint("decoder", "a"), Hint("decoder", "a", "mean")),
    "reconstruction": (
        Reconstruction("decoder", "a"),
        Reconstruction("decoder", "a", norm=2, power=1, eps=1e-6),
        Reconstruction("decoder", "a", norm=1, power=1),
    ),
    "rate": (Rate(), Rate("split@a")),
    "own_cross_entropy": (OwnCrossEntropy("exit@b"),),
    "exit_distillation": (
        ExitDistillation("exit@a"),
        ExitDistillation("exit@a", _EXITS[1:], tau=3.0, direction="reverse"),
        ExitDistillation("exit@b", tau=None),
    ),
    "adaptive_weights": (AdaptiveWeights(_EXITS, (1.0, 1.0, 1.0)),),
    "weighed_cross_entropy": (
        WeighedCrossEntropy(_EXITS, "final"),
        WeighedCrossEntropy(_EXITS, "final", 0.8, "col"),
    ),
    "assigned_cross_entropy": (AssignedCrossEntropy(_EXITS, (0.5, 0.3, 0.2)),),
    "mixture": (
        Mixture(_EXITS),
        Mixture(_EXITS, "losses"),
        Mixture(_EXITS, masked=False),
    ),
    "confidence_target": (ConfidenceTarget("exit@a"),),
    "gated_cross_entropy": (GatedCrossEntropy(_EXITS),),
    "gate_target": (GateTarget(_EXITS, _COSTS),),
    "gate_cost": (GateCost("gated", 0.25),),
}
