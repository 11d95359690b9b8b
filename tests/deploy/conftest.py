"""Students that nobody trained, real images, and servers that end with the test."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.compressors.splits import codecs_of
from sc_jax.nets.backbones.registry import classifier_net
from sc_jax.nets.run import init
from sc_jax.runs import run_folder


@pytest.fixture(scope="package")
def student():
    """(recipe, variables, cut, codec); latents scaled to a few symbols."""
    recipe = recipes.build("entropic_student", recipes.tiny("entropic_student"))
    example = run_folder.example_of(recipe)
    variables = init(recipe.net, jax.random.key(0), example)
    kernel = variables.params["encoder"]["Conv_2"]["kernel"]
    variables.params["encoder"]["Conv_2"]["kernel"] = 6 * kernel
    (split,) = recipe.net.splits
    codec = codecs_of(recipe.net, variables, example)[split.name]
    return recipe, variables, split.after, codec


@pytest.fixture(scope="package")
def images(student):
    test = run_folder.dataset_of(student[0], "test")
    return np.asarray(test.images[:96])


@pytest.fixture(scope="package")
def nets():
    """name -> (net, variables, images): random photographs' sizes, real pixels."""

    def make(name, side, colours, images):
        net = classifier_net(name, 10)
        x = np.repeat(np.resize(images[:4], (4, 28, 28, 1)), colours, -1)
        x = np.asarray(jax.image.resize(x, (4, side, side, colours), "nearest"))
        return net, init(net, jax.random.key(0), x[:1]), x

    return make


@pytest.fixture(scope="package")
def trained():
    """An untrained net of the Entropic Student, 40 images and their frames."""
    from benchmarks.untrained import frames
    from sc_jax.deploy.server import tails

    recipe = recipes.build("entropic_student", recipes.tiny("entropic_student"))
    example = run_folder.example_of(recipe)
    variables = init(recipe.net, jax.random.key(3), example)
    codecs = codecs_of(recipe.net, variables, example)
    test = run_folder.dataset_of(recipe, "test").take(np.arange(40), "test")
    sent = frames(recipe.net, variables, codecs, test.images)
    own = tails.tails(recipe.net, variables, codecs)
    return SimpleNamespace(
        net=recipe.net, variables=variables, codecs=codecs, test=test, sent=sent,
        tails=own,
    )  # fmt: skip


@pytest.fixture(scope="package")
def server(trained):
    from edge_tools import SIZES, still

    from sc_jax.deploy.server import edge

    running = edge.serve(
        {"first": trained.tails, "still": (still(opened=True),)},
        edge.Settings(sizes=SIZES, wait_s=0.002, metrics_port=0),
    )
    yield running
    running.drain(5)


@pytest.fixture
def client(server):
    from sc_jax.deploy.wire.client import Client

    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def start():
    """Starts servers that the test's end drains."""
    from sc_jax.deploy.server import edge

    running = []

    def build(models, **settings):
        settings = {"sizes": (1,), "wait_s": 0.0} | settings
        running.append(edge.serve(models, edge.Settings(**settings)))
        return running[-1]

    yield build
    for each in running:
        each.drain(5)
