"""A finished run's `Profile`: seconds, bytes and qualities that a planner reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sc_jax.data.dataset import Dataset
from sc_jax.deploy.export import (
    layer_seconds,
    profile_cuts,
    profile_heads,
    profile_records,
    stage_seconds,
)
from sc_jax.deploy.wire import layout
from sc_jax.deploy.wire.protocol import InferRequest
from sc_jax.deploy.wire.reply import PREDICTION, Reply
from sc_jax.errors import UsageError
from sc_jax.nets.net import FINAL, INPUT
from sc_jax.nets.run import run
from sc_jax.plan import energy, profile, recorded, regression
from sc_jax.plan.energy import Meter
from sc_jax.plan.partition import crime
from sc_jax.plan.profile import Batch, ExitCost, Profile
from sc_jax.plan.recorded import Records
from sc_jax.plan.regression import Regression
from sc_jax.runs import exit_runs, loading, run_folder
from sc_jax.runs.loading import LoadedRun
from sc_jax.traces import cost
from sc_jax.train.log import LOGGER

METERED_S = 0.5  # of each stage
FEW = 8  # images that segments are compared on and coders timed with


def measured(
    workdir: Path,
    side: str,
    *,
    examples: int = 500,
    threads: int = 1,
    runs: int = 30,
    batches: tuple[int, ...] = (8, 64),
    installed: str | None = None,
    log: str | None = None,
    log_file: str | None = None,
    model: str | None = None,
    compute_w: float | None = None,
    idle_w: float | None = None,
    split: str | None = None,
    reply: str = PREDICTION,
    meters: str | Path = energy.ROOT,
    lengths: Sequence[int] = (),
) -> tuple[Profile, Records | None]:
    """A side, "device" or "server", of the finished run under `workdir`.

    installed: its bundle; log: what benchmark_model printed for that bundle's head.
    model: file of a regression, which predicts the device's seconds. compute_w, idle_w:
    the device's watts, stated. split: "validation" or "test", of which also what every
    input met is recorded (profile_records). reply: what a device asks a server for, as
    of launch.device. meters: under it the meter that measures joules of stages that run
    here, where there is one and no watts are stated (plan.energy). lengths: sides of
    square inputs, of which a line of seconds by length is measured, for `crime`.
    """
    stated = compute_w is not None or idle_w is not None
    _refuse(side, installed, log, model, stated, split, batches, lengths)
    predicting = regression.read(model) if model else None
    loaded = loading.load(workdir)
    if side == "server":
        found = server(loaded, batches=batches, runs=runs)
        if lengths:
            found = by_length(found, loaded, lengths, None, runs)
        return _answered(found, loaded, reply), None
    # Before a minute of timing: there may be none.
    data = None if split is None else profile_records.data_of(loaded, split)
    # A battery's driver renews its watts too seldom for a stage.
    meter = None if stated or installed or model else energy.find_meter(Path(meters))
    found = device(
        loaded, examples=examples, threads=threads, runs=runs, model=predicting,
        meter=meter if meter is not None and meter.counts else None,
    )  # fmt: skip
    if log is not None:
        found = profile_heads.of_log(
            found, Path(installed or ""), log, log_file or "the log"
        )
    elif installed:
        found = profile_heads.of_bundle(found, Path(installed), threads, runs)
    if lengths:
        found = by_length(found, loaded, lengths, threads, runs)
    known = profile.with_watts(found, compute_w, idle_w) if stated else found
    known = _answered(known, loaded, reply)
    if data is None:
        return known, None
    return known, profile_records.recorded(loaded, known, data)


def _refuse(
    side: str,
    installed: str | None,
    log: str | None,
    model: str | None,
    stated: bool,
    split: str | None,
    batches: Sequence[int],
    lengths: Sequence[int],
) -> None:
    """UsageError where the options of `measured` contradict each other."""
    if log is not None and not installed:
        raise UsageError("--benchmark_model timed a head: give its --bundle")
    if min(batches, default=1) < 1:
        raise UsageError(f"a batch is of 1 or more, not {min(batches)}")
    if model and installed and log is None:
        raise UsageError(
            "--regression predicts a device that is not here, --bundle times a head "
            "here: give one of them, or --benchmark_model too"
        )
    if lengths and (len({*lengths}) < 2 or min(lengths) < 1):
        raise UsageError("--lengths are two different sides or more, each 1 or more")
    if lengths and (installed or model):
        raise UsageError("--lengths are timed here: without --bundle and --regression")
    if side == "server" and (installed or model or stated):
        raise UsageError("bundle, regression and watts are a device's: --side=device")
    if side == "server" and split is not None:
        raise UsageError("records are of the device: --side=device")


def device(
    loaded: LoadedRun,
    *,
    examples: int = 500,
    threads: int = 1,
    runs: int = 30,
    model: Regression | None = None,
    meter: Meter | None = None,
) -> Profile:
    """The device's side, of this machine: stages through LiteRT, cuts, qualities.

    examples: of the test split, evenly, whose real bytes and answers each cut gives: at
    the input FILES, after a stage PLAIN, at the run's own split its codec, at each
    level. 0: no cut is run; of a split run its report says it, and any other network
    has float32 cuts alone, which lose nothing. A stage that LiteRT cannot run has no
    seconds, and the log says why; where all can, they share out the seconds of the
    whole network in one segment. What exits add is modelled: their MACs at the stages'
    seconds a MAC. model: predicts the stages' seconds on the device that it was fitted
    to, and none is run; the coder's stay this machine's and are called modelled. meter:
    measures the stages' joules.
    """
    net, variables = loaded.recipe.net, loaded.variables
    test = _test(loaded, examples)
    given = stage_seconds.features(net, variables, _images(test))
    # First: a report without its row shows before the timings.
    known_by = profile_cuts.answers if examples else profile_cuts.reports
    quality, cuts = known_by(loaded, test, given, runs)
    calls: stage_seconds.Calls = {}
    if model is not None:
        taken, refused = layer_seconds.by_stage(net, variables, given, model)
    else:
        calls, refused = stage_seconds.on_device(net, variables, given, threads)
        taken = stage_seconds.shared_out(stage_seconds.seconds(calls, runs), net)
    for name, reason in refused.items():
        LOGGER.warning("%s has no seconds: %s", name or "the whole net", reason)
    known = _network(loaded, given)
    # Of the stages that have seconds alone.
    counted = sum(n for name, n in zip(net.names, known.macs) if name in taken)
    pace = sum(taken.values()) / max(counted, 1)
    seconds = ("device_s", "encode_s")
    endings = ("exits",) if net.exit_names[:-1] else ()
    found = replace(
        known,
        device_s=tuple(taken.get(name) for name in net.names),
        cuts=tuple(cuts),
        exits=tuple(_exits(loaded, test, pace)),
        quality=quality,
        device=model.machine if model else stage_seconds.here(threads, runs),
        measured=(
            *(() if model else seconds),
            *("sent_bytes", "decode_s", "quality", "reply_bytes"),
        ),
        modelled=("memory_bytes", *(seconds if model else ()), *endings),
    )
    return found if meter is None or refused else metered(found, calls, meter)


def metered(found: Profile, calls: stage_seconds.Calls, meter: Meter) -> Profile:
    """The device's side with the joules of its stages, shared out as their seconds."""
    joules, idle_w = energy.stage_joules(meter, calls, METERED_S)
    shared = stage_seconds.shares_of(joules, found.stages)
    try:
        return profile.with_joules(found, shared, idle_w)
    except UsageError as error:
        LOGGER.warning("%s: no joules are measured, state --compute_w", error)
        return found


