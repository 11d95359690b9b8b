"""Who leaves where: confidence scores, policies, and solvers over traces. NumPy."""

from typing import TYPE_CHECKING

from sc_jax.lazy import facade

if TYPE_CHECKING:
    from sc_jax.exits.policies import POLICIES as POLICIES
    from sc_jax.exits.policies import Anytime as Anytime
    from sc_jax.exits.policies import Patience as Patience
    from sc_jax.exits.policies import PerClass as PerClass
    from sc_jax.exits.policies import Policy as Policy
    from sc_jax.exits.policies import Threshold as Threshold
    from sc_jax.exits.policies import TopFraction as TopFraction
    from sc_jax.exits.policies import Voting as Voting
    from sc_jax.exits.policies import from_json as from_json
    from sc_jax.exits.policies import to_json as to_json
    from sc_jax.exits.scores import MAX_PROBABILITY as MAX_PROBABILITY
    from sc_jax.exits.scores import SCORES as SCORES
    from sc_jax.exits.scores import ExitAnswer as ExitAnswer
    from sc_jax.exits.scores import Score as Score
    from sc_jax.exits.scores import Scoring as Scoring
    from sc_jax.exits.scores import features as features
    from sc_jax.exits.solve.calibration import temperatures as temperatures
    from sc_jax.exits.solve.policy_spec import policy_from_text as policy_from_text
    from sc_jax.exits.solve.solvers import SOLVERS as SOLVERS
    from sc_jax.exits.solve.thresholds import Solved as Solved

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
