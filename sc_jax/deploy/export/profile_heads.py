"""A device's profile whose head was timed apart: as a bundle here, or on a phone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sc_jax.deploy import bundle
from sc_jax.deploy.device.runtime import Runner, in_turn
from sc_jax.deploy.export import stage_seconds
from sc_jax.errors import UsageError
from sc_jax.plan import benchmark_model
from sc_jax.plan.profile import Machine, Profile, with_head_s
from sc_jax.train.log import LOGGER


def of_bundle(found: Profile, path: Path, threads: int, runs: int) -> Profile:
    """The device's side with the head's seconds as the bundle's segments take here.

    found: of the run that the bundle was exported from; UsageError for another cut.
    """
    installed = _installed(found, path)
    runners = [Runner(model, threads) for model in installed.segments.values()]
    shape = installed.manifest["facts"]["input"]
    image = np.zeros((1, *shape), np.uint8)
    call = {"head": partial(in_turn, runners, image)}
    head_s = stage_seconds.seconds(call, runs)["head"]
    cut, dtype = (installed.manifest["facts"][name] for name in ("cut", "dtype"))
    LOGGER.info("the bundle's %s head takes %.3g ms", dtype, 1e3 * head_s)
    return with_head_s(found, cut, head_s, all_of_it=False)


def of_log(found: Profile, path: Path, text: str, file: str) -> Profile:
    """With all seconds scaled to those that benchmark_model printed of the head.

    path: the bundle that ran there, of one segment; text: the tool's whole output.
    """
    installed, read = _installed(found, path), benchmark_model.read(text, file)
    if len(installed.segments) > 1:
        raise UsageError(f"{path} has a segment an exit: benchmark_model times one")
    ms = read.head_ms["median"] or read.head_ms["mean"]
    assert ms is not None, "a log without a timing was refused"
    cut = installed.manifest["facts"]["cut"]
    scaled = with_head_s(found, cut, ms / 1e3, all_of_it=True)
    named = read.device or "a device that its log does not name"
    known = Machine(named, read.threads or 1, read.runs or 1)
    return replace(scaled, device=known)


def _installed(found: Profile, path: Path) -> bundle.Bundle:
    installed = bundle.read(path)
    cut = installed.manifest["facts"]["cut"]
    if cut not in found.stages:
        raise UsageError(f"{path} is cut after {cut}, which {found.network} has not")
    return installed
