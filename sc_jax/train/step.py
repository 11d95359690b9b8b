"""One training step: the same for every method."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sc_jax.data.augment import windows
from sc_jax.data.pipeline import augment_on_device
from sc_jax.losses.terms import Context, total
from sc_jax.nets.net import FINAL, INPUT, match
from sc_jax.nets.run import State, Variables, run
from sc_jax.train.recipe import LookAhead, Phase, Recipe
from sc_jax.train.teacher import taught


class TrainState(NamedTuple):
    """All that a step changes; frozen parameters stand apart and are never donated."""

    hot: dict[str, Any]
    state: State
    optimiser: Any


def divide(recipe: Recipe, phase: Phase, variables: Variables) -> tuple[dict, dict]:
    """Parameters by part name: (trained in this phase, frozen)."""
    chosen = match(recipe.net, phase.trainable)
    hot = {k: v for k, v in variables.params.items() if k in chosen}
    return hot, {k: v for k, v in variables.params.items() if k not in chosen}


def begin(recipe: Recipe, phase: Phase, variables: Variables) -> TrainState:
    """The state at a phase's first step: same variables, new optimiser."""
    hot, _ = divide(recipe, phase, variables)
    optimiser = phase.optimiser.build(phase.steps).init(hot)
    return TrainState(hot, variables.state, optimiser)


