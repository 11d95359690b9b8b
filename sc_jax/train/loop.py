"""The trainer: runs a recipe's phases, checkpointed, resumable bit for bit."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sc_jax.codec import codecs
from sc_jax.compressors.freeze import freeze_all, settle
from sc_jax.config import Recipe, describe
from sc_jax.data import pipeline, sources
from sc_jax.nets.run import Variables, graft, init
from sc_jax.train import devices
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.log import Log
from sc_jax.train.step import TrainState, begin, divide, make_step


class Diverged(RuntimeError):
    """The loss is no longer finite."""


class Stopped(RuntimeError):
    """SIGTERM came; a checkpoint was written."""


class _Signal:
    """SIGTERM as a flag, so that the step in progress ends and is saved."""

    def __enter__(self):
        self.seen = False
        try:
            self._old = signal.signal(signal.SIGTERM, self._note)
        except ValueError:  # not the main thread: nothing to catch
            self._old = None
        return self

    def _note(self, *_):
        self.seen = True

    def __exit__(self, *_):
        if self._old is not None:
            signal.signal(signal.SIGTERM, self._old)

    def anywhere(self) -> bool:
        """Whether any process was asked to stop (all must agree to save together)."""
        if jax.process_count() == 1:
            return self.seen
        return bool(multihost_utils.process_allgather(np.array(self.seen)).any())


def first_variables(recipe: Recipe, taught: Variables | None, example) -> Variables:
    """Fresh variables, with the teacher's own for every stage both nets name."""
    variables = init(recipe.net, jax.random.key(recipe.seed), example)
    if recipe.teacher is None or taught is None:
        return variables
    shared = frozenset(variables.params) & frozenset(taught.params)
    return graft(variables, taught, shared)


@dataclass(frozen=True)
class _Run:
    """What all phases of one run share."""

    recipe: Recipe
    taught: Variables | None
    stream: Any
    mesh: jax.sharding.Mesh
    checkpoints: Checkpoints
    log: Log
    log_every: int
    save_every: int

    def save(self, step: int, arrays: Any, phase: int, **more):
        meta = {
            "phase": phase,
            "data": self.stream.get_state(),
            "recipe": describe(self.recipe),
        }
        self.checkpoints.save(step, arrays, meta, **more)


def fit(
    recipe: Recipe,
    workdir: Path,
    taught: Variables | None = None,
    *,
    title: str = "train",
    log_every: int = 50,
    save_every: int = 500,
    keep: int = 3,
) -> Variables:
    """Trains `recipe` to its end, from the newest checkpoint under `workdir` if any.

    `taught` are the teacher's variables. Returns the final variables with priors
    settled; the last checkpoint holds the codec tables too. Raises Diverged with the
    last good step, Stopped after SIGTERM.
    """
    data = recipe.data
    dataset = sources.load(
        data.name, "train", data_dir=data.data_dir, image_size=data.image_size
    )
    # Pictures of varying size are augmented while they are decoded, not again here.
    on_device = pipeline.device_kind(dataset, data.augment)
    recipe = replace(recipe, data=replace(data, augment=on_device))
    example = np.zeros((1, *dataset.shape), np.uint8)
    mesh = devices.mesh()
    variables = devices.replicate(first_variables(recipe, taught, example), mesh)
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=keep)
    saved = checkpoints.latest()
    meta = {} if saved is None else checkpoints.meta(saved)
    if saved is not None and meta["phase"] == len(recipe.phases):
        variables = checkpoints.arrays(saved, variables)
        checkpoints.close()
        return Variables(*variables)
    stream = pipeline.batches(
        dataset,
        batch_size=data.batch_size,
        seed=recipe.seed,
        augment=data.augment,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    if meta:
        stream.set_state(meta["data"])
    lead = jax.process_index() == 0
    log = Log(workdir / "metrics.jsonl", title, recipe.steps, saved or 0, lead)
    taught = None if taught is None else devices.replicate(taught, mesh)
    shared = _Run(recipe, taught, stream, mesh, checkpoints, log, log_every, save_every)
    try:
        variables = _phases(shared, variables, saved, meta, example)
        checkpoints.wait()
    finally:
        log.close()
        stream.close()
        checkpoints.close()
    return variables


def _phases(shared: _Run, variables: Variables, saved, meta, example) -> Variables:
    """Every phase from where the checkpoint `saved` stands (None: from the first)."""
    recipe = shared.recipe
    first = meta.get("phase", 0)
    for index in range(first, len(recipe.phases)):
        phase = recipe.phases[index]
        begun = sum(p.steps for p in recipe.phases[:index])
        end = begun + phase.steps
        arrays = _start(shared, index, variables)
        step = begun
        if index == first and meta:
            arrays, step = shared.checkpoints.arrays(saved, arrays), saved
        current, cold = arrays
        current = _phase(shared, index, begun, step, TrainState(*current), cold)
        variables = Variables({**cold, **current.hot}, current.state)
        variables = devices.replicate(settle(recipe.net, variables), shared.mesh)
        if index + 1 < len(recipe.phases):
            shared.save(end, _start(shared, index + 1, variables), index + 1)
        else:
            frozen = freeze_all(recipe.net, variables, example)
            tables = {name: codecs.to_arrays(codec) for name, codec in frozen.items()}
            shared.save(end, variables, index + 1, tables=tables)
    return variables


def _start(shared: _Run, index: int, variables: Variables) -> tuple[TrainState, dict]:
    """(what a phase changes, its frozen parameters), on the devices."""
    phase = shared.recipe.phases[index]
    current = begin(shared.recipe, phase, variables)
    # Copies: a step donates `current`, whose leaves may be the teacher's own arrays.
    current = jax.tree.map(jax.numpy.copy, current)
    cold = divide(shared.recipe, phase, variables)[1]
    return devices.replicate((current, cold), shared.mesh)


def _phase(shared: _Run, index, begun, step, current, cold) -> TrainState:
    """Steps `step` .. the phase's end (numbers count over all phases)."""
    recipe, phase = shared.recipe, shared.recipe.phases[index]
    end = begun + phase.steps
    advance = make_step(recipe, phase)
    root = jax.random.key(recipe.seed)
    since, begun_at, good = [], time.monotonic(), step
    with _Signal() as stop:
        while step < end:
            batch = devices.shard(next(shared.stream), shared.mesh)
            key = jax.random.fold_in(root, step)
            current, values = advance(
                current, cold, shared.taught, batch, step - begun, key
            )
            since.append(values)
            step += 1
            saving = step % shared.save_every == 0 and step < end
            urgent = stop.seen and jax.process_count() == 1
            if not (saving or urgent or step % shared.log_every == 0 or step == end):
                continue
            means = jax.device_get(jax.tree.map(lambda *v: sum(v) / len(v), *since))
            seconds = time.monotonic() - begun_at
            speed = len(since) * recipe.data.batch_size / seconds
            means = {name: float(value) for name, value in means.items()}
            if not math.isfinite(means["loss"]):
                raise Diverged(
                    f"loss is {means['loss']} between steps {good} and {step} of phase "
                    f"{phase.name!r}; the last good step logged is {good}, the last "
                    f"checkpoint {shared.checkpoints.latest() or 'none'}"
                )
            shared.log.record(phase.name, step, means, speed)
            since, begun_at, good = [], time.monotonic(), step
            stopping = stop.anywhere() and step < end
            if saving or stopping:
                shared.save(step, (current, cold), index)
            if stopping:
                shared.checkpoints.wait()
                raise Stopped(
                    f"stopped at step {step}, saved; the same command resumes"
                )
    return current
