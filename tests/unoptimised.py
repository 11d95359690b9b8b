"""Programs compiled quickly, for trainings that only have to go through."""

from contextlib import contextmanager

import jax


@contextmanager
def unoptimised():
    """What is compiled within takes half as long, and runs slower.

    Never where last bits are compared: such code rounds otherwise, and a process keeps
    what it has compiled.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
