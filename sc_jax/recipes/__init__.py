"""Recipes: one published method, one short file."""

import inspect
import sys
from collections.abc import Callable
from typing import Literal, get_args, get_origin

from sc_jax.errors import UsageError, unknown
from sc_jax.plugins import from_file
from sc_jax.recipes.boostnet import boostnet
from sc_jax.recipes.bottlefit import bottlefit
from sc_jax.recipes.branchynet import branchynet
from sc_jax.recipes.chiang import chiang
from sc_jax.recipes.classifier import classifier
from sc_jax.recipes.common import Shared
from sc_jax.recipes.cross_entropy import cross_entropy
from sc_jax.recipes.ddi import ddi
from sc_jax.recipes.ddnn import ddnn
from sc_jax.recipes.dynexit import dynexit
from sc_jax.recipes.eenet import eenet
from sc_jax.recipes.entropic_exits import entropic_exits
from sc_jax.recipes.entropic_student import entropic_student
from sc_jax.recipes.ghnd import ghnd
from sc_jax.recipes.hnd import hnd
from sc_jax.recipes.icnn import icnn
from sc_jax.recipes.imta import imta
from sc_jax.recipes.jei_dnn import jei_dnn
from sc_jax.recipes.knowledge_distillation import knowledge_distillation
from sc_jax.recipes.l2w_den import l2w_den
from sc_jax.recipes.lo import lo
from sc_jax.recipes.msdnet import msdnet
from sc_jax.recipes.neural_filter import neural_filter
from sc_jax.recipes.phuong import phuong
from sc_jax.recipes.pomponi import pomponi
from sc_jax.recipes.ranet import ranet
from sc_jax.recipes.reconstruction import reconstruction
from sc_jax.recipes.shallow_deep import shallow_deep
from sc_jax.recipes.spinn import spinn
from sc_jax.recipes.zero_time_waste import zero_time_waste
from sc_jax.train.recipe import Recipe

RECIPES: dict[str, Callable[..., Recipe]] = {
    "classifier": classifier,
    "cross_entropy": cross_entropy,
    "knowledge_distillation": knowledge_distillation,
    "reconstruction": reconstruction,
    "hnd": hnd,
    "ghnd": ghnd,
    "bottlefit": bottlefit,
    "entropic_student": entropic_student,
    "branchynet": branchynet,
    "ddnn": ddnn,
    "lo": lo,
    "icnn": icnn,
    "dynexit": dynexit,
    "msdnet": msdnet,
    "imta": imta,
    "phuong": phuong,
    "ddi": ddi,
    "ranet": ranet,
    "spinn": spinn,
    "shallow_deep": shallow_deep,
    "zero_time_waste": zero_time_waste,
    "chiang": chiang,
    "pomponi": pomponi,
    "neural_filter": neural_filter,
    "boostnet": boostnet,
    "l2w_den": l2w_den,
    "jei_dnn": jei_dnn,
    "eenet": eenet,
    "entropic_exits": entropic_exits,
}


def find(name: str) -> Callable[..., Recipe]:
    """A recipe by its name here, or the function `mine` of a file path/mine.py."""
    if name.endswith(".py"):
        return from_file("recipe", name, inspect.isfunction)
    if name not in RECIPES:
        raise unknown("recipe", name, (*RECIPES, "a file FOLDER/NAME.py"))
    return RECIPES[name]


def knobs_of(name: str) -> dict[str, inspect.Parameter]:
    """The knobs of a recipe with their defaults: its own, then those of its teacher."""
    known = dict(inspect.signature(find(name), eval_str=True).parameters)
    if known.pop("shared", None) is not None:
        above = inspect.signature(classifier, eval_str=True).parameters
        known |= {k: above[k] for k in Shared.__annotations__ if k not in known}
    return known


def build(name: str, knobs: dict) -> Recipe:
    """The recipe, or one line about an unknown name, knob or a wrongly typed value."""
    known = knobs_of(name)
    for knob, value in knobs.items():
        if knob not in known:
            raise unknown(f"knob of {name}", knob, known)
        kind = known[knob].annotation
        if kind is inspect.Parameter.empty:
            continue
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise unknown(f"{knob} of {name}", str(value), get_args(kind))
            continue
        allowed = (int, float) if kind is float else kind
        if (isinstance(value, bool) and kind is not bool) or not isinstance(
            value, allowed
        ):
            raise UsageError(f"knob {knob}={value!r} of {name} is not {_show(kind)}")
    return find(name)(**knobs)


def tiny(name: str) -> dict:
    """Knobs of the recipe's preset for tests: seconds, not minutes."""
    return sys.modules[RECIPES[name].__module__].TINY  # type: ignore[attr-defined]


def catalogue() -> str:
    """Every recipe with its one-line summary, knobs and defaults."""
    lines = ["Recipes and their knobs:"]
    for name, function in RECIPES.items():
        summary = (sys.modules[function.__module__].__doc__ or "").splitlines()[0]
        lines += ["", f"  {name}: {summary}"]
        knobs = [f"{k}={p.default!r}" for k, p in knobs_of(name).items()]
        lines += [
            f"      {', '.join(knobs[i : i + 4])}" for i in range(0, len(knobs), 4)
        ]
    return "\n".join(lines)


def _show(kind) -> str:
    return getattr(kind, "__name__", str(kind))
