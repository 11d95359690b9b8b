"""A method as data: recipes, their phases, and what must be true of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax.errors import ScopeParamShapeError

from sc_jax.data.pipeline import Data
from sc_jax.errors import UsageError, unknown
from sc_jax.losses.terms import Context, Reduction, Term, total
from sc_jax.nets.gradients import GRADIENTS
from sc_jax.nets.net import Net, match
from sc_jax.nets.run import init, run
from sc_jax.tasks import Task, classification


@dataclass(frozen=True)
class Optimiser:
    """An optax optimiser and its learning-rate schedule over the phase.

    name: adam, adamw or sgd (momentum 0.9, Nesterov). schedule: "constant", "cosine" to
    zero, or "step": x0.1 at each share of the phase in `drops`. `warmup` is a share.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "step"] = "constant"
    drops: tuple[float, ...] = (0.5, 0.8)
    warmup: float = 0.0
    weight_decay: float = 0.0

    def rate(self, steps: int) -> optax.Schedule:
        """Learning rate by step of a phase of `steps`."""
        rise = round(self.warmup * steps)
        if self.schedule == "cosine":
            main = optax.cosine_decay_schedule(self.learning_rate, max(steps - rise, 1))
        elif self.schedule == "step":
            marks = {round(d * steps) - rise: 0.1 for d in self.drops}
            main = optax.piecewise_constant_schedule(self.learning_rate, marks)
        else:
            main = optax.constant_schedule(self.learning_rate)
        ramp = optax.linear_schedule(0.0, self.learning_rate, max(rise, 1))
        return optax.join_schedules([ramp, main], [rise]) if rise else main

    def build(self, steps: int) -> optax.GradientTransformation:
        rate = self.rate(steps)
        if self.name == "adam":
            return optax.adam(rate)
        if self.name == "adamw":
            return optax.adamw(rate, weight_decay=self.weight_decay)
        if self.name == "sgd":
            decay = optax.add_decayed_weights(self.weight_decay)
            return optax.chain(decay, optax.sgd(rate, momentum=0.9, nesterov=True))
        raise unknown("optimiser", self.name, ("adam", "adamw", "sgd"))


@dataclass(frozen=True)
class LookAhead:
    """Parameters named `learns` get their gradient from one step ahead, not from now.

    The others take a plain gradient step of `step_size` under the phase's terms on one
    half of the batch; `terms` judge the outcome on the other half, and that judgement
    is differentiated through the step (a one-step meta gradient: three passes).
    """

    learns: str
    terms: tuple[Term, ...]
    step_size: float = 0.1


@dataclass(frozen=True)
class Phase:
    """One stage of training: `trainable` parts (groups, "*") under weighted terms.

    Parts not named keep every bit and run in evaluation mode. Gradients of the batch
    are summed or averaged by `reduction`; `gradients` is how those of several exits
    meet in the trunk (nets.gradients). `look_ahead` trains sample weights. `window` is
    the side of a random square of each image that the phase sees; 0 is all of it.
    """

    name: str
    steps: int
    terms: tuple[Term, ...]
    trainable: tuple[str, ...]
    optimiser: Optimiser = Optimiser()
    reduction: Reduction = "mean"
    gradients: str = "sum"
    look_ahead: LookAhead | None = None
    window: int = 0


@dataclass(frozen=True)
class Recipe:
    """A whole method: what is trained, on what, how, and taught by whom.

    `title` and `setting` ("beta=0.32") name it in reports; `backbone` is the family
    member its net was made from, `pretrained` a public checkpoint that its stages start
    from. Without phases the net is as it starts. `policy` tells how the method leaves
    at exits, as text of exits.solve.policy_spec ("threshold:score=entropy").
    """

    name: str
    title: str
    data: Data
    net: Net
    phases: tuple[Phase, ...]
    teacher: Recipe | None = None
    backbone: str = ""
    setting: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    pretrained: str | None = None
    seed: int = 0
    policy: str = ""
    task: Task = classification

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


def validate(recipe: Recipe, example: Any) -> None:
    """UsageError in one line if a name, a shape or a number of the recipe is wrong.

    `example` is uint8 [1, H, W, C]; nothing is computed (jax.eval_shape).
    """
    if recipe.dtype not in ("float32", "bfloat16"):
        raise unknown("dtype", recipe.dtype, ("float32", "bfloat16"))
    for phase in recipe.phases:
        match(recipe.net, phase.trainable)
        if phase.steps < 1:
            raise UsageError(
                f"phase {phase.name!r} has {phase.steps} steps; at least 1"
            )
        if phase.gradients not in GRADIENTS:
            raise unknown("gradients", phase.gradients, GRADIENTS)
        if phase.gradients == "equilibrium" and recipe.net.splits:
            raise UsageError(
                f"phase {phase.name!r}: equilibrium would scale the gradient of the "
                "rate too; in a net with splits gradients are 'sum' or 'detached'"
            )
        side = min(example.shape[1:3])
        if not 0 <= phase.window <= side:
            raise UsageError(
                f"phase {phase.name!r}: window is 0 (all) to {side} pixels, the side "
                f"of an image, not {phase.window}"
            )
        phase.optimiser.build(phase.steps)
    key = jax.random.key(0)

    def losses(image):
        variables, teacher = init(recipe.net, key, image), recipe.teacher
        taught = init(teacher.net, key, image) if teacher else None

        def seen(side: int) -> Context:
            part = image[:, :side, :side] if side else image
            out, _ = run(recipe.net, variables, part)
            answer = run(teacher.net, taught, part)[0] if teacher and taught else None
            return Context(out, answer, {"image": part, "label": jnp.zeros(1, int)})

        contexts, found = {0: seen(0)}, []
        for phase in recipe.phases:
            _check_ahead(phase, recipe.net, variables.params)
            if phase.window not in contexts:
                contexts[phase.window] = seen(phase.window)
            ahead = phase.look_ahead.terms if phase.look_ahead else ()
            for terms in (phase.terms, ahead):
                found += total(terms, contexts[phase.window], 0, phase.reduction)[:1]
        return found

    try:
        jax.eval_shape(losses, example)
    except KeyError as error:
        known = ", ".join((*recipe.net.names, *recipe.net.exit_names))
        raise UsageError(
            f"a loss names unknown stage or exit {error}. Known: {known}"
        ) from None
    except ScopeParamShapeError:
        raise UsageError(
            f"{recipe.backbone} takes images of one size only: window is 0"
        ) from None
    if recipe.teacher is not None:
        validate(recipe.teacher, example)


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
