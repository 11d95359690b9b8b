"""The one trainer: recipes of phases, checkpoints, devices; itself callable."""

from sc_jax.lazy import callable_package, facade

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
