"""Who leaves where: confidence scores, policies, and solvers over traces. NumPy."""

from sc_jax.lazy import facade

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "policies": [
            "POLICIES",
            "Anytime",
            "Patience",
            "PerClass",
            "Policy",
            "Threshold",
            "TopFraction",
            "Voting",
            "from_json",
            "to_json",
        ],
        "scores": [
            "MAX_PROBABILITY",
            "SCORES",
            "ExitAnswer",
            "Score",
            "Scoring",
            "features",
        ],
        "solve.calibration": [
            "temperatures",
        ],
        "solve.policy_spec": [
            "policy_from_text",
        ],
        "solve.solvers": [
            "SOLVERS",
        ],
        "solve.thresholds": [
            "Solved",
        ],
    },
)