def look_ahead(ahead: LookAhead, loss_of: Callable, hot: Any, gradient: Any, rest):
    """`gradient`, that of what looks ahead replaced: through one step of the others."""
    cold, state, teacher_variables, batch, step, key = rest
    # Halves: a step is not to be measured on what it was taken on.
    first = {k: v[: v.shape[0] // 2] for k, v in batch.items()}
    second = {k: v[v.shape[0] // 2 :] for k, v in batch.items()}

    def looks(path) -> bool:
        return any(getattr(part, "key", None) == ahead.learns for part in path)

    def after(own):
        both = jax.tree_util.tree_map_with_path(
            lambda path, a, b: b if looks(path) else jax.lax.stop_gradient(a), hot, own
        )
        slope, _ = jax.grad(loss_of, has_aux=True)(
            both, cold, state, teacher_variables, first, step, key
        )
        moved = jax.tree_util.tree_map_with_path(
            lambda path, a, g: a if looks(path) else a - ahead.step_size * g,
            both,
            slope,
        )
        return loss_of(
            moved, cold, state, teacher_variables, second, step, key, ahead.terms
        )[0]

    own = jax.grad(after)(hot)
    return jax.tree_util.tree_map_with_path(
        lambda path, now, later: later if looks(path) else now, gradient, own
    )


def in_common(recipe: Recipe, phase: Phase, cold, state: State, theirs) -> str:
    """The stage up to which the student is its teacher, bit for bit, in this phase.

    cold, state: the student's; theirs: the teacher's variables. Such stages need not be
    computed twice. INPUT: none that has parameters.
    """
    if recipe.teacher is None:
        return INPUT
    found, at = INPUT, {part.after for part in (*recipe.net.exits, *recipe.net.splits)}
    if INPUT in at:
        return INPUT
    for mine, other in zip(recipe.net.stages, recipe.teacher.net.stages):
        name = mine.name
        same = mine == other and name in cold and name not in at
        pairs = (cold, theirs.params), (state, theirs.state)
        if not (same and all(_equal(a[name], b[name]) for a, b in pairs)):
            break
        found = name if jax.tree.leaves(cold[name]) or found != INPUT else found
    return found


def _equal(a: Any, b: Any) -> bool:
    a, b = jax.device_get((a, b))
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
    )


def make_step(recipe: Recipe, phase: Phase, shared: str = INPUT) -> Callable:
    """`compile_step`, traced once in a process for equal recipes.

    So a run that is resumed, or trained again in a notebook, starts at once. A recipe
    that holds something unhashable gets a step of its own.
    """
    try:
        # A module of one's own may hold a list.
        hash((recipe, phase))
    except TypeError:
        return compile_step(recipe, phase, shared)
    return _kept_step(recipe, phase, shared)


def compile_step(recipe: Recipe, phase: Phase, shared: str = INPUT) -> Callable:
    """jitted step; returns (train_state, metrics).

    Takes (train_state, cold, teacher_variables, batch, step, key): `cold` are the
    frozen parameters, teacher_variables None without a teacher, `step` counts within
    the phase. The batch is the task's input and target (uint8 images and int labels);
    augmentation runs on the device. Metrics are scalars: loss, each term, gradient
    norm, and the task's. The student starts behind stage `shared` (`in_common`), on
    the teacher's feature.
    """
    transform = phase.optimiser.build(phase.steps)
    loss_of = _objective(recipe, phase, shared)

    def step_once(train_state, cold, teacher_variables, batch, step, key):
        # Two keys: noise of compressors must not change with the kind of augmentation.
        noise, crops = jax.random.split(key)
        name = recipe.task.input
        inputs = augment_on_device(batch[name], crops, recipe.data.augment)
        if phase.window:
            inputs = windows(inputs, jax.random.fold_in(crops, 1), phase.window)
        batch = {**batch, name: inputs}
        hot, state, moments = train_state
        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (state, values)), gradient = gradient_of(
            hot, cold, state, teacher_variables, batch, step, noise
        )
        if phase.look_ahead is not None:
            rest = (cold, state, teacher_variables, batch, step, noise)
            gradient = look_ahead(phase.look_ahead, loss_of, hot, gradient, rest)
        update, moments = transform.update(gradient, moments, hot)
        hot: Any = optax.apply_updates(hot, update)
        values |= {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}
        return TrainState(hot, state, moments), values

    # Donated: or parameters and moments would be held twice. Not `cold`, which the next
    # phase reads again.
    return jax.jit(step_once, donate_argnums=0)


# By equality of the recipe, not identity; a few, since each holds a compiled program.
_kept_step = lru_cache(maxsize=8)(compile_step)


def _objective(recipe: Recipe, phase: Phase, shared: str) -> Callable:
    """(hot, cold, state, teacher_variables, batch, step, key, terms) -> loss, aux.

    aux: (state after the batch, metrics). terms: by default those of the phase.
    """
    training = match(recipe.net, phase.trainable)
    names = (INPUT, *recipe.net.names)
    first = names[: names.index(shared) + 1]
    dtype = None if recipe.dtype == "float32" else jnp.dtype(recipe.dtype)
    # Without a term on answers the stages behind the last hint are not computed at
    # all: a metric of theirs would cost what the phase saves.
    supervised = any(
        hasattr(term.loss, "exit") or hasattr(term.loss, "exits")
        for term in phase.terms
    )

    def loss_of(
        hot, cold, state, teacher_variables, batch, step, key, terms=phase.terms
    ):
        inputs, teacher = batch[recipe.task.input], None
        if recipe.teacher is not None:
            nets = recipe.teacher.net, recipe.net
            teacher = taught(*nets, teacher_variables, inputs, dtype)
            teacher = jax.lax.stop_gradient(teacher)
        known = {} if teacher is None else teacher.features
        out, state = run(
            recipe.net,
            Variables({**cold, **hot}, state),
            inputs if shared == INPUT else known[shared],
            start=shared,
            train=training,
            key=key,
            dtype=dtype,
            gradients=phase.gradients,
        )
        before = {name: known[name] for name in first if name != shared}
        out = out._replace(features=before | out.features)
        context = Context(out, teacher, batch, step)
        loss, values = total(terms, context, step, phase.reduction)
        if supervised and recipe.task.target in batch:
            found = recipe.task.metrics(out.predictions[FINAL], batch)
            # Metrics with more axes are for a whole set's summary.
            found = {name: value for name, value in found.items() if value.ndim == 1}
            values |= {name: value.mean() for name, value in found.items()}
        return loss, (state, values)

    return loss_of
