"""A run's folder: claimed, trained, reported, and opened again."""

from typing import TYPE_CHECKING

from sc_jax.lazy import facade

if TYPE_CHECKING:
    from sc_jax.runs.run_folder import dataset_of as dataset_of
    from sc_jax.runs.run_folder import recipe_of as recipe_of
    from sc_jax.runs.run_folder import restore as restore
    from sc_jax.runs.run_folder import teacher_of as teacher_of
    from sc_jax.runs.source import DataFacts as DataFacts
    from sc_jax.runs.source import Source as Source

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "run_folder": ["dataset_of", "recipe_of", "restore", "teacher_of"],
        "source": ["DataFacts", "Source"],
    },
)
