"""How the gradients of several exits meet in the trunk; values are not touched."""

from __future__ import annotations

from functools import partial

import jax


def _equilibrium(x, ahead: int):
    """Gradient equilibrium: every trunk parameter gets the mean of the later exits'.

    Li et al. 2019: scaled by 1 / ahead for this exit, by (ahead - 1) / ahead for the
    rest, whose gradient is the mean of its own ahead - 1 exits.
    """
    return _scaled(x, 1 / ahead), _scaled(x, (ahead - 1) / ahead)


def _detached(x, ahead: int):
    """Exits before the last learn from the trunk and leave it as it is."""
    # The last answer still trains the trunk: with none ahead nothing would.
    return (jax.lax.stop_gradient(x) if ahead > 1 else x), x


# (feature, answers still ahead, this one included) -> (for this exit, for the rest).
GRADIENTS = {
    "sum": lambda x, ahead: (x, x),
    "equilibrium": _equilibrium,
    "detached": _detached,
}


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scaled(x, factor: float):
    """x, bit for bit; its gradient times `factor`."""
    return x


# A custom gradient and no (x * f + stop_gradient(...)), which would round x.
_scaled.defvjp(
    lambda x, factor: (x, None),
    lambda factor, _, gradient: (jax.tree.map(lambda g: factor * g, gradient),),
)
