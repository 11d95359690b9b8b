"""The solver of a policy that names its own candidates."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated

from sc_jax.errors import UsageError
from sc_jax.exits.policies import Policy
from sc_jax.exits.solve.knobs import Budget, Lost
from sc_jax.exits.solve.targets import alone, best
from sc_jax.exits.solve.thresholds import Solved, evaluate
from sc_jax.spec import knobs_of
from sc_jax.traces.trace import for_fitting


def by_candidates(kind: type[Policy]) -> Callable[..., Solved]:
    """The solver of a policy that names its `candidates`; its fields are knobs too.

    With every field that has no default there is nothing to solve; a field that has one
    alters the candidates.
    """
    fields = dataclasses.fields(kind)  # pyright: ignore
    needed = [f.name for f in fields if f.default is dataclasses.MISSING]

    def solver(trace, *, budget=None, lost=None, **settings):
        # None leaves a knob to the solver, in specs as in recipes.
        settings = {name: v for name, v in settings.items() if v is not None}
        fixed = [name for name in needed if name in settings]
        if fixed:
            missing = [name for name in needed if name not in settings]
            if missing:
                raise UsageError(f"{fixed[0]} goes with {', '.join(missing)}")
            alone(", ".join(settings), {"budget": budget, "lost": lost})
            return evaluate(trace, kind(**settings))
        each = kind.candidates(len(for_fitting(trace).exits))
        if not each:
            raise UsageError(f"{kind.__name__} has no candidates: set its numbers")
        each = [dataclasses.replace(policy, **settings) for policy in each]  # pyright: ignore
        return best(trace, [evaluate(trace, policy) for policy in each], budget, lost)

    knobs = {
        name: Annotated[field.type | None, field.knob]
        for name, field in knobs_of(kind).items()
    }
    knobs |= {"budget": Budget, "lost": Lost}
    word = inspect.Parameter.KEYWORD_ONLY
    trace = inspect.Parameter("trace", inspect.Parameter.POSITIONAL_ONLY)
    each = [
        inspect.Parameter(name, word, default=None, annotation=annotation)
        for name, annotation in knobs.items()
    ]
    # The one signature from which specs are checked and lists are printed.
    solver.__signature__ = inspect.Signature([trace, *each])  # pyright: ignore
    solver.__doc__ = kind.__doc__
    return solver