def server(
    loaded: LoadedRun, *, batches: tuple[int, ...] = (8, 64), runs: int = 30
) -> Profile:
    """The server's side, of this machine: stages jitted, at batch 1 and at others."""
    net, variables = loaded.recipe.net, loaded.variables
    given = stage_seconds.features(net, variables, _images(_test(loaded, FEW)))
    taken = {}
    for size in sorted({1, *batches}):
        LOGGER.info("the server's stages, batch %d", size)
        calls = stage_seconds.on_server(net, variables, given, size)
        found = stage_seconds.shared_out(stage_seconds.seconds(calls, runs), net)
        taken[size] = tuple(found[name] for name in net.names)
    return replace(
        _network(loaded, given, edge_s=taken.pop(1)),
        edge_batch_s=tuple(Batch(size, each) for size, each in taken.items()),
        edge=stage_seconds.here(1, runs),
        measured=("edge_s", "edge_batch_s"),
    )


def by_length(
    found: Profile,
    loaded: LoadedRun,
    sides: Sequence[int],
    threads: int | None,
    runs: int,
) -> Profile:
    """A side with the whole network's seconds by its input's length, in pixels.

    threads: of the device; None: the server.
    """
    image = _images(_test(loaded, 1))[0]
    calls = stage_seconds.of_lengths(
        loaded.recipe.net, loaded.variables, image, sides, threads
    )
    taken = stage_seconds.seconds(calls, runs)
    line = crime.measured([side**2 for side in sides], [taken[f"{s}"] for s in sides])
    name = "edge_by_length" if threads is None else "device_by_length"
    LOGGER.info(
        "%.4g ns a pixel and %.4g ms, off by %.2g ms",
        1e9 * line.seconds_per_item, 1e3 * line.base_s, 1e3 * line.residual_s,
    )  # fmt: skip
    known = {"input_length": float(image.shape[0] * image.shape[1]), name: line}
    return replace(found, measured=(*found.measured, name), **known)


