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
from sc_jax.deploy import bundle
from sc_jax.deploy.device.runtime import Runner, in_turn
from sc_jax.deploy.export import (
    layer_seconds,
    profile_cuts,
    profile_records,
    stage_seconds,
)
from sc_jax.deploy.wire import layout
from sc_jax.deploy.wire.protocol import InferRequest
from sc_jax.deploy.wire.reply import PREDICTION, Reply
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import report
from sc_jax.nets.net import FINAL, INPUT
from sc_jax.nets.run import run
from sc_jax.plan import benchmark_model, energy, profile, recorded, regression
from sc_jax.plan.energy import Meter
from sc_jax.plan.partition import crime
from sc_jax.plan.profile import Batch, ExitCost, Machine, Profile, with_head_s
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
        found = of_log(found, Path(installed or ""), log, log_file or "the log")
    elif installed:
        found = of_bundle(found, Path(installed), threads, runs)
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


def write(path: Path, found: Profile, met: Records | None) -> None:
    """The profile as JSON, and what its inputs met as NPZ beside it."""
    if met is not None:
        beside = path.with_suffix(".npz")
        recorded.write(beside, met)
        found = replace(found, records=beside.name)
    profile.write(path, found)


def lines(found: Profile) -> list[str]:
    """The profile as two tables: stages, then cuts."""
    sides = {"device": found.device_s, "server": found.edge_s}
    timed = {name: values for name, values in sides.items() if values}
    cells = [["stage", "MACs", "parameters", "bytes out", *(f"{n} ms" for n in timed)]]
    for i, name in enumerate(found.stages):
        counts = found.macs[i], found.parameters[i], found.output_bytes[i]
        each = (values[i] for values in timed.values())
        ms = ("none" if s is None else f"{1e3 * s:.3f}" for s in each)
        cells.append([name, *(f"{n:,.0f}" for n in counts), *ms])
    tables = [report.aligned(cells)]
    if (source := profile.energy_source(found)) is not None:
        watts = f"{found.compute_w:g} W at work"
        if found.idle_w is not None:
            watts += f", {found.idle_w:g} W at rest"
        tables += ["", f"energy of the device, {source}: {watts}"]
    for name, line in {
        "device": found.device_by_length,
        "server": found.edge_by_length,
    }.items():
        if line is not None:
            ns, ms = 1e9 * line.seconds_per_item, 1e3 * line.base_s
            words = f"{name} by length, measured at {len(line.lengths)}: {ns:.4g} ns a "
            words += f"position + {ms:.4g} ms, residual {1e3 * line.residual_s:.2g} ms"
            tables += ["", words]
    if found.cuts:
        cells = [["cut", "bytes", "encode ms", "decode ms", "quality"]]
        for cut in found.cuts:
            ms = (f"{1e3 * s:.3f}" for s in (cut.encode_s, cut.decode_s))
            cells.append(
                [cut.name, f"{cut.sent_bytes:,.1f}", *ms, f"{cut.quality:.4f}"]
            )
        tables += ["", report.aligned(cells)]
    return tables


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
