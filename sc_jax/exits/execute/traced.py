"""The scores of exits/ inside jit: one exit at a time, for batches that shrink.

What a score must know of the exits before stands in a memory, a pytree with leading
axis B: whoever goes on takes their rows of it along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sc_jax.errors import UsageError


class Read(NamedTuple):
    """What a twin reads at one exit."""

    logits: jax.Array  # f32[B, K], as the exit gave them
    log_p: jax.Array  # f32[B, K], their log-softmax at the temperature
    told: jax.Array | None  # f32[B], the logit of what the exit says of itself
    weights: tuple[float, ...]  # of this exit; () for a score that has none
    memory: Any  # what the twin kept at the exit before; None at the first


Twin = Callable[[Read], tuple[jax.Array, Any]]  # f32[B], and what to keep


def _max_probability(read: Read):
    return jnp.exp(read.log_p.max(-1)), None


def _margin(read: Read):
    top = jnp.exp(jax.lax.top_k(read.log_p, 2)[0])
    return top[:, 0] - top[:, 1], None


def _entropy(read: Read):
    return -_nats(read.log_p), None


def _normalised_entropy(read: Read):
    return _surety(read.log_p), None


def _patience(read: Read):
    answer = _answer(read)
    if read.memory is None:
        count = jnp.zeros(answer.shape, jnp.float32)
    else:
        before, count = read.memory
        count = jnp.where(answer == before, count + 1, 0.0)
    return count, (answer, count)


def _cumulative(read: Read):
    doubt = 1 - jnp.exp(read.log_p.max(-1))
    doubt = doubt if read.memory is None else doubt * read.memory
    return 1 - doubt, doubt


def _ensembled(read: Read):
    total, count = (0.0, 0.0) if read.memory is None else read.memory
    count = count + jnp.ones(len(read.log_p), jnp.float32)
    total = total + jnp.exp(read.log_p)
    return total.max(-1) / count, (total, count)


def _failure_prediction(read: Read):
    sharp = jax.nn.log_softmax(2 * read.log_p)
    largest, margin = jnp.exp(read.log_p.max(-1)), _margin(read)[0]
    columns = (largest, margin, 1 - _surety(read.log_p), 1 - _surety(sharp))
    return _logistic(columns, read.weights), None


def _eenet(read: Read):
    answers, scores = ((), ()) if read.memory is None else read.memory
    answers = (*answers, _answer(read))
    p = jnp.exp(read.log_p)
    votes = jnp.stack([answer == answers[-1] for answer in answers]).mean(0)
    columns = (*p.T, p.max(-1), _surety(read.log_p), votes, *scores)
    score = _logistic(columns, read.weights)
    return score, (answers, (*scores, score))


def _confidence(read: Read):
    if read.told is None:
        raise UsageError(
            "an exit of this net never learnt a confidence: a score of its logits"
        )
    return jax.nn.sigmoid(read.told), None


def _cumulative_confidence(read: Read):
    doubt = 1 - _confidence(read)[0]
    doubt = doubt if read.memory is None else doubt * read.memory
    return 1 - doubt, doubt


# By the names of exits.scores.SCORES, whose functions say what each is.
TRACED: dict[str, Twin] = {
    "max_probability": _max_probability,
    "margin": _margin,
    "entropy": _entropy,
    "normalised_entropy": _normalised_entropy,
    "patience": _patience,
    "cumulative": _cumulative,
    "ensembled": _ensembled,
    "failure_prediction": _failure_prediction,
    "eenet": _eenet,
    "confidence": _confidence,
    "cumulative_confidence": _cumulative_confidence,
}


def _answer(read: Read) -> jax.Array:
    """i32[B]; of log_p, rounding would make ties."""
    return read.logits.argmax(-1).astype(jnp.int32)


def _nats(log_p: jax.Array) -> jax.Array:
    """Entropy f32[B], 0 to ln K."""
    finite = jnp.maximum(log_p, jnp.finfo(log_p.dtype).min)  # 0 * -inf is NaN
    nats = -(jnp.exp(log_p) * finite).sum(-1)
    return jnp.clip(nats, 0.0, math.log(log_p.shape[-1]))


def _surety(log_p: jax.Array) -> jax.Array:
    """1 - H / ln K."""
    return 1 - _nats(log_p) / math.log(log_p.shape[-1])


def _logistic(columns: Sequence[jax.Array], weights: Sequence[float]) -> jax.Array:
    """f32[B] of columns f32[B] and their weights, bias first."""
    needed = 1 + len(columns)
    if len(weights) != needed:
        given = len(weights)
        raise UsageError(f"an exit takes {needed} weights of its score, not {given}")
    odds = sum((w * c for w, c in zip(weights[1:], columns)), start=weights[0])
    return jax.nn.sigmoid(jnp.asarray(odds))
