"""What the phases of one run share: saving, stopping, and reporting where."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.errors import Diverged, Stopped
from sc_jax.nets.run import Variables
from sc_jax.train import devices
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.log import Log
from sc_jax.train.recipe import Phase, Recipe
from sc_jax.train.serialisation import describe


class StopSignal:
    """SIGTERM as a flag, so that the step in progress ends and is saved.

    `stopping` gives the one that is on: of a run's many trainings and measurements
    together, or a signal between two of them would be noted and forgotten.
    """

    def __enter__(self):
        self.seen = False
        try:
            # Ctrl-C stays as it is: whoever presses it waits for the prompt.
            self._old = signal.signal(signal.SIGTERM, self._note)
        except ValueError:  # not the main thread: nothing to catch
            self._old = None
        return self

    def _note(self, *_):
        # A second one changes nothing: `timeout` alone sends two.
        self.seen = True

    def __exit__(self, *_):
        if self._old is not None:
            signal.signal(signal.SIGTERM, self._old)

    def anywhere(self) -> bool:
        """Whether any process got SIGTERM (all must agree to save together)."""
        return bool(devices.gathered(self.seen).any())


_ON: ContextVar[StopSignal | None] = ContextVar("stop", default=None)


@contextmanager
def stopping() -> Iterator[StopSignal]:
    """The StopSignal of the whole run: the outermost installs it, others share it."""
    shared = _ON.get()
    if shared is not None:
        yield shared
        return
    with StopSignal() as own:
        token = _ON.set(own)
        try:
            yield own
        finally:
            _ON.reset(token)


def heed(where: str) -> None:
    """Stopped where SIGTERM came since the run began; where: "before its report".

    For work between and behind trainings, whose parts are kept one by one. Processes
    of one run come here together.
    """
    stop = _ON.get()
    if stop is not None and stop.anywhere():
        raise Stopped(f"stopped {where}; the same command resumes")


@dataclass(frozen=True)
class Run:
    """What all phases of one run share."""

    recipe: Recipe
    teacher_variables: Variables | None
    stream: Any
    augment: str
    mesh: jax.sharding.Mesh
    checkpoints: Checkpoints
    log: Log
    stop: StopSignal
    log_every: int
    save_every: int

    def save(self, step: int, arrays: Any, phase: int, **more):
        """Queues a checkpoint; an array that is not finite is never saved."""
        # Here too: a loss is finite for a step after the weights no longer are.
        if not finite(arrays):
            raise Diverged(
                f"parameters are not finite at step {step}; {self.good(step - 1)}"
            )
        meta = {
            "phase": phase,
            "data": self.stream.get_state(),
            "recipe": describe(self.recipe),
        }
        self.checkpoints.save(step, arrays, meta, **more)

    def good(self, step: int) -> str:
        newest = self.checkpoints.latest()
        return (
            f"the last good step is {step}, the last checkpoint "
            f"{'none' if newest is None else newest}"
        )

    def leave(self, step: int) -> None:
        """Raises Stopped, once `step` is on disk."""
        # The process ends after this: a save in the background would be cut short.
        self.checkpoints.wait()
        raise Stopped(f"stopped at step {step}, saved; the same command resumes")

    def means(self, phase: Phase, step: int, since: list[dict]) -> dict:
        """Mean metrics of the steps before `step`; Diverged if one is not finite."""
        first = step - len(since)
        for done, values in enumerate(since):
            # The norm as well: it is infinite a step before the loss is.
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(values[name]):
                    raise Diverged(
                        f"{name} is {values[name]} in step {first + done + 1} of phase "
                        f"{phase.name!r}; {self.good(first + done)}"
                    )
        return {k: sum(float(v[k]) for v in since) / len(since) for k in since[0]}


def finite(tree: Any) -> bool:
    """Whether every number is finite; a CPU reads them where they lie.

    There a compiled check would take seconds, once for every set of shapes.
    """
    if jax.default_backend() != "cpu":
        return all(map(bool, jax.tree.leaves(_finite(tree))))
    leaves = jax.tree.leaves(devices.local(tree))
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves)


@jax.jit
def _finite(tree):
    return jax.tree.map(lambda a: jnp.isfinite(a).all(), tree)
