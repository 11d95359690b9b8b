"""What the tests of `sc_jax.data` share."""

import numpy as np
import pytest
from PIL import Image

from sc_jax import notices


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Decoded sets are kept with the test, not in the home folder."""
    monkeypatch.setenv("SC_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def said(caplog):
    """said() -> the lines about data since the last call, as if never said before."""
    notices.once.cache_clear()

    def lines():
        found = [r.getMessage() for r in caplog.records if r.name == "sc_jax.data"]
        caplog.clear()
        assert not any("\n" in line for line in found)
        return found

    return lines


@pytest.fixture
def pics(tmp_path):
    """make(size, mode) -> pics, ten PNGs of noise in each of {train,test}/{a,b}."""

    def make(size=(12, 10), mode="RGB", count=10):
        rng = np.random.default_rng(0)
        for part in ("train", "test"):
            for name in "ab":
                folder = tmp_path / "pics" / part / name
                folder.mkdir(parents=True)
                for i in range(count):
                    noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
                    Image.fromarray(noise).convert(mode).save(folder / f"{i}.png")
        return tmp_path / "pics"

    return make


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
