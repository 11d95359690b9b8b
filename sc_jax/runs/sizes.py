"""Images of a size that a recipe does not take: the sizes that it takes, on shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from sc_jax.errors import Misfit, UsageError
from sc_jax.recipes import common
from sc_jax.train.recipe import Recipe
from sc_jax.train.validation import validate

# What nets divide a side by; a side that all of them divide fits nearly every net.
DIVISORS = (4, 8, 16, 32)


@contextmanager
def explained(build: Callable[[], Recipe]) -> Iterator[None]:
    """What goes wrong inside by the size of images: UsageError with sizes that fit.

    build: makes the recipe anew, by `common.facts`. All else is raised as it is, as
    where no size near fits.
    """
    try:
        with np.errstate(divide="ignore"):  # an error follows, which says more
            yield
    # Modules and jax say what they like of an image that pools to nothing.
    except (Misfit, TypeError, IndexError, ArithmeticError, ValueError) as error:
        if isinstance(error, UsageError) and not isinstance(error, Misfit):
            raise
        with np.errstate(divide="ignore"):
            fitting = near(build)
        if fitting is None:
            raise
        (h, w), sides = fitting
        named = " or ".join(f"image_size={side}" for side in sides)
        why = f" ({error})" if isinstance(error, Misfit) else ""
        line = f"images of {h} x {w} do not fit{why}: take {named}"
        raise UsageError(line) from error


def near(build: Callable[[], Recipe]) -> tuple[tuple[int, int], list[int]] | None:
    """(sides of the recipe's images, the next smaller and larger side that fit).

    None where the images fit as they are, or no side does.
    """
    # Built for another size, for it may be the building that fails.
    recipe = next((r for side in DIVISORS[::-1] if (r := _built(build, side))), None)
    if recipe is None:
        return None
    h, w, channels = common.facts(recipe.data).shape
    if _fits(build, None, (h, w, channels)):
        return None
    least, sides = min(h, w), []
    for candidates in (
        sorted({least // d * d for d in DIVISORS} - {0}, reverse=True),
        sorted({(least // d + 1) * d for d in DIVISORS}),
    ):
        found = (s for s in candidates if _fits(build, s, (s, s, channels)))
        sides += [side for side in [next(found, None)] if side is not None]
    return ((h, w), sides) if sides else None


def _built(build: Callable[[], Recipe], side: int | None) -> Recipe | None:
    try:
        if side is None:
            return build()
        with common.resized(side):
            return build()
    except (TypeError, IndexError, ArithmeticError, ValueError):
        return None


def _fits(build: Callable[[], Recipe], side: int | None, shape: tuple) -> bool:
    recipe = _built(build, side)
    if recipe is None:
        return False
    try:
        validate(recipe, np.zeros((1, *shape), np.uint8))
    except (TypeError, IndexError, ArithmeticError, ValueError):
        return False
    return True
