"""PSNR and SSIM: what is known of them exactly, and a plain loop beside them."""

import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.evaluate.fidelity import C1, C2, psnr, ssim

RNG = np.random.default_rng(0)


def noise(shape=(3, 20, 16, 3)):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def test_a_picture_is_as_good_as_itself():
    x = noise()
    np.testing.assert_allclose(ssim(x, x), 1, rtol=1e-12)
    assert (psnr(x, x) == np.inf).all()


def test_constant_pictures_have_their_formula():
    for a, b in ((0, 255), (10, 20), (128, 127)):
        x, y = (np.full((2, 12, 30, 1), v, np.uint8) for v in (a, b))
        np.testing.assert_allclose(psnr(x, y), 20 * np.log10(255 / abs(a - b)))
        light = (2 * a * b + C1) / (a * a + b * b + C1)
        np.testing.assert_allclose(ssim(x, y), light, rtol=1e-9)


def test_ssim_is_that_of_a_plain_loop_over_windows():
    x, y = noise((1, 14, 13, 2)), noise((1, 14, 13, 2))
    far = np.arange(11) - 5
    one = np.exp(-(far**2) / 4.5)
    window = np.outer(one, one) / one.sum() ** 2
    found = []
    for c in range(2):
        for i in range(4):
            for j in range(3):
                a = x[0, i : i + 11, j : j + 11, c].astype(float)
                b = y[0, i : i + 11, j : j + 11, c].astype(float)
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                light = (2 * ma * mb + C1) / (ma**2 + mb**2 + C1)
                found.append(light * (2 * cov + C2) / (va + vb + C2))
    np.testing.assert_allclose(ssim(x, y), np.mean(found), rtol=1e-9)


def test_both_fall_as_noise_grows_and_do_not_mind_the_order():
    x = np.tile(np.linspace(40, 200, 32)[None, None, :, None], (1, 32, 1, 3))
    grain = RNG.normal(size=x.shape)
    each = [x + sigma * grain for sigma in (1, 5, 20)]
    for measure in (psnr, ssim):
        values = [measure(x, y)[0] for y in each]
        assert values == sorted(values, reverse=True)
        np.testing.assert_allclose(measure(x, each[1]), measure(each[1], x))
    assert (ssim(noise(), noise()) < 0.1).all()


def test_mistakes_are_one_line():
    small = np.zeros((1, 10, 40, 3), np.uint8)
    with pytest.raises(UsageError, match="11 x 11 pixels or more, not 10 x 40"):
        ssim(small, small)
    with pytest.raises(UsageError, match="of one shape"):
        psnr(small, small[0])
