"""Recipes: one published method, one short file."""

import sys
from collections.abc import Callable
from inspect import signature

from sc_jax import plugins, spec
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
from sc_jax.recipes.si_nr import si_nr
from sc_jax.recipes.spinn import spinn
from sc_jax.recipes.unmodified import unmodified
from sc_jax.recipes.zero_time_waste import zero_time_waste
from sc_jax.spec import Parameter
from sc_jax.train.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "build", "find", "knobs_of", "tiny"]

RECIPES: dict[str, Callable[..., Recipe]] = {
    "classifier": classifier,
    "cross_entropy": cross_entropy,
    "knowledge_distillation": knowledge_distillation,
    "reconstruction": reconstruction,
    "hnd": hnd,
    "ghnd": ghnd,
    "bottlefit": bottlefit,
    "entropic_student": entropic_student,
    "unmodified": unmodified,
    "si_nr": si_nr,
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
    """A recipe by its name here, or the function of FILE.py[:function]."""
    return plugins.find("recipe", name, RECIPES)


def knobs_of(name: str) -> dict[str, Parameter]:
    """The knobs of a recipe: its own, then those that it hands on to the classifier."""
    function = find(name)
    known = spec.knobs_of(function)
    if any(p.kind is p.VAR_KEYWORD for p in signature(function).parameters.values()):
        above = spec.knobs_of(classifier)
        known |= {k: above[k] for k in Shared.__annotations__ if k not in known}
    return known


def build(name: str, knobs: dict) -> Recipe:
    """The recipe, or one line about an unknown name or knob, a type or a range."""
    function = find(name)
    spec.check(f"recipe {name}", knobs_of(name), knobs)
    return function(**knobs)


def tiny(name: str) -> dict:
    """Knobs of the recipe's preset for tests: seconds, not minutes."""
    return sys.modules[RECIPES[name].__module__].TINY  # type: ignore[attr-defined]
