"""A score of the size of logits."""

from __future__ import annotations

from sc_jax.exits.scores.score import Score

LARGEST = 3.4028235e38  # float32's


def _energy(answer, memory, xp):
    """The energy score T logsumexp(z / T): how large all logits are together.

    Minus the free energy of Liu et al. (2020, https://arxiv.org/abs/2010.03759), higher
    for inputs like those of training. Unlike a softmax it sees the size of logits, so
    it has no range but that of the numbers.
    """
    z, t = answer.logits, answer.temperature
    largest = z.max(-1)
    # The largest goes in front of the log: no exp above 1.
    rest = xp.exp((z - largest[:, None]) / t).sum(-1)
    return largest + t * xp.log(rest), memory


energy = Score(_energy, lambda e, k: (-LARGEST, LARGEST))
