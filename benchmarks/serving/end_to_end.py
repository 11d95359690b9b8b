"""Predicted and measured latency of every strategy, link and device speed: one run.

  python -m benchmarks.serving.end_to_end --folder=e2e --out=end_to_end.json \\
      --runs=whole=runs/z4/teacher,pair=runs/z4,clipped=runs/u6,webp=runs/webp

--runs: finished runs of one network and test set: the unmodified one, which has no
split, and those that send: a trained pair, training-free codecs, image files, float32
values of a stage (recipe unmodified), or what no exit before a cut answers (recipe
shallow_deep, say). launch.profile measures each on the cores of --cores, a device and a
server; of each strategy the fastest plan that loses at most --points_below of top-1 (of
one with exits surely so, by the planner joint on half of the test images; the others
are those that are run) is then really run, in every cell of --link x --factors.
Between the two stands serving.shaper with the link's rate and round trip, in user
space: that is not a radio. A device `factor` times slower sleeps for the rest of its
seconds, so its memory is as fast as this one's. The joules are modelled, from watts
that are assumed here alike for all devices and radios. A second call goes on with the
cells that --out has not.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one core

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.origin import origin
from benchmarks.serving import slow_device, strategies
from benchmarks.serving.server import serving
from benchmarks.serving.shaper import Shaper
from launch import cli
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.device import routes
from sc_jax.deploy.wire.client import Client
from sc_jax.evaluate.reports.report import machine
from sc_jax.plan import LINKS, Bounds, Link, Plan, Profile, latency_s, profile, recorded
from sc_jax.plan.link import parse
from sc_jax.plan.partition.joint import joint
from sc_jax.runs import loading, run_folder
from sc_jax.runs.loading import LoadedRun
from sc_jax.spec import named, numbers

RUNS = flags.DEFINE_list("runs", [], "NAME=FOLDER,... of one network and test set")
FOLDER = flags.DEFINE_string("folder", None, "keeps profiles and bundles")
NAMES = flags.DEFINE_multi_string("link", list(LINKS), "each, as launch.plan has it")
FACTORS = flags.DEFINE_list("factors", ["1", "4", "16"], "how much slower a device is")
BELOW = flags.DEFINE_float("points_below", 3.0, "of top-1 that a plan may lose", 0)
IMAGES = flags.DEFINE_integer("images", 20, "of a cell; slower than 1 s: a third", 3)
CORES = flags.DEFINE_list("cores", ["0", "1"], "of the device and of the server")
DELTA = flags.DEFINE_float("delta", 0.1, "chance that exits lose more")
TIMINGS = flags.DEFINE_integer("timings", 30, "behind each median of a profile", 1)
OUT = flags.DEFINE_string("out", None, "JSON file")

WATTS = {"compute_w": 2.0, "idle_w": 0.3}  # of the device: assumed
RADIO = {"transmit_w": 1.0, "receive_w": 1.0, "idle_w": 0.1}  # assumed
WARM = 3
EXAMPLES = 500  # of a cut behind exits, of which no report says the bytes
# In all cells of one file.
SAME = ("network", "runs", "floor", "watts", "cores", "delta")
RTT_S = 0.01  # of the map over all rates


def sides(name: str, workdir: Path, folder: Path, exits: bool) -> Profile:
    """The profile of both sides; measured by launch.profile where it is not there."""
    found = []
    for side, core in zip(("device", "server"), CORES.value):
        file = folder / f"{name}.{side}.json"
        if not file.exists():
            watts = [f"--{name}={w}" for name, w in WATTS.items()]
            if exits:  # small on paper, but a segment each: so the bundle is timed
                watts += [
                    "--records=test",
                    f"--bundle={exported(name, workdir, folder)}",
                ]
            own = watts if side == "device" else []
            pinned(
                core, "launch.profile", f"--workdir={workdir}", f"--side={side}",
                f"--out={file}", f"--examples={EXAMPLES * exits}",
                f"--runs={TIMINGS.value}", "--batches=", *own,
            )  # fmt: skip
        found.append(profile.read(file))
    return profile.combined(*found)


def exported(name: str, workdir: Path, folder: Path) -> Path:
    """The run's bundle; made by launch.export where it is not there."""
    path = folder / f"{name}.bundle"
    if not path.exists():
        where = f"--workdir={workdir}", f"--out={path}"
        pinned(CORES.value[0], "launch.export", *where)
    return path


def risk_planner(name: str, folder: Path) -> Callable[..., Plan]:
    """`joint` on every second of the test images; the run's profile names the file."""
    met = recorded.read(folder / f"{name}.device.npz")
    known = met.take(np.arange(0, met.whole.size, 2))
    risk = BELOW.value / 100
    return partial(joint, records=known, max_risk=risk, delta=DELTA.value)


