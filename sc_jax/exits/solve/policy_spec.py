"""A policy spec, one word or line: NAME or NAME:knob=value,knob=value.

NAME is one of SOLVERS, or FILE.py:name, a `Policy` that names its candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sc_jax import plugins, spec
from sc_jax.errors import UsageError, unknown
from sc_jax.exits import policies
from sc_jax.exits.policies import Policy
from sc_jax.exits.solve.by_candidates import by_candidates
from sc_jax.exits.solve.solvers import REFITTED, SOLVERS
from sc_jax.exits.solve.thresholds import Solved
from sc_jax.spec import Parameter, check, parse
from sc_jax.traces.trace import Trace


def policy_from_text(text: str, trace: Trace, budget: float | None = None) -> Solved:
    """The policy of a spec, solved on the trace where it needs solving.

    As "threshold:score=entropy", "patience:patience=2", "eenet"; the policies and their
    knobs are those of SOLVERS. budget, or a knob of that name, which comes first: up
    to 1 a share of the whole network's cost, above 1 in the unit of trace.cost (MACs).
    """
    name, knobs = _checked(text, trace, budget)
    return solver_of(name)(trace, **knobs)


def _checked(
    text: str, trace: Trace, budget: float | None
) -> tuple[str, dict[str, Any]]:
    """Name and knobs of a policy, the budget in the unit of trace.cost."""
    name, knobs = parse(text, "policy")
    known = knobs_of(name)
    if budget is not None:
        # The spec's own budget wins over the flag's.
        knobs = {"budget": budget} | knobs
    if "budget" in knobs and "budget" not in known:
        able = ", ".join(n for n in SOLVERS if "budget" in knobs_of(n))
        raise UsageError(f"policy {name!r} takes no budget; these do: {able}")
    check(f"policy {name!r}", known, knobs)
    if knobs.get("budget") is not None:
        knobs["budget"] = in_cost(knobs["budget"], trace)
    return name, knobs


def usable(
    text: str, exits: Sequence[str], classes: int, cost: np.ndarray, learned: bool
) -> Policy | None:
    """UsageError where no such net can leave by the policy, whatever it answers.

    Solved on drawn answers that are all right, so that no accuracy is out of reach:
    that policy, or None of a score that must be fitted. cost: f[E]; learned: whether
    exits learnt a confidence.
    """
    rng, examples = np.random.default_rng(0), 8 * classes
    labels = np.arange(examples) % classes
    shape = (len(exits), examples, classes)
    # Surely right with a little noise: scores differ, so that quantiles do.
    answers = 8 * np.eye(classes)[labels] + rng.normal(size=shape)
    sure = rng.uniform(0.5, 1.0, shape[:2]) if learned else None
    drawn = Trace(answers, labels, cost, "any", tuple(exits), "validation", sure)
    name, _ = _checked(text, drawn, None)
    if name in REFITTED:  # fitting takes seconds, and every net can have one
        return None
    return policy_from_text(text, drawn).policy


def refitted(text: str) -> bool:
    """Whether the policy's score must be fitted again for every budget."""
    return bool(text) and parse(text, "policy")[0] in REFITTED


def knobs_of(name: str) -> dict[str, Parameter]:
    """The knobs of a policy, those of its solver after the trace."""
    return spec.knobs_of(solver_of(name), skip=1)


def solver_of(name: str) -> Callable[..., Solved]:
    """A registered solver, or that of the policy in FILE.py:name."""
    if plugins.is_file(name):
        return by_candidates(policies.find(name))
    if name not in SOLVERS:
        raise unknown("policy", name, (*SOLVERS, "FILE.py:name"))
    return SOLVERS[name]


def in_cost(budget: float, trace: Trace) -> float:
    """A budget in the unit of trace.cost; up to 1 it is a share of the last cost."""
    if not 0 < budget < math.inf:
        raise UsageError(
            "a budget is a share of the whole network's cost in 0..1, or a cost above "
            f"1, not {budget}"
        )
    return float(budget * trace.cost[-1] if budget <= 1 else budget)
