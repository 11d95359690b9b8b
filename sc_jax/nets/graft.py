"""One net's variables into another's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from sc_jax.errors import Misfit, UsageError, unknown
from sc_jax.nets.run import Variables


def graft(variables: Variables, donor: Variables, names: frozenset[str]) -> Variables:
    """`variables` with the named parts taken from `donor` (a teacher's stages)."""
    absent = names - donor.params.keys()
    if absent:
        raise unknown("donor part", min(absent), donor.params)
    params = {k: donor.params[k] if k in names else v for k, v in variables[0].items()}
    state = {k: donor.state[k] if k in names else v for k, v in variables[1].items()}
    mixed = Variables(params, state)
    # Checked here, where it is one line, not in the first step of training.
    if other := [
        name for name in params if _shapes(mixed, name) != _shapes(variables, name)
    ]:
        named = ", ".join(other)
        raise Misfit(f"donor parts have other shapes than the net's own: {named}")
    return mixed


def _shapes(of: Variables, name: str) -> Any:
    return jax.tree.map(jnp.shape, (of.params[name], of.state[name]))


def alike(variables: Variables, donor: Variables) -> tuple[frozenset[str], list[str]]:
    """(parts that both have in the same shapes, the others of `variables`)."""
    both = variables.params.keys() & donor.params.keys()
    same = {n for n in both if _shapes(variables, n) == _shapes(donor, n)}
    # Parts without parameters have nothing of their own to lose.
    own = [n for n in variables.params if n not in same and variables.params[n]]
    return frozenset(same), own


def widened(mine: Any, theirs: Any) -> Any:
    """A part's variables with all of `theirs`, those of the same part but narrower.

    An array of more rows than theirs has zeros in the others, so that at first it
    computes the same; what they lack stays. UsageError where the parts do not match.
    """
    if isinstance(theirs, dict):
        absent = theirs.keys() - mine.keys() if isinstance(mine, dict) else {"arrays"}
        if absent:
            raise UsageError(f"the wider part has no {', '.join(sorted(absent))}")
        return {**mine, **{k: widened(mine[k], theirs[k]) for k in theirs}}
    rows = mine.shape[0] - theirs.shape[0] if theirs.ndim else 0
    if rows < 0 or mine.shape[1:] != theirs.shape[1:]:
        raise UsageError(f"no array of {mine.shape} widens one of {theirs.shape}")
    # Zero rows, not fresh ones: a wider layer begins with the same answers.
    nothing = jnp.zeros((rows, *theirs.shape[1:]), theirs.dtype)
    return jnp.concatenate([theirs, nothing]) if rows else theirs
