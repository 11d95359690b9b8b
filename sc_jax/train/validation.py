"""What must be true of a recipe, checked on shapes before the first step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, get_origin

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from sc_jax import spec, tasks
from sc_jax.compressors import splits
from sc_jax.data.dataset import Dataset
from sc_jax.errors import Misfit, UsageError, unknown
from sc_jax.losses.terms import Context, Term
from sc_jax.nets.net import Net, match
from sc_jax.nets.run import Variables, init, run
from sc_jax.train.loop import first_variables
from sc_jax.train.recipe import Phase, Recipe

# More than one, so that a loss that reduces over the batch shows; and not a number
# that K or a side of an image is likely to be.
BATCH = 7


def validate(recipe: Recipe, example: Any, target: Any = None) -> None:
    """UsageError in one line if a name, a shape or a number of the recipe is wrong.

    Its teacher too. example, target: one of what the net reads and of what losses
    compare to, [1, ...]; without a target a class, i32[1]. Nothing of the net is
    computed (jax.eval_shape), but compressors alone make their codecs.
    """
    check_ranges(recipe)
    target = np.zeros(1, np.int32) if target is None else target
    shapes = example.shape, example.dtype, target.shape, target.dtype
    # Tracing takes seconds, and a recipe comes here before a sweep, before its own
    # training and before its teacher's: equal ones are traced once a process.
    try:
        hash(recipe)
    except TypeError:  # a module of one's own may hold a list
        _check_shapes(recipe, *shapes)
    else:
        _kept_check(recipe, *shapes)
    if recipe.teacher is not None:
        validate(recipe.teacher, example, target)


def _check_shapes(recipe: Recipe, shape, dtype, target_shape, target_dtype) -> None:
    """What `validate` finds out of the recipe's own net, phases and codecs."""
    example, target = np.zeros(shape, dtype), np.zeros(target_shape, target_dtype)
    for phase in recipe.phases:
        _check_phase(recipe, phase, min(example.shape[1:3]))
    try:
        jax.eval_shape(lambda *pair: _objectives(recipe, *pair), example, target)
    except KeyError as error:
        known = ", ".join((*recipe.net.names, *recipe.net.exit_names))
        raise UsageError(
            f"a loss names unknown stage or exit {error}. Known: {known}"
        ) from None
    except ScopeParamShapeError:
        raise UsageError(
            f"{recipe.backbone} takes images of one size only: window is 0"
        ) from None
    if recipe.net.splits or recipe.context:
        # Codecs are NumPy, beyond eval_shape: these are really made.
        splits.check(recipe.net, example, recipe.context)


_kept_check = lru_cache(maxsize=32)(_check_shapes)  # errors are never kept


def check_ranges(recipe: Recipe) -> None:
    """UsageError for the first number of a recipe or its phases outside its range.

    The ranges stand beside the fields (train.recipe, train.optimisers). Weights of
    terms are 0 or more, or schedules of such.
    """
    _check_fields(f"recipe {recipe.name}", recipe)
    for phase in recipe.phases:
        name = f"phase {phase.name!r}"
        _check_fields(name, phase)
        _check_fields(name, phase.optimiser)
        if phase.look_ahead is not None:
            _check_fields(f"{name}, look_ahead", phase.look_ahead)
        for term in phase.terms:
            # Both ends of a schedule; what lies between is the schedule's affair.
            steps = (0, phase.steps) if callable(term.weight) else (0,)
            for step in steps:
                weight: Any = term.weight
                weight = weight(step) if callable(weight) else weight
                if not 0 <= float(weight) < float("inf"):
                    raise UsageError(
                        f"{name}: the weight of {term.label} is a number, 0 or more, "
                        f"not {float(weight):g}"
                    )


def _check_fields(kind: str, node: Any) -> None:
    """Of a dataclass, those fields that have a range or choices."""
    for name, field in spec.knobs_of(type(node)).items():
        if field.knob != spec.Knob() or get_origin(field.type) is Literal:
            spec.check_value(kind, field, getattr(node, name))


def _check_phase(recipe: Recipe, phase: Phase, side: int) -> None:
    """Names of parts, and what shapes do not show."""
    match(recipe.net, phase.trainable)
    if phase.gradients == "equilibrium" and recipe.net.splits:
        raise UsageError(
            f"phase {phase.name!r}: equilibrium would scale the gradient of the "
            "rate too; in a net with splits gradients are 'sum' or 'detached'"
        )
    if not 0 <= phase.window <= side:
        raise UsageError(
            f"phase {phase.name!r}: window is 0 (all) to {side} pixels, the side "
            f"of an image, not {phase.window}"
        )


