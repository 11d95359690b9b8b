"""What the tests of `sc_jax.data` share."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Decoded sets are kept with the test, not in the home folder."""
    monkeypatch.setenv("SC_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    """make(folder, sizes, per_class, mode): seeded PNGs of classes cat, dog, emu."""

    def make(folder, sizes=((12, 10),), per_class=6, mode="RGB"):
        rng = np.random.default_rng(0)
        for name in ("emu", "cat", "dog"):
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(per_class):
                width, height = sizes[i % len(sizes)]
                pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
                image = Image.fromarray(pixels).convert(mode)
                image.save(tmp_path / folder / name / f"{i:02d}.png")
        return tmp_path / folder

    return make


@pytest.fixture
def fails():
    """fails(error info): the one line of a UsageError."""

    def line(info):
        text = str(info.value)
        assert "\n" not in text
        return text

    return line
