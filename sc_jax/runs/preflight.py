"""Whatever ends a run, tried before its first step: on shapes and an invented row."""

from __future__ import annotations

import tempfile
from functools import lru_cache

import numpy as np

from sc_jax.evaluate.reports import report
from sc_jax.evaluate.reports.report import Row
from sc_jax.nets.net import Net, head, hops
from sc_jax.nets.run import run, variable_shapes
from sc_jax.runs import exit_runs, run_folder, training
from sc_jax.traces import cost
from sc_jax.train.recipe import Recipe


def check(recipe: Recipe, *, reused: bool = False) -> None:
    """UsageError, one line, if training or what comes after it could not be finished.

    reused: the teacher is a finished run.
    Names, ranges, shapes, losses and codecs (train.validation); the exits' policy and
    the examples it needs; the head's multiply-accumulates; the report and its picture.
    """
    training.check(recipe, reused=reused)
    exit_runs.check(recipe)
    hops(recipe.net)
    # A net whose operations cannot be counted would end without its report.
    for net in (recipe.net, *([recipe.teacher.net] if recipe.teacher else [])):
        _count_macs(net, run_folder.example_of(recipe))
    _try_report()


def _count_macs(net: Net, example: np.ndarray) -> None:
    """Of the device's part, as a report counts them; on shapes."""
    cut = net.splits[0].after if net.splits else net.names[-1]
    device = head(net, cut)
    if not device.stages:
        return

    def latent(variables, x):
        return run(device, variables, x)[0].features[cut]

    cost.macs(latent, variable_shapes(device, example), example)


# It imports matplotlib and draws: once is enough for a sweep.
@lru_cache
def _try_report() -> None:
    """The files of a report, once a process, where they leave nothing."""
    size = (1.0, 1.0)
    row = Row("method", "setting", "learned", 0.5, 1, size, size, size, 8.0, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        report.write(
            [row], folder, title="preflight", facts={"machine": report.machine()}
        )