def _objectives(recipe: Recipe, image: Any, target: Any) -> None:
    """Traces every net, loss and answer of the recipe on a batch of `image`."""
    variables, contexts = _contexts(recipe, image, target)
    for phase in recipe.phases:
        _check_ahead(phase, recipe.net, variables.params)
        for term in _terms(phase):
            _check_term(phase, term, contexts[phase.window])
    whole = contexts[0]
    _check_restored(recipe, whole)
    for name in recipe.net.exit_names:
        tasks.check(recipe.task, whole.student.predictions[name], whole.batch)


def _terms(phase: Phase) -> tuple[Term, ...]:
    return phase.terms + (phase.look_ahead.terms if phase.look_ahead else ())


def _contexts(
    recipe: Recipe, image: Any, target: Any
) -> tuple[Variables, dict[int, Context]]:
    """Variables, and what losses read of a batch of `image`, by the window's side."""
    key, net, teacher = jax.random.key(0), recipe.net, recipe.teacher
    images = jnp.repeat(image, BATCH, 0)
    teacher_variables = init(teacher.net, key, image) if teacher else None
    # As training begins: with the teacher's own in the parts that both have.
    variables = first_variables(recipe, teacher_variables, image)
    contexts: dict[int, Context] = {}
    # 0 always: reports read whole images, whatever the phases saw.
    for window in {0, *(phase.window for phase in recipe.phases)}:
        part = images[:, :window, :window] if window else images
        names = recipe.task.input, recipe.task.target
        batch = dict(zip(names, (part, jnp.repeat(target, BATCH, 0))))
        answer = None
        if teacher and teacher_variables:
            answer = run(teacher.net, teacher_variables, part)[0]
        contexts[window] = Context(run(net, variables, part)[0], answer, batch)
    return variables, contexts


class _NoLabel(Exception):
    """A loss read the target of a batch that has none."""


class _Unlabelled(dict):
    """A batch without its target."""

    def __missing__(self, name):
        raise _NoLabel(name)


def check_labels(recipe: Recipe, dataset: Dataset) -> None:
    """UsageError for the first term that reads labels, where `dataset` has none.

    Of the recipe's own phases: its teacher may be trained already.
    """
    if dataset.labelled or not recipe.phases:
        return

    def read(image, target):
        _, contexts = _contexts(recipe, image, target)
        for phase in recipe.phases:
            context = contexts[phase.window]
            inputs = {recipe.task.input: context.batch[recipe.task.input]}
            context = context._replace(batch=_Unlabelled(inputs))
            for term in _terms(phase):
                try:
                    term.loss(context)
                except _NoLabel:
                    raise UsageError(
                        f"phase {phase.name!r} of {recipe.name}: the term {term.label} "
                        f"needs labels and {dataset.name} has none: give a set with "
                        "labels, or a recipe without such terms, as entropic_student "
                        "with alpha=0 and a teacher that is pretrained or finished"
                    ) from None

    jax.eval_shape(read, dataset.example(), dataset.target())


def _check_restored(recipe: Recipe, context: Context) -> None:
    """Misfit unless a decoder gives what the teacher's tail read in its place.

    A tail of convolutions and a pool would run on any side, and no hint may compare it.
    """
    if recipe.teacher is None or context.teacher is None:
        return
    names, theirs = recipe.net.names, recipe.teacher.net.names
    behind = names[names.index("decoder") + 1 :][:1] if "decoder" in names else ()
    if not behind or behind[0] not in theirs[1:]:
        return
    replaced = theirs[theirs.index(behind[0]) - 1]
    restored, read = (
        jax.tree.map(jnp.shape, outputs.features[name])
        for outputs, name in (
            (context.student, "decoder"),
            (context.teacher, replaced),
        )
    )
    if restored != read:
        raise Misfit(
            f"the decoder gives {restored[1:]} where {replaced!r} gave {read[1:]}"
        )


def _check_term(phase: Phase, term: Term, context: Context) -> None:
    value = term.loss(context)
    shape = tuple(getattr(value, "shape", ()))
    if shape != (BATCH,):
        raise UsageError(
            f"phase {phase.name!r}: the loss of term {term.label} has shape {shape} "
            f"for {BATCH} examples; a loss is f32[B], one number an example, and the "
            "phase's `reduction` alone reduces it"
        )


def _check_ahead(phase: Phase, net: Net, params: dict) -> None:
    """UsageError unless something that the phase trains is what looks ahead."""
    ahead = phase.look_ahead
    if ahead is None:
        return
    hot = {part: params[part] for part in match(net, phase.trainable)}
    found = {
        getattr(key, "key", "")
        for path, _ in jax.tree_util.tree_leaves_with_path(hot)
        for key in path
    }
    if ahead.learns not in found:
        raise unknown("parameters that look ahead", ahead.learns, sorted(found))
