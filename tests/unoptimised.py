"""Programs compiled quickly, for trainings that only have to go through."""

from contextlib import contextmanager

import jax


@contextmanager
def unoptimised():
    """What is compiled within takes half as long, and runs slower.

    Where last bits are compared both sides are compiled so, and nothing is kept from
    before (the fixture `compiled_quickly`): such code rounds otherwise. Commands, and
    resuming to the same bits, are also tested as users compile them
    (tests/launch/test_end_to_end.py, tests/train/test_damaged_checkpoints.py).
    """
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
