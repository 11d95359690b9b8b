"""A method as data: recipes, their phases, and what must be true of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax

from sc_jax.data.pipeline import Data
from sc_jax.errors import UsageError, unknown
from sc_jax.losses.terms import Context, Reduction, Term, total
from sc_jax.nets.gradients import GRADIENTS
from sc_jax.nets.net import Net, match
from sc_jax.nets.run import init, run


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
    meet in the trunk (nets.gradients). `look_ahead` trains sample weights.
    """

    name: str
    steps: int
    terms: tuple[Term, ...]
    trainable: tuple[str, ...]
    optimiser: Optimiser = Optimiser()
    reduction: Reduction = "mean"
    gradients: str = "sum"
    look_ahead: LookAhead | None = None


@dataclass(frozen=True)
class Recipe:
    """A whole method: what is trained, on what, how, and taught by whom.

    `title` and `setting` ("beta=0.32") name it in reports; `backbone` is the family
    member its net was made from, `pretrained` a public checkpoint that its stages start
    from. Without phases the net is as it starts. `policy` tells how the method leaves
    at exits, as text of exits.asked ("threshold:score=entropy").
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
        phase.optimiser.build(phase.steps)
    key = jax.random.key(0)

    def losses(image):
        taught = None
        if recipe.teacher is not None:
            net = recipe.teacher.net
            taught, _ = run(net, init(net, key, image), image)
        variables = init(recipe.net, key, image)
        for phase in recipe.phases:
            _check_ahead(phase, recipe.net, variables.params)
        out, _ = run(recipe.net, variables, image)
        context = Context(
            out, taught, {"image": image, "label": jax.numpy.zeros(1, int)}
        )
        found = []
        for phase in recipe.phases:
            ahead = phase.look_ahead.terms if phase.look_ahead else ()
            groups = [phase.terms, *([ahead] if ahead else [])]
            found += [total(g, context, 0, phase.reduction)[0] for g in groups]
        return found

    try:
        jax.eval_shape(losses, example)
    except KeyError as error:
        known = ", ".join((*recipe.net.names, *recipe.net.exit_names))
        raise UsageError(
            f"a loss names unknown stage or exit {error}. Known: {known}"
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
