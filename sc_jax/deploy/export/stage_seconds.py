"""What every stage of a net takes: as a .tflite segment here, jitted on a server.

Medians over rounds in which all stages run in turn, so that a machine's slower minutes
fall on all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError

from sc_jax.deploy.device.runtime import Runner
from sc_jax.deploy.export.convert import ExportError
from sc_jax.deploy.export.segments import inputs_of, segment
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import report
from sc_jax.nets.net import INPUT, Net
from sc_jax.nets.run import Variables, run
from sc_jax.plan.profile import Machine
from sc_jax.train.log import LOGGER

Calls = dict[str, Callable[[], Any]]


def features(net: Net, variables: Variables, images: np.ndarray) -> dict[str, Any]:
    """What each stage gives for `images`, as NumPy; the images under INPUT."""
    found = jax.jit(lambda v, x: run(net, v, x)[0].features)(variables, images)
    return {INPUT: images, **jax.device_get(found)}


def bare(net: Net) -> Net:
    """Its stages alone: no splits, no exit but one that makes the last answer."""
    kept = tuple(e for e in net.exits if e.after == net.names[-1])
    return replace(net, exits=kept, splits=())


def steps(net: Net) -> list[tuple[str, str]]:
    """(what stands before it, its name) of every stage."""
    return list(pairwise((INPUT, *net.names)))


def on_device(
    net: Net, variables: Variables, given: dict[str, Any], threads: int
) -> tuple[Calls, dict[str, str]]:
    """(a call of every stage and, under "", of the whole net; why others have none).

    given: `features` of a few images: each segment is compared with JAX on them.
    """
    calls: Calls = {}
    refused: dict[str, str] = {}
    whole = INPUT, net.names[-1]
    for name, (start, stop) in zip((*net.names, ""), (*steps(net), whole)):
        try:
            found = segment(bare(net), variables, given[start], start=start, stop=stop)
        except ExportError as error:
            refused[name] = str(error)
            continue
        one = inputs_of(jax.tree.map(lambda x: x[:1], given[start]))
        calls[name] = partial(Runner(found.model, threads), one)
    return calls, refused


def on_server(
    net: Net, variables: Variables, given: dict[str, Any], size: int
) -> Calls:
    """A call of every stage and, under "", of the whole net on a batch of `size`.

    Compiled, with arrays in place.
    """
    calls: Calls = {}
    whole = bare(net)
    every = INPUT, net.names[-1]
    for name, (start, stop) in zip((*net.names, ""), (*steps(net), every)):
        program = jax.jit(partial(output, whole, start, stop))
        batch = jax.tree.map(lambda x: np.resize(x, (size, *x.shape[1:])), given[start])
        calls[name] = partial(_finished, program, variables, jax.device_put(batch))
    return calls


def of_lengths(
    net: Net,
    variables: Variables,
    image: np.ndarray,
    sides: Sequence[int],
    threads: int | None,
) -> Calls:
    """A call of the whole net on a square of each side, through LiteRT or jitted.

    threads: of LiteRT; None: jitted, as on a server. image: u8[H, W, C], of which
    pixels are repeated or left out. UsageError for a side that the net does not take.
    """
    calls: Calls = {}
    whole, last = bare(net), net.names[-1]
    if image.ndim != 3:
        raise UsageError(f"--lengths: an input {image.shape} has no sides to change")
    for side in sides:
        rows, columns = (np.arange(side) * n // side for n in image.shape[:2])
        one = image[rows][:, columns][None]
        try:
            if threads is None:
                program = jax.jit(partial(output, whole, INPUT, last))
                call = partial(_finished, program, variables, jax.device_put(one))
                call()
            else:
                found = segment(whole, variables, one, start=INPUT, stop=last)
                call = partial(Runner(found.model, threads), inputs_of(one))
        except (ExportError, FlaxError, TypeError, ValueError) as error:
            why = str(error).partition("\n")[0]
            raise UsageError(
                f"--lengths: the network takes no input of side {side}, {why:.120}"
            ) from None
        calls[f"{side}"] = call
    return calls


def output(net: Net, start: str, stop: str, variables: Variables, x: Any) -> Any:
    """What the stages after `start` to `stop` give: a feature, or the answers."""
    out, _ = run(net, variables, x, start=start, stop=stop)
    return out.predictions or out.features[stop]


def _finished(program: Callable, *arguments: Any) -> Any:
    return jax.block_until_ready(program(*arguments))


def seconds(calls: Calls, runs: int, warm_up: int = 3) -> dict[str, float]:
    """Median seconds of each call over `runs` rounds, `warm_up` before left out."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm_up + runs):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if number >= warm_up:
                taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(each) for name, each in taken.items()}


def shared_out(taken: dict[str, float], net: Net) -> dict[str, float]:
    """The whole net's seconds, under "", shared out as its stages' own.

    Each stage alone is called, reads and writes: their sum is more than the net takes
    in one piece, as it runs in use. Where one has no seconds they stay as they are.
    """
    found = shares_of(taken, net.names)
    if "" in taken and len(found) == len(net.names):
        share = taken[""] / sum(taken[name] for name in net.names)
        LOGGER.info("the network takes %.2f of its stages' seconds", share)
    return found


def shares_of(taken: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    """What the whole takes, under "", as shares of what its parts take alone."""
    stages = {name: taken[name] for name in names if name in taken}
    total = sum(stages.values())
    if len(stages) < len(names) or "" not in taken or not total:
        return stages
    return {name: taken[""] / total * each for name, each in stages.items()}


def here(threads: int, runs: int) -> Machine:
    """This machine, as a profile names it."""
    found = report.machine()
    text = ", ".join(f"{k} {found[k]}" for k in ("cpu", "instructions") if k in found)
    return Machine(text, threads, runs)


def coder_seconds(
    codec: Any, latents: Sequence[np.ndarray], runs: int
) -> tuple[float, float]:
    """(encode, decode): median seconds of one latent, over all of them in turn."""
    spent: tuple[list[float], list[float]] = [], []
    for number in range(max(runs, len(latents))):
        begun = time.perf_counter()
        data = codec.encode(latents[number % len(latents)])
        coded = time.perf_counter()
        codec.decode(data)
        spent[0].append(coded - begun)
        spent[1].append(time.perf_counter() - coded)
    return statistics.median(spent[0]), statistics.median(spent[1])
