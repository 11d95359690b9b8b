"""What an edge server runs for a split: the codec's bytes to a latent, the jitted tail.

The only part of serving that loads jax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from sc_jax import experiment
from sc_jax.codec import codecs
from sc_jax.deploy import bundle
from sc_jax.errors import UsageError
from sc_jax.nets.net import FINAL, Net, tail
from sc_jax.nets.run import Variables, run


@dataclass(frozen=True, eq=False)
class Tail:
    """The stages behind one split. jitted: (variables, z [B, ...]) -> f32[B, K]."""

    codec: codecs.Codec
    variables: Variables
    jitted: jax.stages.Wrapped

    def logits(self, z: np.ndarray) -> np.ndarray:
        """f32[B, K] of decoded latents [B, *codec.shape]."""
        return np.asarray(self.jitted(self.variables, z))

    def compile(self, sizes: Sequence[int]) -> None:
        """Compiles for these batch sizes: no request waits for it later."""
        image = isinstance(self.codec, codecs.ImageCodec)
        for size in sizes:
            shape = (size, *self.codec.shape)
            self.logits(np.zeros(shape, np.uint8 if image else np.float32))


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


def load(workdir: Path) -> tuple[Tail, ...]:
    """The tails of a finished run; UsageError where there is none to serve."""
    recipe = experiment.recipe_of(workdir)
    if not recipe.net.splits:
        raise UsageError(f"{workdir} holds {recipe.name}, which has no split to serve")
    return tails(recipe.net, *experiment.restore(recipe, workdir))


def load_all(workdirs: Sequence[str]) -> dict[str, tuple[Tail, ...]]:
    """Model id -> tails, of texts "FOLDER" (its last part is the id) or "ID=FOLDER".

    Bundles exported from a run are served too, by their own ids and tables.
    A text that is itself a folder (of a sweep: runs/curve/bits=4) is the first kind.
    """
    if not workdirs:
        raise UsageError("give --workdir, a folder that launch.train has finished")
    models = {}
    for text in workdirs:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if not name or name in models:
            raise UsageError(f"--workdir={text}: id {name!r} is empty or taken")
        models[name] = load(Path(folder))
        first, *others = models[name]
        for bundled, codec in bundle.registered(Path(folder)).items():
            models[bundled] = (replace(first, codec=codec), *others)
    return models
