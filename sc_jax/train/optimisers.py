"""Optimisers and their schedules as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import optax

from sc_jax.errors import unknown
from sc_jax.spec import Knob


@dataclass(frozen=True)
class Optimiser:
    """An optax optimiser and its learning-rate schedule over the phase.

    name: adam, adamw or sgd (momentum 0.9; without `nesterov` the plain one, as in the
    second stages of the SC2 benchmark and BottleFit). schedule: "constant", "cosine" to
    zero, or "step": x0.1 at each share of the phase in `drops`. `warmup` is a share.
    `split_factor` times the rate is that of compressors: a density has far to go where
    an encoder that starts as the identity should hardly move.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Knob(at_least=0)] = 1e-3
    schedule: Literal["constant", "cosine", "step"] = "constant"
    drops: Annotated[tuple[float, ...], Knob(at_least=0, at_most=1)] = (0.5, 0.8)
    warmup: Annotated[float, Knob(at_least=0, at_most=1)] = 0.0
    weight_decay: Annotated[float, Knob(at_least=0)] = 0.0
    nesterov: bool = True
    split_factor: Annotated[float, Knob(above=0)] = 1.0

    def rate(self, steps: int) -> optax.Schedule:
        """Learning rate by step of a phase of `steps`."""
        rise = round(self.warmup * steps)
        if self.schedule == "cosine":
            main = optax.cosine_decay_schedule(self.learning_rate, max(steps - rise, 1))
        elif self.schedule == "step":
            drops = {round(d * steps) - rise: 0.1 for d in self.drops}
            main = optax.piecewise_constant_schedule(self.learning_rate, drops)
        else:
            main = optax.constant_schedule(self.learning_rate)
        ramp = optax.linear_schedule(0.0, self.learning_rate, max(rise, 1))
        return optax.join_schedules([ramp, main], [rise]) if rise else main

    def build(self, steps: int) -> optax.GradientTransformation:
        """Of parameters by part, as a net has them."""
        plain = self._plain(steps)
        if self.split_factor == 1.0:  # states stay those of runs from before
            return plain
        return optax.chain(plain, optax.stateless(self._scaled))

    def _scaled(self, updates, _):
        splits = {k: v for k, v in updates.items() if k.startswith("split@")}
        return updates | jax.tree.map(lambda u: self.split_factor * u, splits)

    def _plain(self, steps: int) -> optax.GradientTransformation:
        rate = self.rate(steps)
        if self.name == "adam":
            return optax.adam(rate)
        if self.name == "adamw":
            return optax.adamw(rate, weight_decay=self.weight_decay)
        if self.name == "sgd":
            # Before momentum, as in the papers of the nets: coupled, unlike adamw's.
            decay = optax.add_decayed_weights(self.weight_decay)
            momentum = optax.sgd(rate, momentum=0.9, nesterov=self.nesterov)
            return optax.chain(decay, momentum)
        raise unknown("optimiser", self.name, ("adam", "adamw", "sgd"))
