"""What every layer of registered networks takes on this machine, through LiteRT.

Untrained: a layer's seconds do not hang on its weights. From here or from logs of a
phone a regression is fitted (`plan/regression.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax import foreign
from sc_jax.deploy.device.runtime import Runner
from sc_jax.deploy.export import convert, segments, stage_seconds
from sc_jax.deploy.export.convert import ExportError
from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import backbone, classifier_net
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables, variable_shapes
from sc_jax.plan import benchmark_model, regression
from sc_jax.plan.layers import Layer, layers_of, timed
from sc_jax.plan.op_profile import time_operations
from sc_jax.plan.profile import Machine
from sc_jax.plan.regression import Regression
from sc_jax.train.log import LOGGER

CLASSES, MEAN, STD = 100, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def network_file(name: str, side: int) -> bytes:
    """A registered classifier of colour images of `side`, as one .tflite file."""
    net = classifier_net(name, CLASSES, MEAN, STD)
    image = np.zeros((1, side, side, 3), np.uint8)
    return whole_file(net, drawn(net, image), image)


def whole_file(net: Net, variables: Variables, example: np.ndarray) -> bytes:
    """All stages of a net as one file for a batch of 1; ExportError.

    Of any batch XNNPACK computes it in several parts, and its profile sums over them.
    """
    program = segments.program(stage_seconds.bare(net), variables, stop=net.names[-1])
    return convert.convert(*segments.lower(program, example, batch=1))


def drawn(net: Net, example: Any) -> Variables:
    """Variables of the right shapes without compiling what initialises them."""
    rng = np.random.default_rng(0)

    def draw(shape):
        # Small, so that no feature overflows: infinities may take longer.
        return 0.01 * rng.standard_normal(shape.shape, np.float32)

    params, state = variable_shapes(net, example)
    ones = jax.tree.map(lambda s: np.ones(s.shape, np.float32), state)
    return Variables(jax.tree.map(draw, params), ones)


def origin(build: Any) -> Any:
    """The function that builds, of one whose knobs were set."""
    return origin(build.func) if isinstance(build, partial) else build


def of_network(
    text: str, threads: int = 1, rounds: int = 15
) -> tuple[tuple[Layer, ...], float]:
    """Layers of "NAME:SIDE" with the least of `rounds`; seconds of the whole file.

    Those are the least of as many calls from Python. The least, as other programs on
    the machine interrupt most calls of a network.
    """
    name, _, side = text.partition(":")
    if not side.isdigit() or int(side) < 8:
        raise UsageError(f"{text!r} is no NAME:SIDE, as mobilenetv2:224")
    family = origin(backbone(name).build).__module__.rpartition(".")[2]
    model = network_file(name, int(side))
    rows, why = time_operations(model, threads=threads, runs=1, rounds=rounds)
    if rows is None:
        raise UsageError(f"{text}: {why}")
    layers = timed(model, rows, text, family)
    image = np.zeros((1, int(side), int(side), 3), np.uint8)
    runner = Runner(model, threads)
    call = {"": partial(runner, {"image": image})}
    whole = min(stage_seconds.seconds(call, 1, 1)[""] for _ in range(rounds))
    sums = sum(layer.seconds or 0.0 for layer in layers)
    LOGGER.info(
        "%s: %d layers, %.3g ms, the whole file %.3g ms",
        text, len(layers), 1e3 * sums, 1e3 * whole,
    )  # fmt: skip
    return layers, whole


def by_stage(
    net: Net, variables: Variables, given: dict[str, Any], model: Regression
) -> tuple[dict[str, float], dict[str, str]]:
    """(predicted seconds of every stage, why others have none): nothing is run.

    given: `stage_seconds.features`. Each stage is a file of its own, as it would be
    timed, and its layers' seconds are summed, without what a call costs.
    """
    found: dict[str, float] = {}
    refused: dict[str, str] = {}
    whole = stage_seconds.bare(net)
    for start, stop in stage_seconds.steps(net):
        program = segments.program(whole, variables, start=start, stop=stop)
        try:
            file = convert.convert(*segments.lower(program, given[start], batch=1))
        except ExportError as error:
            refused[stop] = str(error)
            continue
        found[stop] = float(regression.predicted(model, layers_of(file)).sum())
    return found, refused


def of_log(text: str) -> tuple[tuple[Layer, ...], Machine]:
    """Layers of "FILE.tflite=LOG", what benchmark_model printed of it on a device."""
    file, equals, log = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is no FILE.tflite=LOG of benchmark_model")
    with foreign.reading(log, "a log of benchmark_model"):
        text = Path(log).read_text(errors="replace")
    with foreign.reading(file, "a .tflite file"):
        model = Path(file).read_bytes()
    found = benchmark_model.read(text, log)
    if not found.operations:
        raise UsageError(
            f"{log} lists no operations: run it with --enable_op_profiling=true"
        )
    name = Path(file).stem
    layers = timed(model, found.operations, name, name)
    device = found.device or "a device that its log does not name"
    return layers, Machine(device, found.threads or 1, found.runs or 1)


def measured(
    networks: Sequence[str], logs: Sequence[str], threads: int, rounds: int
) -> tuple[list[Layer], Machine]:
    """All layers of networks timed here, or of logs; UsageError for both at once."""
    if bool(networks) == bool(logs):
        raise UsageError(
            "layers are of one machine: name networks to time here, or logs of a device"
        )
    here = stage_seconds.here(threads, rounds)
    if networks:
        each = [of_network(text, threads, rounds)[0] for text in networks]
        return [layer for one in each for layer in one], here
    pairs = [of_log(text) for text in logs]
    machines = {m.description for _, m in pairs}
    if len(machines) > 1:
        raise UsageError(f"logs of several devices: {', '.join(sorted(machines))}")
    return [layer for each, _ in pairs for layer in each], pairs[0][1]
