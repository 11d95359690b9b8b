"""What training_step times: a shallow step and its parts, in a process of its own.

    PYTHONPATH=CHECKOUT python benchmarks/speed/timed_step.py CASE

CASE is JSON of `Case`. Each line on stdin is a round: a line of JSON answers it, CPU
seconds of every program. The library is that of PYTHONPATH, so that two commits take
turns; this file asks of it no more than commits of late 2026 have.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.data import sources
from sc_jax.data.augment import windows
from sc_jax.data.dataset import Dataset
from sc_jax.losses.terms import Context, total
from sc_jax.nets.layers.convolution import plain
from sc_jax.nets.net import match
from sc_jax.nets.run import Variables, init, run
from sc_jax.recipes import RECIPES
from sc_jax.train.loop import first_variables
from sc_jax.train.recipe import Phase, Recipe
from sc_jax.train.step import begin, compile_step, divide

# Nothing; memory that is kept; the prior's quick gradient; the teacher in portions; all
# but XLA's own forms (convolution.plain).
WITHOUT = ("", "pages", "prior", "teacher", "plain")


@dataclass(frozen=True)
class Case:
    """window: side of the squares that are trained on, cut from images twice as wide.

    steps: of a round. parts: whether those are timed beside the whole step. without:
    what is left out, of WITHOUT.
    """

    backbone: str = "mobilenetv2"
    pair: str = "patch"
    window: int = 112
    batch: int = 16
    channels: int = 24
    steps: int = 2
    seed: int = 0
    parts: bool = True
    without: str = ""


def leave_out(what: str) -> AbstractContextManager:
    """One of what made the step quick; "" leaves out nothing."""
    try:
        from sc_jax.compressors import quick_cumulative
        from sc_jax.train import pages, teacher
    except ImportError:  # a checkout from before
        return nullcontext()
    if what not in WITHOUT:
        raise ValueError(f"{what!r} is none of {WITHOUT}")
    if what != "pages":
        pages.keep()
    if what == "prior":
        quick_cumulative._SMALL = 2**62
    if what == "teacher":
        teacher._PIXELS = 2**62
    return plain() if what == "plain" else nullcontext()


def recipe_of(case: Case) -> tuple[Recipe, Phase, np.ndarray]:
    """Entropic Student on random images; its shallow phase; a batch of them."""
    draw, side = np.random.default_rng(case.seed), 2 * case.window
    images = draw.integers(0, 256, (case.batch, side, side, 3), np.uint8)
    classes, labels = tuple(map(str, range(1000))), np.zeros(case.batch, np.int32)

    def random_images(argument: str, part: str, data_dir: str | None) -> Dataset:
        del argument, data_dir
        return Dataset("random", part, classes, images, labels)

    # A source of this process alone: the recipe then loads like any other.
    sources.SOURCES["random"] = random_images
    recipe = RECIPES["entropic_student"](
        backbone=case.backbone, pair=case.pair, channels=case.channels,
        shallow_epochs=1.0, window=case.window, augment="none",
        data=f"random:{side}", seed=case.seed,
    )  # fmt: skip
    phase = replace(recipe.phases[0], steps=1000)
    data = replace(recipe.data, batch_size=case.batch)
    return replace(recipe, data=data, phases=(phase,)), phase, images


def programs(case: Case) -> dict[str, Callable[[], Any]]:
    """By name: the step, and nested parts of it, compiled; a call waits for its end."""
    recipe, phase, images = recipe_of(case)
    key, example = jax.random.key(case.seed), images[:1]
    assert recipe.teacher is not None
    teacher_variables = init(recipe.teacher.net, key, example)
    variables = first_variables(recipe, teacher_variables, example)
    hot, cold = divide(recipe, phase, variables)
    # The step takes its state's buffers; grafted ones are the teacher's too.
    state = jax.tree.map(jnp.copy, begin(recipe, phase, variables))
    batch = {"image": jnp.asarray(images)}
    step = compile_step(recipe, phase)
    rest = cold, teacher_variables, batch, jnp.int32(1), key
    compiled = step.lower(state, *rest).compile()

    def once():
        nonlocal state
        state, metrics = compiled(state, *rest)
        return metrics

    calls = {"step": once}
    if case.parts:
        arguments = hot, cold, variables.state, teacher_variables, batch["image"], key
        for name, function in nested(recipe, phase).items():
            program = jax.jit(function).lower(*arguments).compile()
            calls[name] = partial(program, *arguments)
    return calls


def nested(recipe: Recipe, phase: Phase) -> dict[str, Callable]:
    """What the step computes, by ever more of it: differences are the parts."""
    assert recipe.teacher is not None
    teacher, training = recipe.teacher.net, match(recipe.net, phase.trainable)
    try:
        from sc_jax.train.teacher import taught as outputs
    except ImportError:  # a checkout from before

        def outputs(teacher, student, variables, inputs, dtype=None):
            return run(teacher, variables, inputs, dtype=dtype)[0]

    hint: Any = phase.terms[0].loss

    def windowed(images, key):
        return windows(images, key, phase.window)

    def taught(hot, cold, state, teacher_variables, images, key):
        # Of the stages behind the hint nothing is read: jit leaves them out.
        images = windowed(images, key)
        found = outputs(teacher, recipe.net, teacher_variables, images)
        return found.features[hint.teacher]

    def loss(terms, hot, cold, state, teacher_variables, images, key):
        images = windowed(images, key)
        found = outputs(teacher, recipe.net, teacher_variables, images)
        variables = Variables({**cold, **hot}, state)
        out, _ = run(recipe.net, variables, images, train=training, key=key)
        context = Context(out, jax.lax.stop_gradient(found), {}, 1)
        return total(terms, context, 1, phase.reduction)[0]

    hinted, both = partial(loss, phase.terms[:1]), partial(loss, phase.terms)
    return {
        "teacher": taught,
        "student": hinted,
        "prior": both,
        "student_gradient": jax.value_and_grad(hinted),
        "gradient": jax.value_and_grad(both),
    }


def cpu_s(call: Callable[[], Any], steps: int) -> float:
    """CPU seconds of a call, the mean of `steps`."""
    start = time.process_time()
    for _ in range(steps):
        jax.block_until_ready(call())
    return (time.process_time() - start) / steps


def main() -> None:
    case = Case(**json.loads(sys.argv[1]))
    start = time.perf_counter()
    with leave_out(case.without):
        calls = programs(case)
    print(json.dumps({"compile_s": time.perf_counter() - start}), flush=True)
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in sys.stdin:
        times = {name: cpu_s(call, case.steps) for name, call in calls.items()}
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
