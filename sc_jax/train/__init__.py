"""The one trainer: recipes of phases, checkpoints, devices; itself callable."""

from typing import TYPE_CHECKING

from sc_jax.lazy import callable_package, facade

if TYPE_CHECKING:
    from sc_jax.train.loop import fit as fit
    from sc_jax.train.optimisers import Optimiser as Optimiser
    from sc_jax.train.recipe import LookAhead as LookAhead
    from sc_jax.train.recipe import Phase as Phase
    from sc_jax.train.recipe import Recipe as Recipe
    from sc_jax.train.serialisation import describe as describe
    from sc_jax.train.serialisation import override as override
    from sc_jax.train.validation import validate as validate

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "loop": ["fit"],
        "optimisers": ["Optimiser"],
        "recipe": ["LookAhead", "Phase", "Recipe"],
        "serialisation": ["describe", "override"],
        "validation": ["validate"],
    },
)
callable_package(__name__, "sc_jax.api", "train")
