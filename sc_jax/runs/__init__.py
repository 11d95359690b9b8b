"""A run's folder: claimed, trained, reported, and opened again."""

from sc_jax.lazy import facade

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "run_folder": ["dataset_of", "recipe_of", "restore", "teacher_of"],
        "source": ["DataFacts", "Source"],
    },
)
