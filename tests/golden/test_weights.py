"""Golden: a renamed class or attribute changes no seed's weights and no checkpoint."""

import json

import numpy as np
import pytest
from make_weights import FILE, WEIGHED, recipe_net, tree_hash, weights

from sc_jax.nets.backbones.registry import exit_net
from sc_jax.recipes import RECIPES

GOLDEN = json.loads(FILE.read_text())
# One member a family; deeper ones are more of the same modules and slower to trace.
SHALLOW = [
    "cnn",
    "resnet20",
    "resnet18",
    "resnet50",
    "mobilenetv2",
    "efficientnet_lite0",
    "alexnet",
    "nin",
    "vgg11",
    "wrn16_2",
    "icnn",
    "ddnn",
    "skipnet14",
    "skipnet14_g4",
    "msdnet_nano",
    "ranet_nano",
]


@pytest.fixture(scope="module")
def hashes():
    return {}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_draws_its_weights_from_the_same_names(name, hashes):
    net = recipe_net(name)
    found = hashes.setdefault(net, hashes.get(net) or tree_hash(net))
    assert found == GOLDEN["recipes"][name]


@pytest.mark.parametrize("name", SHALLOW)
def test_a_backbone_draws_its_weights_from_the_same_names(name):
    found = tree_hash(exit_net(name, 5), (1, 32, 32, 3))
    assert found == GOLDEN["backbones"][name]


@pytest.mark.parametrize("name", WEIGHED)
def test_initial_weights_stay(name):
    found = weights(recipe_net(name))
    np.testing.assert_allclose(found, GOLDEN["weights"][name], rtol=1e-4, atol=2e-6)
