"""The trainer: runs a recipe's phases, checkpointed, resumable bit for bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax.codec.in_context import MOST_FITTED
from sc_jax.compressors import contexts, splits
from sc_jax.compressors.splits import codecs_of, settle
from sc_jax.data import pipeline, sources
from sc_jax.errors import Damaged, UsageError
from sc_jax.nets.checkpoints import pretrained
from sc_jax.nets.graft import alike, graft, widened
from sc_jax.nets.run import Variables, init
from sc_jax.train import devices
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.log import LOGGER, Log
from sc_jax.train.recipe import Recipe
from sc_jax.train.resume import Point, newest, start_of
from sc_jax.train.running import Run, heed, stopping
from sc_jax.train.step import TrainState, in_common, make_step


def first_variables(
    recipe: Recipe, teacher_variables: Variables | None, example
) -> Variables:
    """Fresh variables, with the teacher's own for every part both nets name.

    An exit classifier wider than the teacher's, of the same kind, goes on from it; one
    of another kind stays fresh.
    """
    variables = init(recipe.net, jax.random.key(recipe.seed), example)
    if recipe.teacher is None or teacher_variables is None:
        return variables
    # Same name, other module: shapes may even fit, but what they mean does not.
    theirs = {e.name: e.module for e in recipe.teacher.net.exits}
    other = {e.name for e in recipe.net.exits if theirs.get(e.name) != e.module}
    shared = frozenset(variables.params) & frozenset(teacher_variables.params)
    variables = graft(variables, teacher_variables, shared - other)
    for exit_ in recipe.net.exits:
        name, before = exit_.name, theirs.get(exit_.name)
        # Wider, as with more features: what the teacher learnt goes into a corner.
        if name in other and type(before) is type(exit_.module):
            for mine, donor in zip(variables, teacher_variables):
                mine[name] = widened(mine[name], donor[name])
    return variables


def fit(
    recipe: Recipe,
    workdir: Path,
    teacher_variables: Variables | None = None,
    *,
    title: str = "train",
    log_every: int = 50,
    save_every: int = 500,
    keep: int = 3,
    start: Variables | None = None,
) -> Variables:
    """Trains `recipe` to its end, from the newest checkpoint under `workdir` if any.

    Returns the final variables with priors settled; codec tables stand beside them in
    the last checkpoint. A finished run whose last phase is now longer goes on from its
    end. `start`: variables of parts to begin with, by name (a warm start). Raises
    Diverged with the last good step, Stopped after SIGTERM.
    """
    dataset, mesh = _training_set(recipe), devices.mesh()
    example = dataset.example()
    fresh = first_variables(recipe, teacher_variables, example)
    variables = devices.replicate(fresh, mesh)
    # Closed in reverse, also after an exception: checkpoints last, for what is queued.
    with ExitStack() as opened:
        checkpoints = Checkpoints(workdir / "checkpoints", keep=keep)
        opened.callback(checkpoints.close)
        point = newest(checkpoints, recipe, mesh, variables)
        saved, meta = (None, {}) if point is None else point[:2]
        end = recipe.steps, len(recipe.phases)
        if point is not None and (saved, meta["phase"]) == end:
            return _finished(checkpoints, point.saved, recipe, point.arrays, example)
        if point is None:
            variables = devices.replicate(_warm(recipe, variables, start), mesh)
        stream, lead = _stream(recipe, dataset, meta), jax.process_index() == 0
        opened.callback(stream.close)
        log = Log(workdir / "metrics.jsonl", title, recipe.steps, saved or 0, lead)
        opened.callback(log.close)
        if teacher_variables is not None:
            teacher_variables = devices.replicate(teacher_variables, mesh)
        augment = pipeline.device_kind(dataset, recipe.data.augment)
        run = Run(
            recipe, teacher_variables, stream, augment, mesh, checkpoints, log,
            opened.enter_context(stopping()), log_every, save_every,
        )  # fmt: skip
        heed(f"before step {(saved or 0) + 1} of {title}")
        variables = _phases(run, variables, point, example)
        checkpoints.wait()
    return devices.local(variables)


def _training_set(recipe: Recipe) -> sources.Dataset:
    """UsageError where its batches cannot be shared out evenly."""
    data, count = recipe.data, jax.device_count()
    if data.batch_size % count:
        raise UsageError(
            f"batch_size {data.batch_size} does not divide over {count} devices"
        )
    return pipeline.opened(data, "train")


def _stream(recipe: Recipe, dataset: sources.Dataset, meta: dict) -> Any:
    """This process's shard of every batch, from where `meta` was saved."""
    stream = pipeline.batches(
        dataset,
        batch_size=recipe.data.batch_size,
        seed=recipe.seed,
        augment=recipe.data.augment,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        names=(recipe.task.input, recipe.task.target),
    )
    if meta:
        stream.set_state(meta["data"])
    return stream


