"""The tails of a trained run, and of the bundles that were exported from it.

The only part of serving that loads flax and recipes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec import codecs
from sc_jax.deploy import bundle
from sc_jax.deploy.device.runtime import FEATURE, confidence_of
from sc_jax.deploy.server import middle, portable
from sc_jax.deploy.server.middle import Decision, Middle
from sc_jax.deploy.server.portable import Tail
from sc_jax.errors import UsageError
from sc_jax.exits.solve.policy_spec import policy_from_text
from sc_jax.nets.net import FINAL, Net, SplitPoint, following, head, tail
from sc_jax.nets.run import Variables, run
from sc_jax.runs import exit_runs, run_folder
from sc_jax.runs.source import data_facts
from sc_jax.tasks import Task, classification
from sc_jax.train.recipe import Recipe

LOGGER = logging.getLogger(__name__)


def tails(
    net: Net,
    variables: Variables,
    splits: Mapping[str, codecs.Codec],
    task: Task = classification,
    labels: Sequence[str] = (),
) -> tuple[Tail, ...]:
    """One tail per split, in order: the split id of a frame is the position here.

    splits: the codec of each, by the split's name.
    """
    found = []
    for split in net.splits:
        after = tail(net, split.after)
        parts = (
            {name: p[name] for name in p if name in after.parts} for p in variables
        )
        jitted = jax.jit(
            lambda v, z, after=after: task.reply(run(after, v, z)[0].predictions[FINAL])
        )
        # Once, here: a batch would otherwise move the weights each time.
        placed = jax.device_put(Variables(*parts))
        facts = task.name, tuple(labels), _middle(net, split, task)
        found.append(Tail(splits[split.name], placed, jitted, *facts))
    return tuple(found)


def _middle(net: Net, split: SplitPoint, task: Task) -> Middle | None:
    """The part from `split` to the next one; None: it is the last."""
    end = following(net, split)
    if end is None:
        return None
    part = tail(head(net, end.after), split.after)

    def program(variables, z):
        out, _ = run(part, variables, z)
        found = {FEATURE: out.features[end.after].astype(jnp.float32)}
        for exit_ in part.exits:
            name, answer = exit_.name, out.predictions[exit_.name]
            reply = task.reply(answer).items()
            found |= {f"{name}/{key}": array for key, array in reply}
            found[name] = task.logits(answer)
            if (sure := out.extras[name].get("confidence")) is not None:
                found[confidence_of(name)] = jax.nn.sigmoid(sure)
        return found

    exits = tuple(exit_.name for exit_ in part.exits)
    return Middle(net.splits.index(end), exits, jax.jit(program))


def load(workdir: Path, name: str) -> dict[str, tuple[Tail, ...]]:
    """Model id -> tails of a finished run; UsageError where there is none to serve.

    `name` is the run's own id; its bundles have theirs, and their own tables. Bundles
    of weights that the run has no more are left out, with a line each.
    """
    recipe = run_folder.recipe_of(workdir)
    if not recipe.net.splits:
        raise UsageError(f"{workdir} holds {recipe.name}, which has no split to serve")
    variables, own = run_folder.restore(recipe, workdir)
    facts = run_folder.facts_of(workdir)  # absent in folders of older versions
    labels = facts.classes if facts else ()
    made = tails(recipe.net, variables, own, recipe.task, labels)
    first, *others = made
    models = {name: (_deciding(first, _own_decision(recipe, workdir)), *others)}
    digest = weights_digest(recipe, workdir, variables)
    for bundled, codec in bundle.registered(workdir).items():
        # Recomputed, not trusted: the run may have been trained on since.
        if bundled == model_id(recipe.name, digest, codec):
            known = middle.decision(**bundle.decision_of(workdir, bundled))
            edge = _deciding(replace(first, codec=codec), known)
            models[bundled] = (edge, *others)
        else:
            LOGGER.warning(
                "%s is not served: it was exported from other weights than %s has",
                bundled, workdir,
            )  # fmt: skip
    return models


def _deciding(tail: Tail, decision: Decision) -> Tail:
    """The tail with exits that answer by a policy, where it has a next split."""
    if tail.middle is None:
        return tail
    return replace(tail, middle=replace(tail.middle, decision=decision))


def _own_decision(recipe: Recipe, workdir: Path) -> Decision:
    """The recipe's policy, solved on the validation split that the run recorded."""
    file = exit_runs.trace_file(workdir, exit_runs.SPLITS[0])
    if len(recipe.net.splits) < 2 or not recipe.policy or not file.is_file():
        return Decision()
    net = exit_runs.name_of(recipe, workdir)
    trace = exit_runs.load_trace(workdir, exit_runs.SPLITS[0], net).trace
    solved = policy_from_text(recipe.policy, trace)
    return Decision(solved.policy, trace.exits, tuple(trace.cost.tolist()))


def weights_digest(recipe: Recipe, workdir: Path, variables: Variables) -> bytes:
    """Of a finished run: its recipe and data, its last step, every array."""
    found = hashlib.sha256((workdir / run_folder.FILE).read_bytes())
    found.update(b"%d" % run_folder.finished_step(recipe, workdir))
    for leaf in jax.tree.leaves(variables):
        array = np.asarray(leaf)
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return found.digest()


def model_id(name: str, digest: bytes, codec: codecs.Codec | None) -> str:
    """What device and server must agree on: a run's `weights_digest` and tables."""
    known = digest + (bundle.table_bytes(codec) if codec else b"")
    return f"{name}-{hashlib.sha256(known).hexdigest()[:12]}"


def pack(workdir: Path, out: Path, name: str = "") -> dict[str, Any]:
    """Writes the run under `workdir` as one portable file; returns its manifest."""
    models = load(workdir, name or workdir.resolve().name)
    # Of an older version's folder.
    if not next(iter(models.values()))[0].labels:  # then its data set has to be here
        labels = data_facts(run_folder.recipe_of(workdir)).classes
        models = {
            model: tuple(replace(each, labels=labels) for each in found)
            for model, found in models.items()
        }
    return portable.write(out, models)
