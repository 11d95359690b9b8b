"""How near one picture is to another: PSNR, and SSIM of Wang et al. (2004).

Image quality assessment: from error visibility to structural similarity,
https://doi.org/10.1109/TIP.2003.819861. NumPy; pictures are uint8 or float in 0..255.
"""

from __future__ import annotations

import numpy as np

from sc_jax.errors import UsageError

PEAK = 255.0
# Their window and constants: 11 x 11 of a Gaussian of deviation 1.5, K1 and K2.
SIDE, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def psnr(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """f64[N] dB of pictures [N, H, W, C]; infinite where two are the same."""
    x, y = _pair(x, y)
    error = ((x - y) ** 2).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 / error)


def ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """f64[N] of pictures [N, H, W, C], at most 1: the mean over windows and channels.

    Windows lie whole within the picture, whose sides are 11 or more; UsageError. The
    paper's are of luminance alone: channels are averaged here.
    """
    x, y = _pair(x, y)
    if min(x.shape[1:3]) < SIDE:
        raise UsageError(
            f"SSIM takes pictures of {SIDE} x {SIDE} pixels or more, not "
            f"{x.shape[1]} x {x.shape[2]}"
        )
    mean_x, mean_y = _windows(x), _windows(y)
    # Rounding may leave a variance of a flat window below 0.
    var_x = np.maximum(_windows(x * x) - mean_x**2, 0)
    var_y = np.maximum(_windows(y * y) - mean_y**2, 0)
    both = _windows(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    shape = (2 * both + C2) / (var_x + var_y + C2)
    return (light * shape).mean((1, 2, 3))


def _pair(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if x.shape != y.shape or x.ndim != 4:
        raise UsageError(
            f"pictures are two arrays [N, H, W, C] of one shape, not {x.shape} and "
            f"{y.shape}"
        )
    return x.astype(np.float64), y.astype(np.float64)


def _windows(x: np.ndarray) -> np.ndarray:
    """Gaussian means of every whole window: [N, H - 10, W - 10, C]."""
    far = np.arange(SIDE) - SIDE // 2
    weights = np.exp(-(far**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (1, 2):
        count = x.shape[axis] - SIDE + 1
        x = sum(  # type: ignore[assignment]
            w * x.take(range(i, i + count), axis) for i, w in enumerate(weights)
        )
    return x
