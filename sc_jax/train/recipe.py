"""A method as data: recipes and their phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sc_jax.data.pipeline import Data
from sc_jax.losses.terms import Reduction, Term
from sc_jax.nets.gradients import GRADIENTS
from sc_jax.nets.net import Net
from sc_jax.spec import Knob
from sc_jax.tasks import Task, classification
from sc_jax.train.optimisers import Optimiser

__all__ = ["LookAhead", "Optimiser", "Phase", "Recipe"]


@dataclass(frozen=True)
class LookAhead:
    """Parameters named `learns` get their gradient from one step ahead, not from now.

    The others take a plain gradient step of `step_size` under the phase's terms on one
    half of the batch; `terms` measure the outcome on the other half, and that measure
    is differentiated through the step (a one-step meta gradient: three passes).
    """

    learns: str
    terms: tuple[Term, ...]
    step_size: Annotated[float, Knob(above=0)] = 0.1


@dataclass(frozen=True)
class Phase:
    """One stage of training: `trainable` parts (groups, "*") under weighted terms.

    Parts not named keep every bit and run in evaluation mode. Gradients of the batch
    are summed or averaged by `reduction`; `gradients` is how those of several exits
    meet in the trunk (nets.gradients). `look_ahead` trains sample weights. `window` is
    the side of a random square of each image that the phase sees; 0 is all of it.
    """

    name: str
    steps: Annotated[int, Knob(at_least=1)]
    terms: tuple[Term, ...]
    trainable: tuple[str, ...]
    optimiser: Optimiser = Optimiser()
    reduction: Reduction = "mean"
    gradients: Annotated[str, Knob(choices=GRADIENTS)] = "sum"
    look_ahead: LookAhead | None = None
    window: int = 0


@dataclass(frozen=True)
class Recipe:
    """A whole method: what is trained, on what, how, and by which teacher.

    `title` and `setting` ("beta=0.32") name it in reports; `backbone` is the family
    member its net was made from, `pretrained` a public checkpoint that its stages start
    from. Without phases the net is as it starts. `policy` is how the method leaves at
    exits, as text of exits.solve.policy_spec ("threshold:score=entropy"). `context`
    above 0 codes the trained net's symbols in fewer bytes (codec.in_context).
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
    seed: Annotated[int, Knob(at_least=0)] = 0
    policy: str = ""
    task: Task = classification
    context: Annotated[
        int, Knob("tables a channel, by symbols sent before", at_least=0, at_most=64)
    ] = 0

    @property
    def network(self) -> str:
        """What profiles, plans and bundles of the recipe's runs call the network."""
        return ", ".join(filter(None, (self.name, self.setting, self.backbone)))

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)