def pinned(core: str, module: str, *arguments: str) -> None:
    command = ["taskset", "-c", core, sys.executable, "-m", module, *arguments]
    print(" ".join(command[3:]), flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def strategy(run: LoadedRun) -> str:
    kinds = [codec.kind for codec in run.codecs.values()]
    return strategies.strategy_of(run.recipe, *kinds)


class Prepared:
    """What the device does for a plan, prepared once."""

    def __init__(self, runs: dict[str, LoadedRun], folder: Path):
        self.runs, self.folder = runs, folder
        self._bundles: dict[str, bundle.Bundle] = {}

    def bundle(self, name: str) -> bundle.Bundle:
        if name not in self._bundles:
            path = exported(name, self.runs[name].folder, self.folder)
            self._bundles[name] = bundle.read(path)
        return self._bundles[name]

    def of(self, name: str, plan: Plan) -> tuple[slow_device.Compute, str] | None:
        """(what computes, the model's id); None: no run of --runs does this."""
        if plan.cut is None:
            return slow_device.installed(self.bundle(name)), ""
        if not self.runs[name].recipe.net.splits:  # its cuts are runs of their own
            name = self._lossless().get(plan.cut.after, "")
            if not name:
                return None
        (codec,) = self.runs[name].codecs.values()
        if not codec.exports:
            return slow_device.file(codec), name
        installed = self.bundle(name)
        level = plan.cut.codec.removeprefix("level=")
        chosen = int(level) if level.isdigit() else None
        model = installed.manifest["model"]
        if plan.threshold is not None:
            route = routes.route(plan, installed)
            assert route is not None, f"{name} has no exit of {plan.name}"
            installed = route.bundle
        return slow_device.installed(installed, chosen), model

    def _lossless(self) -> dict[str, str]:
        """{stage: run that sends its values as they are}."""
        return {
            run.recipe.net.splits[0].after: name
            for name, run in self.runs.items()
            if run.recipe.net.splits and strategy(run) == strategies.LAYERS
        }


def cell(
    planned: dict[str, tuple[str, Plan]], prepared: Prepared, link: Link,
    factor: float, client: Client, test: Dataset, reply_bytes: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each strategy, all of whose plans are run in turn, image by image."""
    # A plan of two strategies, computing locally say, is one measurement.
    distinct = {(name, plan.name): (name, plan) for name, plan in planned.values()}
    ready = {key: prepared.of(*each) for key, each in distinct.items()}
    taken: dict[tuple[str, str], list] = {key: [] for key in ready}
    slow = max(plan.latency_s for _, plan in planned.values()) > 1
    count = max(3, IMAGES.value // 3) if slow else IMAGES.value
    # Odd ones: on the others it was decided who leaves.
    places = 2 * np.linspace(0, len(test) // 2 - 1, count).astype(int) + 1
    warm = 1 if slow else WARM
    for number, place in enumerate([*places[:warm], *places]):
        image, label = test.image(int(place)), int(test.labels[place])
        for key, found in ready.items():
            if found is not None:
                compute, model = found
                took = slow_device.once(compute, image, factor, client, model)
                taken[key] += [(took, took.prediction == label)] * (number >= warm)
    return [
        {
            "strategy": strategy, "run": name, "plan": plan.name,
            "predicted_s": plan.latency_s, "energy_j": plan.energy_j,
            "quality": plan.quality, "predicted_bytes": plan.sent_bytes,
            "on_link_s": on_link_s(plan, link, reply_bytes),
            "stays": stays(plan),
            "chosen": strategy == strategies.chosen(planned),
            **measured(taken[name, plan.name]),
        }
        for strategy, (name, plan) in planned.items()
    ]  # fmt: skip


def stays(plan: Plan) -> float:
    """The share of inputs that no exit answers, by the plan."""
    return plan.sent_bytes / plan.cuts[0].sent_bytes if plan.cuts else 1.0


def on_link_s(plan: Plan, link: Link, reply_bytes: float) -> float:
    """A mean over inputs, those that an exit answers among them."""
    if not plan.cuts:
        return 0.0
    return stays(plan) * latency_s(link, plan.cuts[0].sent_bytes, reply_bytes)


def measured(taken: list[tuple[slow_device.Once, bool]]) -> dict[str, Any]:
    """Of (what it took, whether it was right); a note where no run does this."""
    if not taken:
        return {"note": "no run of --runs sends this"}
    seconds = [each.latency_s for each, _ in taken]
    return {
        "p50_s": float(np.median(seconds)),
        "p95_s": float(np.percentile(seconds, 95)),
        "mean_s": float(np.mean(seconds)),
        "device_s": float(np.median([each.device_s for each, _ in taken])),
        "sent_bytes": float(np.mean([each.sent_bytes for each, _ in taken])),
        "left": sum(not each.sent_bytes for each, _ in taken),
        "images": len(taken),
        "right": sum(right for _, right in taken),
    }


def described(
    every: dict[str, dict[str, Profile]], workdirs: dict[str, Path],
    risk: dict[str, Callable[..., Plan]],
) -> dict[str, Any]:  # fmt: skip
    """The report without its rows: what was measured, and the map over all rates."""
    (whole,) = every[strategies.LOCAL].values()
    assert whole.quality is not None
    floor = whole.quality - BELOW.value / 100
    rates, factors = np.geomspace(1e4, 1e9, 51), np.geomspace(1, 64, 25)
    bounds = Bounds(quality=floor)
    planned = strategies.regions(every, rates, factors, RTT_S, bounds, risk)
    return {
        **origin(), "machine": machine(), "network": whole.network, "rows": [],
        "floor": floor, "local_quality": whole.quality, "runs": [*workdirs],
        "cores": CORES.value, "delta": DELTA.value,
        "watts": {"device": WATTS, "radio": RADIO},
        "regions": {
            "rates": rates.tolist(), "factors": factors.tolist(), "rtt_s": RTT_S,
            "strategies": planned,
        },
    }  # fmt: skip


def main(_):
    if not (RUNS.value and FOLDER.value and OUT.value):
        raise cli.UsageError("give --runs, --folder and --out")
    links = {text: replace(parse(text), **RADIO) for text in NAMES.value}
    cli.writable(OUT.value)
    folder, out = Path(FOLDER.value), Path(OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [named(text, "--runs") for text in RUNS.value]
    workdirs = {name or Path(path).name: Path(path) for name, path in pairs}
    os.sched_setaffinity(0, {int(CORES.value[0])})
    runs = {name: loading.load(path) for name, path in workdirs.items()}
    kinds = {name: strategy(run) for name, run in runs.items()}
    leaving = [name for name, kind in kinds.items() if kind == strategies.EXITS]
    profiles = {n: sides(n, p, folder, n in leaving) for n, p in workdirs.items()}
    every = strategies.strategies(kinds, profiles)
    risk = {name: risk_planner(name, folder) for name in leaving}
    document = described(every, workdirs, risk)
    if out.exists() and out.stat().st_size:
        document["rows"] = kept(json.loads(out.read_text()), document)
    prepared = Prepared(runs, folder)
    served = {n: path for n, path in workdirs.items() if runs[n].recipe.net.splits}
    for name in served:  # before the server starts: it serves bundles' tables too
        if next(iter(runs[name].codecs.values())).exports:
            prepared.bundle(name)
    core = int(CORES.value[1])
    with serving(served, "--wait_ms=0", "--max_batch=1", core=core) as (address, _):
        for text, link in links.items():
            measure(text, link, address, document, every, risk, prepared, out)


def measure(
    name: str, link: Link, address: str, document: dict[str, Any],
    every: dict[str, dict[str, Profile]], risk: dict[str, Callable[..., Plan]],
    prepared: Prepared, out: Path,
) -> None:  # fmt: skip
    """Adds the rows of one link that `document` has not, and writes it to `out`."""
    test = run_folder.dataset_of(next(iter(prepared.runs.values())).recipe, "test")
    bounds = Bounds(quality=document["floor"])
    (reply,) = {each.reply_bytes for each in every[strategies.LOCAL].values()}
    have = {(row["link"], row["factor"]) for row in document["rows"]}
    with (
        Shaper(address, link) as shaper,
        Client(shaper.address, timeout_s=slow_device.PATIENCE_S) as client,
    ):
        for factor in numbers(FACTORS.value, "--factors"):
            if (name, factor) in have:
                continue
            planned = strategies.plans(every, link, bounds, factor, risk)
            rows = cell(planned, prepared, link, factor, client, test, reply)
            document["rows"] += [{"link": name, "factor": factor, **r} for r in rows]
            out.write_text(json.dumps(document, indent=1) + "\n")
            print(*(line(name, factor, row) for row in rows), sep="\n", flush=True)


def kept(saved: dict[str, Any], document: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an earlier call of the same runs and bounds."""
    for name in SAME:
        if saved.get(name) != document[name]:
            raise cli.UsageError(
                f"--out has rows of {name} {saved.get(name)}, not {document[name]}: "
                "another --out keeps both"
            )
    return saved["rows"]


def line(link: str, factor: float, row: dict[str, Any]) -> str:
    took = f"{1e3 * row['p50_s']:.1f} ms" if "p50_s" in row else row["note"]
    return (
        f"{link:8} x{factor:<4g} {row['strategy']:30} {row['plan']:40} predicted "
        f"{1e3 * row['predicted_s']:.1f} ms, took {took}{' *' * row['chosen']}"
    )


if __name__ == "__main__":
    cli.start(main)
