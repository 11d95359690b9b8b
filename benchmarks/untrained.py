"""A net that nobody trained, in a folder, and the frames its devices would send."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax import recipes
from sc_jax.compressors.splits import codecs_of
from sc_jax.deploy.wire import frame
from sc_jax.nets.net import INPUT, head
from sc_jax.nets.run import run
from sc_jax.runs import run_folder
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.loop import first_variables


def untrained(workdir: Path, name: str = "entropic_student", **knobs: Any) -> Path:
    """A folder like that of a finished run of the recipe's test preset."""
    source = run_folder.Source(name, {**recipes.tiny(name), **knobs})
    recipe = source.build()
    example = run_folder.example_of(recipe)
    variables = first_variables(recipe, None, example)
    codecs = codecs_of(recipe.net, variables, example)
    run_folder.claim(workdir, source, recipe, None)
    checkpoints = Checkpoints(workdir / "checkpoints")
    tables = {split: codec.to_arrays() for split, codec in codecs.items()}
    last = sum(phase.steps for phase in recipe.phases)
    checkpoints.save(last, variables, {"phase": len(recipe.phases)})
    checkpoints.wait()
    checkpoints.save_tables(last, tables)
    checkpoints.close()
    return workdir


def frames(net, variables, codecs, images: np.ndarray) -> list[bytes]:
    """What devices send for uint8 [N, H, W, C] through the net's only split."""
    (split,) = net.splits
    codec, before = codecs[split.name], head(net, split.after)
    z = images
    if split.after != INPUT:
        device = jax.jit(lambda v, x: run(before, v, x)[0].features[split.after])
        z = np.asarray(device(variables, images))
    on_wire = codec.id
    return [frame.pack(on_wire, 0, codec.shape, codec.encode(row)) for row in z]
