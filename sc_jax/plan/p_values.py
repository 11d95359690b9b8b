"""P-values of a mean loss, and the order of tests that needs no correction. NumPy.

Losses are [..., C, N]: C candidates in a fixed order, safest first, N independent
examples, in 0..1. Candidates must not be chosen on the examples they are tested on.
"""

from __future__ import annotations

import math

import numpy as np


def hoeffding_bentkus(losses: np.ndarray, epsilon: float) -> np.ndarray:
    """P-values [...] of "the mean loss is above epsilon", of losses [..., N] in 0..1.

    Angelopoulos et al. (2021), Proposition 1 (Bates et al. 2021): the smaller of
    exp(-N kl(mean, epsilon)) and e P(Bin(N, epsilon) <= ceil(N mean)).
    """
    n = losses.shape[-1]
    total = losses.sum(-1)
    # Above epsilon the p-value is 1: there kl would fall again.
    mean = np.minimum(total / n, epsilon)
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 log 0 = 0.
        low = np.where(mean > 0, mean * np.log(mean / epsilon), 0.0)
        high = (1 - mean) * np.log((1 - mean) / (1 - epsilon))
    k = np.arange(1, n + 1)
    # log of n over k, by its recurrence: factorials overflow at 171.
    choose = np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k))])
    hits = np.arange(n + 1)
    pmf = choose + hits * math.log(epsilon) + (n - hits) * math.log1p(-epsilon)
    # The cumulative binomial in logs, for tails far below float64's smallest number.
    below = np.logaddexp.accumulate(pmf)[np.ceil(total).astype(int)]
    return np.minimum(1.0, np.exp(np.minimum(-n * (low + high), 1 + below)))


def betting(losses: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """P-values as of `hoeffding_bentkus`, by betting: sharp where losses vary little.

    Waudby-Smith and Ramdas (2023), section 4: capital prod(1 - b_t (loss_t - epsilon))
    from bets b_t on the losses before t; 1 / its maximum is a p-value (Ville). The bets
    aim at level delta; any delta is valid.
    """
    n = losses.shape[-1]
    # One observation more than there is: 1/2, of variance 1/4, keeps the first bet
    # small.
    t = np.arange(2, n + 2)
    mean = (0.5 + np.cumsum(losses, -1)) / t
    variance = (0.25 + np.cumsum((losses - mean) ** 2, -1)) / t
    # Shifted by one: a bet that saw its own outcome would prove anything.
    before = np.concatenate(
        [np.full_like(variance[..., :1], 0.25), variance[..., :-1]], -1
    )
    bets = np.sqrt(2 * math.log(1 / delta) / (n * before))
    # Under 1 / (1 - epsilon) the capital stays positive whatever comes.
    bets = np.minimum(bets, 0.75 / (1 - epsilon))
    capital = np.cumsum(np.log1p(-bets * (losses - epsilon)), -1)
    return np.exp(-np.maximum(capital.max(-1), 0.0))


def fixed_sequence(p_values: np.ndarray, delta: float) -> np.ndarray:
    """i[...], the last candidate before the first p-value over delta; -1: none.

    p_values: [..., C], safest first. All candidates up to it are safe together with
    probability 1 - delta, monotone or not (Angelopoulos et al. 2021, section 3).
    """
    # Stops at the first failure, so that no correction for many tests is due.
    return np.cumprod(p_values <= delta, axis=-1).sum(-1) - 1