def _finished(
    checkpoints: Checkpoints, saved: int, recipe: Recipe, variables: Variables, example
) -> Variables:
    """The variables of a run that ended, on this process's first device."""
    try:
        tables = checkpoints.tables(saved)
        whole = tables is not None and all(
            contexts.classes_of(each) == recipe.context for each in tables.values()
        )
    except Damaged as error:
        LOGGER.warning("%s: they are made again from the weights", error)
        whole = False
    # The first process says, for they are made together.
    # Damaged, of another context, or killed before they were made.
    if not devices.gathered(whole)[0]:
        _save_tables(checkpoints, saved, recipe, variables, example)
    return devices.local(variables)


def _warm(recipe: Recipe, variables: Variables, start: Variables | None) -> Variables:
    """`variables` with what a public checkpoint or another run has of them."""
    # With a teacher its weights come from there, trained on the data by now.
    if recipe.pretrained and recipe.teacher is None:
        variables = pretrained.load(
            recipe.backbone, recipe.net, variables, recipe.pretrained,
            trained=bool(recipe.phases),
        )  # fmt: skip
    if start is None:
        return variables
    fitting, others = alike(variables, start)
    if not fitting:
        raise UsageError("the run to start from has no part of this net (--init)")
    left = f"; as without it: {', '.join(others)}" if others else ""
    LOGGER.info("%d parts start from the other run%s", len(fitting), left)
    return graft(variables, start, fitting)


def _phases(
    shared: Run, variables: Variables, point: Point | None, example
) -> Variables:
    """Every phase from where the checkpoint stands (None: from the first)."""
    recipe, mesh = shared.recipe, shared.mesh
    first = 0 if point is None else point.meta["phase"]
    ended = bool(recipe.phases) and first == len(recipe.phases)  # and is to go on
    # The last phase again, from its last step.
    first -= ended
    if not recipe.phases:
        variables = _calibrated(shared, variables)
        _finish(shared, 0, variables, example)
    for index in range(first, len(recipe.phases)):
        phase = recipe.phases[index]
        begun = sum(p.steps for p in recipe.phases[:index])
        end, step = begun + phase.steps, begun
        if index == first and point is not None:
            arrays, step = point.arrays, point.saved
            if ended:
                LOGGER.info("going on from the finished step %d to %d", step, end)
        else:
            arrays = start_of(recipe, mesh, index, variables)
        current, cold = arrays
        current = _phase(shared, index, begun, step, TrainState(*current), cold)
        variables = Variables({**cold, **current.hot}, current.state)
        # Before saving: medians that quantise are solved, and a resume must have them.
        variables = devices.replicate(settle(recipe.net, variables), shared.mesh)
        if index + 1 < len(recipe.phases):
            # As the next phase begins, so that no checkpoint lies between two phases.
            shared.save(end, start_of(recipe, mesh, index + 1, variables), index + 1)
            if shared.stop.anywhere():
                shared.leave(end)
        else:
            variables = _calibrated(shared, variables)
            _finish(shared, end, variables, example, current.optimiser)
    return variables


