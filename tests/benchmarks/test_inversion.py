"""The attack on messages: it sees what they hold, and nothing where they hold none."""

import jax
import numpy as np
import pytest

from benchmarks.methods.inversion_attack import Budget, Decoder, draw, inverted, line
from benchmarks.methods.inverted_cuts import measured
from sc_jax.evaluate.fidelity import psnr
from sc_jax.nets.layers.blocks import Normalise, Pooled
from sc_jax.nets.net import Net, Stage
from sc_jax.nets.run import init

RNG = np.random.default_rng(0)
BUDGET = Budget(steps=120, batch=16, width=16, learning_rate=1e-2)


def images(count):
    """Smooth pictures: a slope and a level of their own each."""
    slopes, levels = RNG.uniform(-4, 4, (count, 2)), RNG.uniform(70, 180, count)
    far = np.arange(16) - 8
    plane = slopes[:, :1, None] * far[None, :, None] + slopes[:, 1:, None] * far
    return np.clip(plane + levels[:, None, None], 0, 255).astype(np.uint8)[..., None]


TRAIN, TEST = images(128), images(24)


def test_pictures_come_back_from_what_tells_them_and_not_from_noise():
    def small(x):
        return x[:, ::4, ::4].astype(np.float32)

    mean = np.broadcast_to(TRAIN.mean(0), TEST.shape)
    nothing = psnr(TEST, mean).mean()
    seen = inverted(small(TRAIN), TRAIN, small(TEST), BUDGET)
    assert seen.shape == TEST.shape and seen.dtype == np.uint8
    assert psnr(TEST, seen).mean() > nothing + 4
    noise = [RNG.normal(size=(len(x), 4, 4, 1)).astype("f4") for x in (TRAIN, TEST)]
    blind = inverted(noise[0], TRAIN, noise[1], BUDGET)
    assert psnr(TEST, blind).mean() < nothing + 0.5


@pytest.mark.parametrize("latent", [(7, 7, 5), (28, 28, 3), (14, 11, 2), (40,)])
def test_a_decoder_ends_in_the_images_shape(latent):
    decoder, z = Decoder((28, 28, 3), 16), np.zeros((2, *latent), np.float32)
    out = jax.eval_shape(lambda: decoder.init_with_output(jax.random.key(0), z)[0])
    assert out.shape == (2, 28, 28, 3)


def test_every_cut_has_a_row_with_its_own_bytes(tmp_path):
    net = Net((Stage("a", Normalise()), Stage("b", Pooled()), Stage("c", Plain())))
    variables = init(net, jax.random.key(0), TRAIN[:1])
    rows, pictures = measured(
        net, variables, ["a", "b"], TRAIN, TEST, BUDGET, codec="affine:bits=8"
    )
    by = {row["cut"]: row for row in rows}
    assert list(by)[1:] == ["no message", "a", "b"]
    # A byte a value, and what the codec needs beside.
    assert 256 <= by["a"]["bytes"] <= 280 and 1 <= by["b"]["bytes"] <= 25
    # A pixel each tells more than the mean of all does, that more than nothing.
    order = [by[name]["psnr"] for name in ("a", "b", "no message")]
    assert order == sorted(order, reverse=True)
    draw([(name, every[:3]) for name, every in pictures], tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert "| a | 16 x 16 x 1 | " in line(by["a"])


class Plain(Pooled):
    def __call__(self, x, *, train):
        return x
