"""The tails of a trained run, and of the bundles that were exported from it.

The only part of serving that loads flax and recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from sc_jax.codec import codecs
from sc_jax.deploy import bundle
from sc_jax.deploy.server import portable
from sc_jax.deploy.server.portable import Tail
from sc_jax.errors import UsageError
from sc_jax.nets.net import FINAL, Net, tail
from sc_jax.nets.run import Variables, run
from sc_jax.runs import run_folder


def tails(
    net: Net, variables: Variables, frozen: Mapping[str, codecs.Codec]
) -> tuple[Tail, ...]:
    """One tail per split, in order: the split id of a frame is the position here."""
    made = []
    for split in net.splits:
        after = tail(net, split.after)
        names = {*after.parts, *(s.owner for s in after.stages if s.owner)}
        kept = (
            {name: part[name] for name in part if name in names} for part in variables
        )
        jitted = jax.jit(
            lambda v, z, after=after: run(after, v, z)[0].predictions[FINAL]
        )
        own = jax.device_put(Variables(*kept))
        made.append(Tail(frozen[split.name], own, jitted))
    return tuple(made)


def load(workdir: Path, name: str) -> dict[str, tuple[Tail, ...]]:
    """Model id -> tails of a finished run; UsageError where there is none to serve.

    `name` is the run's own id; its bundles have theirs, and their own tables.
    """
    recipe = run_folder.recipe_of(workdir)
    if not recipe.net.splits:
        raise UsageError(f"{workdir} holds {recipe.name}, which has no split to serve")
    models = {name: tails(recipe.net, *run_folder.restore(recipe, workdir))}
    first, *others = models[name]
    for bundled, codec in bundle.registered(workdir).items():
        models[bundled] = (replace(first, codec=codec), *others)
    return models


def pack(workdir: Path, out: Path, name: str = "") -> dict[str, Any]:
    """Writes the run under `workdir` as one portable file; returns its manifest."""
    models = load(workdir, name or workdir.resolve().name)
    train = run_folder.dataset_of(run_folder.recipe_of(workdir), "train")
    return portable.write(out, models, labels=train.classes)
