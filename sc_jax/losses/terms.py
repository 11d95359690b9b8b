"""Training objectives as data: losses over what teacher and student computed.

A loss maps a Context to f32[B] and never reduces over the batch; `total` alone does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sc_jax.nets.run import Outputs

Reduction = Literal["sum", "mean"]


class Context(NamedTuple):
    """What a loss may read; `teacher` is None where the recipe has none."""

    student: Outputs
    teacher: Outputs | None
    batch: dict[str, jax.Array]
    step: Any = 0  # within the phase


@dataclass(frozen=True)
class Term:
    """A weighted loss; `weight` may be a schedule of the step in its phase."""

    loss: Callable[[Context], jax.Array]
    weight: float | optax.Schedule = 1.0
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or type(self.loss).__name__


def total(
    terms: tuple[Term, ...], context: Context, step: Any, reduction: Reduction
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum over terms and each unweighted term, reduced over the batch.

    "sum" is the published GHND and Entropic Student form, "mean" the usual one.
    """
    reduce = {"sum": jnp.sum, "mean": jnp.mean}[reduction]
    values, loss = {}, jnp.zeros((), jnp.float32)
    for term in terms:
        value = reduce(term.loss(context))
        weight = term.weight(step) if callable(term.weight) else term.weight
        # Unweighted: a log of terms stays comparable where a weight is a schedule.
        values[term.label] = value
        loss = loss + weight * value
    return loss, values
