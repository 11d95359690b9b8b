"""Fits EENet's scheduler (Ilhan et al., WACV 2024) to recorded answers and a budget.

Two things learn together: at each exit a score q, the probability that its answer is
right (exits.scores.fitted.eenet), and for each example r, a softmax over exits whose
mean is the share of examples that leave at each. They minimise

    BCE(q, right) weighted by r  +  pull KL(quality || r)
        + price |cost of the shares - budget| / budget.

An example's quality at an exit is q^sharpness over the exits' sum: it should leave
where it is surest to be right, as far as the budget goes. Each term moves one of the
two, q the first and r the others: r is held fixed in its weights, which sum to 1 over
the examples of an exit, and q in the quality. The KL is a mean over examples and exits.
Who runs the network needs q and a threshold of it alone: the shares in order of score,
as in exits.solve.threshold_search.

Differences from the released code: q is a sigmoid, there a linear map clipped to 0..1;
r is one map of all exits' scalars and scores, there one of each exit's probabilities
too, its outputs in 0..1 before the softmax; votes are read; whole-batch steps of both
at once, there turns of ten epochs; and the shares are at last tilted, by z^e, to the
budget exactly.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.scores import Scoring
from sc_jax.exits.scores.fitted import SCALARS, standing
from sc_jax.exits.scores.score import answers_of
from sc_jax.exits.solve.threshold_search import (
    geometric_shares,
    shares_to_thresholds,
    within,
)
from sc_jax.exits.solve.thresholds import Solved, solved
from sc_jax.traces.trace import Trace, for_fitting

SPREAD = 1e-3  # of the first shares that is even, so that no exit is out of reach


class Read(NamedTuple):
    """What the fit reads of N examples at E exits of K classes."""

    features: Any  # f32[E, N, K + SCALARS], standardised
    right: Any  # f32[E, N], quality in 0..1: 1 where it is right
    start: Any  # f32[E], the shares that r starts from
    cost: Any  # f32[E], in budgets


def fit(
    trace: Trace,
    *,
    budget: float,
    pull: float = 1.0,
    sharpness: float = 1.0,
    price: float = 10.0,
    ridge: float = 10.0,
    width: int = 16,
    steps: int = 400,
    seed: int = 0,
) -> Solved:
    """The "eenet" score and its thresholds, at most `budget` of mean cost on the trace.

    budget: in the unit of trace.cost. pull, price: weights of the KL and of the cost.
    sharpness: b of the quality q^b, 1 in the authors' settings. ridge: penalty on the
    squared weights of the scores, in examples. width: of the one hidden layer of r. The
    same trace and seed give the same answer. The descent is compiled once for a shape
    of trace: seconds, then a fraction of one.
    """
    terms = {"pull": pull, "sharpness": sharpness, "price": price, "ridge": ridge}
    for name, value in terms.items():
        if not 0 <= value < np.inf:
            raise UsageError(f"{name} is 0 or more, not {value}")
    if min(width, steps) < 1:
        raise UsageError(f"width and steps are 1 or more, not {width} and {steps}")
    cost = for_fitting(trace).cost
    within(budget, cost)
    x = _features(trace.answers)
    middle, scale = x.mean(1), x.std(1) + 1e-3
    # More than the whole network costs cannot be spent.
    aim = min(budget, float(cost[-1]))
    # No share of exactly 0: its logarithm would be infinite.
    start = geometric_shares(cost, aim) * (1 - SPREAD) + SPREAD / len(cost)
    read = Read(
        features=(x - middle[:, None]) / scale[:, None],
        right=np.clip(trace.quality, 0, 1),
        start=start.astype(np.float32),
        # In budgets, so that one price serves networks of every size.
        cost=(cost / aim).astype(np.float32),
    )
    of_loss = pull, sharpness, price, ridge
    rows, shares = _learn(read, of_loss, width, steps, seed)
    weights = tuple(_plain(w, m, s) for w, m, s in zip(rows, middle, scale))
    scoring = Scoring("eenet", weights=weights)
    tilted = geometric_shares(cost, aim, shares)
    return solved(trace, scoring, shares_to_thresholds(scoring.of(trace), tilted))


def _features(logits: np.ndarray) -> np.ndarray:
    """f32[E, N, K + SCALARS], what the score reads of each exit."""
    predictions, rows = (), []
    for answer in answers_of(logits):
        columns, predictions = standing(answer, predictions, np)
        rows.append(columns.astype(np.float32))
    return np.stack(rows)


def _plain(w: np.ndarray, middle: np.ndarray, scale: np.ndarray) -> tuple[float, ...]:
    """Weights of features as they are, from weights of standardised ones."""
    own = w[1 : 1 + len(scale)].astype(np.float64) / scale
    bias = float(w[0] - own @ middle.astype(np.float64))
    return (bias, *own.tolist(), *w[1 + len(scale) :].tolist())


def _learn(
    read: Read,
    terms: tuple[float, float, float, float],
    width: int,
    steps: int,
    seed: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """(weights of each exit's score, of standardised features; shares f64[E])."""
    exits, _, columns = read.features.shape
    rng = np.random.default_rng(seed)
    start = {
        # Zero weights: every q starts at 1/2, and the first gradient is the same
        # everywhere.
        "scores": [np.zeros(1 + columns + e, np.float32) for e in range(exits)],
        "w1": rng.normal(0, 0.1, (exits * (SCALARS + 1), width)).astype(np.float32),
        "b1": np.zeros((1, width), np.float32),
        "w2": rng.normal(0, 0.1, (width, exits)).astype(np.float32),
        # The softmax starts within the budget.
        "b2": np.log(read.start)[None],
    }
    scores, shares = _program(steps)(start, read, terms)
    return [np.asarray(w) for w in scores], np.asarray(shares, np.float64)


@cache
def _program(steps: int) -> Any:
    """The whole descent, compiled once for all fits of one shape."""
    import jax  # late: what a device loads of exits knows no framework
    import jax.numpy as jnp
    import optax

    optimiser = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    slopes = jax.grad(_loss)

    @jax.jit
    def program(weights, read, terms):
        def step(_, state):
            weights, memory = state
            found, memory = optimiser.update(slopes(weights, read, terms), memory)
            return optax.apply_updates(weights, found), memory

        state = weights, optimiser.init(weights)
        weights, _ = jax.lax.fori_loop(0, steps, step, state)
        return weights["scores"], jnp.exp(_leaving(weights, read)[1]).mean(0)

    return program


def _leaving(weights: dict, read: Read) -> tuple[Any, Any]:
    """(logits of q f32[E, N], log r f32[N, E]) of the weights."""
    import jax
    import jax.numpy as jnp

    odds, scores, summary = [], [], []
    for x, w in zip(read.features, weights["scores"]):
        odds.append(w[0] + jnp.concatenate([x, *scores], 1) @ w[1:])
        # Later scores and r read a score but must not shape it: it has its own target.
        scores.append(jax.lax.stop_gradient(jax.nn.sigmoid(odds[-1]))[:, None])
        summary.append(jnp.concatenate([x[:, -SCALARS:], scores[-1]], 1))
    hidden = jnp.tanh(jnp.concatenate(summary, 1) @ weights["w1"] + weights["b1"])
    return jnp.stack(odds), jax.nn.log_softmax(hidden @ weights["w2"] + weights["b2"])


def _loss(weights: dict, read: Read, terms: tuple[Any, Any, Any, Any]) -> Any:
    import jax
    import jax.numpy as jnp
    import optax

    odds, log_leaving = _leaving(weights, read)
    leaving, examples = jnp.exp(log_leaving), odds.shape[1]
    wrong = optax.sigmoid_binary_cross_entropy(odds, read.right)
    # Over its examples an exit's weights sum to 1, however few it will have.
    weight = jax.lax.stop_gradient(leaving / leaving.sum(0, keepdims=True)).T
    pull, sharpness, price, ridge = terms
    # In logs: a power of a small q would underflow.
    likely = sharpness * jax.nn.log_sigmoid(jax.lax.stop_gradient(odds)).T
    quality = jax.nn.log_softmax(likely, 1)
    apart = (jnp.exp(quality) * (quality - log_leaving)).mean()
    # Both sides: an unspent budget is accuracy left on the table.
    over = jnp.abs(leaving.mean(0) @ read.cost - 1)
    squares = sum((w[1:] ** 2).sum() for w in weights["scores"])
    fit = (weight * wrong).sum()
    return fit + pull * apart + price * over + ridge / examples * squares / 2
