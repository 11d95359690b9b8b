"""A recipe small enough to train in seconds, and how to compare what it leaves."""

import jax
import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.data import sources
from sc_jax.data.dataset import Dataset
from sc_jax.train.serialisation import override


@pytest.fixture(autouse=True, scope="session")
def little_data():
    """A source "little": 48 / 8 seeded images of 16 x 16, three classes."""

    def load(argument, part, data_dir):
        """Seeded squares of three classes, for tests."""
        rng = np.random.default_rng(0)
        count = {"train": 48, "test": 8}[part]
        images = rng.integers(0, 256, (count, 16, 16, 1), np.uint8)
        labels = (np.arange(count) % 3).astype(np.int32)
        return Dataset("little", part, ("a", "b", "c"), images, labels)

    sources.SOURCES["little"] = load
    yield
    del sources.SOURCES["little"]


@pytest.fixture(scope="session")
def student():
    """An Entropic Student of 4 + 4 steps: noise, dropout and augmentation all on."""
    recipe = recipes.build("entropic_student", {"data": "little", "channels": 2})
    for assignment in ("phases.0.steps=4", "phases.1.steps=4", "data.batch_size=8"):
        recipe = override(recipe, assignment)
    return recipe


@pytest.fixture(scope="session")
def classifier():
    """Six steps."""
    recipe = recipes.build("classifier", {"data": "little", "batch_size": 8})
    return override(recipe, "phases.0.steps=6")


@pytest.fixture(scope="session")
def taught(student):
    from sc_jax.train.loop import first_variables

    return first_variables(student.teacher, None, np.zeros((1, 16, 16, 1), np.uint8))


@pytest.fixture(scope="session")
def same():
    """same(a, b): two trees agree in every bit."""

    def check(a, b):
        a, b = jax.device_get((a, b))
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
            x, y = np.asarray(x), np.asarray(y)
            assert x.dtype == y.dtype and x.tobytes() == y.tobytes()

    return check


@pytest.fixture
def breaking(monkeypatch):
    """breaking(n): the stream raises KeyboardInterrupt instead of its batch n."""
    from sc_jax.data.pipeline import Batches

    real = Batches.__next__

    def arrange(n):
        def broken(self):
            if self.get_state()["step"] == n:
                raise KeyboardInterrupt
            return real(self)

        monkeypatch.setattr(Batches, "__next__", broken)
        return lambda: monkeypatch.setattr(Batches, "__next__", real)

    return arrange