def write(path: Path, found: Profile, met: Records | None) -> None:
    """The profile as JSON, and what its inputs met as NPZ beside it."""
    if met is not None:
        beside = path.with_suffix(".npz")
        recorded.write(beside, met)
        found = replace(found, records=beside.name)
    profile.write(path, found)


def _test(loaded: LoadedRun, examples: int) -> Dataset:
    """Of the test split, evenly; 0: all of it."""
    test = run_folder.dataset_of(loaded.recipe, "test")
    examples = examples or len(test)
    # Evenly: folders come sorted by class.
    rows = np.linspace(0, len(test) - 1, min(examples, len(test)))
    return test.take(rows.astype(int))


def _images(test: Dataset) -> np.ndarray:
    return np.stack([test.image(i) for i in range(min(FEW, len(test)))])


def _network(loaded: LoadedRun, given: dict[str, Any], **seconds: Any) -> Profile:
    """What both sides' files say of the net; seconds: the side's, or none yet."""
    net, variables = stage_seconds.bare(loaded.recipe.net), loaded.variables
    sizes = [
        sum(leaf[:1].nbytes for leaf in jax.tree.leaves(given[name]))
        for name in (INPUT, *net.names)
    ]
    weights = [
        cost.parameters(variables.params[stage.owner or stage.name])
        for stage in net.stages
    ]
    # Neither side is complete without its own, which come last.
    seconds = seconds or {"device_s": (None,) * len(net.names)}
    return Profile(
        network=loaded.recipe.network,
        stages=net.names,
        macs=tuple(
            cost.macs(
                partial(stage_seconds.output, net, start, stop),
                variables,
                jax.tree.map(lambda x: x[:1], given[start]),
            )
            for start, stop in stage_seconds.steps(net)
        ),
        parameters=tuple(weights),
        output_bytes=tuple(sizes[1:]),
        # float32 weights, and the two features that stand in memory together.
        memory_bytes=tuple(
            4 * weight + before + after
            for weight, before, after in zip(weights, sizes, sizes[1:])
        ),
        reply_bytes=reply_bytes(loaded, given[INPUT][:1]),
        modelled=("memory_bytes",),
        **seconds,
    )


def _answered(found: Profile, loaded: LoadedRun, reply: str) -> Profile:
    """With the bytes of an answer that is asked for so."""
    images = _images(_test(loaded, 1))
    return replace(found, reply_bytes=reply_bytes(loaded, images, reply))


def reply_bytes(loaded: LoadedRun, images: np.ndarray, reply: str = PREDICTION) -> int:
    """Of the answer to the one image, as a server writes it; reply: of REPLIES."""
    task, net = loaded.recipe.task, stage_seconds.bare(loaded.recipe.net)
    answers = run(net, loaded.variables, images)[0].predictions[FINAL]
    outputs = {name: np.asarray(v)[0] for name, v in task.reply(answers).items()}
    for name, value in outputs.items():
        if value.dtype == np.int32:  # a server counts in 64 bits
            outputs[name] = value.astype(np.int64)
    request = InferRequest()
    request.ParseFromString(layout.request("", b"", reply=reply))
    return len(layout.response(request, Reply(outputs)))


def _exits(loaded: LoadedRun, test: Dataset, pace: float) -> Iterator[ExitCost]:
    recipe = loaded.recipe
    if not recipe.net.exit_names[:-1]:
        return
    recorded = exit_runs.measure(recipe, loaded.folder, test)
    means = recorded.trace.quality.mean(1)
    for number, ending in enumerate(recipe.net.exits):
        if ending.after != recipe.net.names[-1]:
            added = pace * float(recorded.classifier_cost[number])
            yield ExitCost(ending.after, added, added, float(means[number]))
