"""A small Entropic Student that nobody trained, and 96 real images."""

import jax
import numpy as np
import pytest

from sc_jax import experiment, recipes
from sc_jax.compressors.freeze import freeze_all
from sc_jax.nets.run import init


@pytest.fixture(scope="package")
def student():
    """(recipe, variables, cut, codec); latents scaled to a few symbols."""
    recipe = recipes.build("entropic_student", recipes.tiny("entropic_student"))
    example = experiment.example_of(recipe)
    variables = init(recipe.net, jax.random.key(0), example)
    kernel = variables.params["encoder"]["Conv_2"]["kernel"]
    variables.params["encoder"]["Conv_2"]["kernel"] = 6 * kernel
    (split,) = recipe.net.splits
    codec = freeze_all(recipe.net, variables, example)[split.name]
    return recipe, variables, split.after, codec


@pytest.fixture(scope="package")
def images(student):
    test = experiment.dataset_of(student[0], "test")
    return np.asarray(test.images[:96])