def _calibrated(shared: Run, variables: Variables) -> Variables:
    """With compressors solved from the latents of training images, where any are."""
    recipe = shared.recipe
    if not splits.needs_latents(recipe.net):
        return variables
    LOGGER.info("solving compressors from the latents of training images")
    own, images = devices.local(variables), partial(_calibration, recipe)
    return devices.replicate(splits.calibrated(recipe.net, own, images), shared.mesh)


def _finish(shared: Run, step: int, variables: Variables, example, optimiser=None):
    """The last checkpoint; once it is on disk, the codecs' tables beside it."""
    phases = len(shared.recipe.phases)
    shared.save(step, variables, phases, optimiser=optimiser)
    # On disk first: codecs of one's own may fail, and must not cost the run.
    shared.checkpoints.wait()
    _save_tables(shared.checkpoints, step, shared.recipe, variables, example)


def _save_tables(checkpoints: Checkpoints, step, recipe, variables, example) -> None:
    codecs: dict[str, Any] = codecs_of(recipe.net, variables, example)
    if recipe.context and codecs:
        LOGGER.info("fitting contexts of %d tables a channel", recipe.context)
        images = partial(_calibration, recipe)
        own = devices.local(variables)
        codecs = contexts.fitted(recipe.net, own, codecs, images, recipe.context)
    # All computed them, one writes: the folder is shared.
    if jax.process_index() == 0:
        tables = {name: codec.to_arrays() for name, codec in codecs.items()}
        checkpoints.save_tables(step, tables)


def _calibration(recipe: Recipe) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of training images, evenly spaced since folders come sorted by class."""
    dataset = pipeline.opened(recipe.data, "train")
    count = min(len(dataset), MOST_FITTED)
    rows = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    size = min(count, recipe.data.batch_size)
    for images, _, real in pipeline.evaluation_batches(dataset.take(rows), size):
        yield images, real


def _phase(shared: Run, index, begun, step, current, cold) -> TrainState:
    """Steps `step` .. the phase's end (numbers count over all phases)."""
    recipe, phase = shared.recipe, shared.recipe.phases[index]
    end = begun + phase.steps
    # Pictures of varying size are augmented while they are decoded, not again here.
    on_device = replace(recipe.data, augment=shared.augment)
    theirs, state = shared.teacher_variables, current.state
    first = in_common(recipe, phase, cold, state, theirs)
    advance = make_step(replace(recipe, data=on_device), phase, first)
    # Keys by step, not by splitting: a resumed run has those of a whole one.
    root = jax.random.key(recipe.seed)
    since, begun_at = [], time.monotonic()
    shared.log.begin(phase.name, step, end)
    while step < end:
        batch = devices.shard(next(shared.stream), shared.mesh)
        key = jax.random.fold_in(root, step)
        current, values = advance(
            current, cold, shared.teacher_variables, batch, step - begun, key
        )
        since.append(values)
        step += 1
        saving = step % shared.save_every == 0 and step < end
        # Of several processes each would leave at another step: they agree at records.
        urgent = shared.stop.seen and jax.process_count() == 1
        if not (saving or urgent or step % shared.log_every == 0 or step == end):
            if shared.log.silent():
                jax.block_until_ready(values)  # or steps would count that only wait
                shared.log.alive(phase.name, step)
            continue
        # One fetch a record: fetching each step would wait for each step.
        means = shared.means(phase, step, jax.device_get(since))
        speed = len(since) * recipe.data.batch_size / (time.monotonic() - begun_at)
        shared.log.record(phase.name, step, means, speed)
        since, begun_at = [], time.monotonic()
        stopping = step < end and shared.stop.anywhere()
        if saving or stopping:
            shared.save(step, (current, cold), index)
        if stopping:
            shared.leave(step)
    return current
