"""The energy score: how large all logits are together."""

from __future__ import annotations

from sc_jax.exits.scores.score import Score

LARGEST = 3.4028235e38  # float32's


def _energy(answer, memory, xp):
    z, t = answer.logits, answer.temperature
    largest = z.max(-1)
    rest = xp.exp((z - largest[:, None]) / t).sum(-1)
    return largest + t * xp.log(rest), memory


# T logsumexp(z / T), minus the free energy of Liu et al. (2020,
# https://arxiv.org/abs/2010.03759), higher for inputs like those of training. Unlike a
# softmax it sees the size of logits, so it has no range but that of the numbers.
energy = Score(_energy, lambda e, k: (-LARGEST, LARGEST))
