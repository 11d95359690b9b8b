"""What can answer for a finished run: its heads, its teacher, image files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.deployments import SERVER, Deployment, chain, matched
from launch import cli
from sc_jax.codec import codecs
from sc_jax.compressors import Image
from sc_jax.compressors.splits import codecs_of
from sc_jax.data import pipeline
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.runtime import Runner, in_turn, latent_of
from sc_jax.deploy.export import convert, segments
from sc_jax.deploy.export.package import package
from sc_jax.deploy.server import tails
from sc_jax.deploy.wire import frame
from sc_jax.evaluate.reports import report
from sc_jax.evaluate.reports.report import Row
from sc_jax.nets.net import FINAL, INPUT, Net, cut_at
from sc_jax.nets.run import Variables
from sc_jax.runs import run_folder
from sc_jax.train.recipe import Recipe

TIMED = 32  # images that the rounds go through
CALIBRATION = 256  # training images


def first(dataset: Dataset, count: int) -> np.ndarray:
    """uint8 [count or fewer, H, W, C]."""
    images, _, kept = next(iter(pipeline.evaluation_batches(dataset, count)))
    return np.asarray(images)[:kept]


@dataclass(frozen=True)
class Settings:
    """What to make of each run.

    dtypes: of heads; whole_dtypes: of the teacher. store: folder of the bundles; those
    that are there are read, not made again. below: share of top-1 that a file may be
    under the head. teacher, report: folders, where the run itself does not have them.
    """

    dtypes: list[str]
    whole_dtypes: list[str]
    store: Path
    below: float = 0.0
    teacher: Path | None = None
    report: Path | None = None


def of_run(label: str, workdir: Path, settings: Settings) -> list[Deployment]:
    """Heads in each dtype, the whole teacher here, files as accurate as a head."""
    recipe = run_folder.recipe_of(workdir)
    if recipe.teacher is None or len(recipe.net.splits) != 1:
        raise cli.UsageError(f"{workdir}: {recipe.name} is no student with one split")
    test = run_folder.dataset_of(recipe, "test")
    images = first(test, TIMED)
    rows = report.read(settings.report or workdir)
    teacher = recipe.teacher
    variables = teacher_variables(teacher, workdir, settings.teacher)
    deployments = heads(label, recipe, workdir, settings, images)
    if not deployments:
        raise cli.UsageError(f"{workdir}: no head in {', '.join(settings.dtypes)}")
    least = (deployments[0].top1 or 0.0) - settings.below
    deployments += whole(label, teacher, variables, settings.whole_dtypes, test, images)
    return deployments + files(
        label, teacher.net, variables, matched(rows, least), images
    )


def teacher_variables(teacher: Recipe, workdir: Path, folder: Path | None) -> Variables:
    """The finished teacher: in `folder`, or in the one that the run noted."""
    if folder is None:
        if run_folder.read_json(workdir / "recipe.json")["teacher"] is None:
            raise cli.UsageError(f"{workdir} names no teacher's folder: give --teacher")
        folder = run_folder.teacher_of(workdir)
    return run_folder.restore(teacher, folder)[0]


def heads(
    label: str, recipe: Recipe, workdir: Path, settings: Settings, images: np.ndarray
) -> list[Deployment]:
    """LiteRT head and coder on the device; decoder of bytes and tail on the server."""
    variables, _ = run_folder.restore(recipe, workdir)
    (split,) = recipe.net.splits
    deployments = []
    for dtype in settings.dtypes:
        try:
            found = bundle_of(label, workdir, dtype, settings.store)
        except convert.ExportError as error:
            print(f"{label}: no {dtype} head: {error}", flush=True)
            continue
        codec: Any = found.codec
        proof = found.manifest["facts"]["proof"]
        (tail,) = tails.tails(recipe.net, variables, {split.name: codec})
        steps = {
            "head": on_device(*map(Runner, found.segments.values())),
            "code": lambda parts, codec=codec: framed(codec, codec.pack(**parts)),
            SERVER: answer(tail),
        }
        sent = proof["payload_bytes"] + len(framed(codec, b""))
        once = chain(images, steps)
        deployments.append(
            Deployment(label, "head + coder", dtype, once, proof["quality"], sent)
        )
    return deployments


def bundle_of(label: str, workdir: Path, dtype: str, store: Path) -> Bundle:
    path = store / f"{label.replace('/', '_')}-{dtype}"
    if not path.exists():
        print(f"{label}: exporting {dtype}", flush=True)
        # The table is to show what a head loses: no export is refused here.
        anything: Any = {"max_drop_points": 100.0, "max_more_bytes": float("inf")}
        return package(workdir, path, dtype=dtype, **anything)[0]
    found = bundle.read(path)
    if found.manifest["model"] not in tails.load(workdir, label):
        raise cli.UsageError(f"{path} was made from another run than {workdir}")
    return found


def on_device(*segments: Runner) -> Callable:
    """An image through all segments, no exit taken."""

    def run(image):
        outputs = latent_of(in_turn(segments, image[None]))
        return {k: v[0] for k, v in outputs.items()}

    return run


def framed(codec: codecs.Codec, payload: bytes) -> bytes:
    return frame.pack(codec.id, 0, codec.shape, payload)


def answer(tail: tails.Tail) -> Callable[[bytes], dict[str, np.ndarray]]:
    """A frame to the task's reply, as the edge server does for a batch of one."""
    return lambda data: tail.reply(tail.codec.decode(frame.unpack(data).payload)[None])


def whole(
    label: str,
    teacher: Recipe,
    variables: Variables,
    dtypes: list[str],
    test: Dataset,
    images: np.ndarray,
) -> list[Deployment]:
    """The teacher on the device, with the accuracy of each exported segment."""
    some = first(run_folder.dataset_of(teacher, "train"), CALIBRATION)
    deployments = []
    for dtype in dtypes:
        found = segments.segment(
            teacher.net, variables, some, stop=teacher.net.names[-1], dtype=dtype
        )
        runner = Runner(found.model)
        batches = pipeline.evaluation_batches(test, 64)
        correct = sum(
            int((runner(np.asarray(x))[FINAL].argmax(-1) == labels)[:kept].sum())
            for x, labels, kept in batches
        )
        once, name = chain(images, {"whole": on_device(runner)}), teacher.backbone
        top1 = correct / len(test)
        deployments.append(
            Deployment(label, f"whole {name}, local", dtype, once, top1, 0.0)
        )
    return deployments


def files(
    label: str,
    net: Net,
    variables: Variables,
    rows: Mapping[str, Row],
    images: np.ndarray,
) -> list[Deployment]:
    """Image files on the device, by format; their decoder and the teacher behind."""
    deployments = []
    for name, row in rows.items():
        quality = None if row.setting == "lossless" else int(row.setting[2:])
        cut = cut_at(net, INPUT, Image(name.upper(), quality))
        # An image file has no parameters; the cut needs its name among them.
        with_cut = Variables(*({**part, "split@input": {}} for part in variables))
        of_split = codecs_of(cut, with_cut, images[:1])
        (tail,) = tails.tails(cut, with_cut, of_split)
        steps = {
            "code": lambda image, codec=tail.codec: framed(codec, codec.encode(image)),
            SERVER: answer(tail),
        }
        sent = row.framed_bytes[0] if row.framed_bytes else 0.0
        once = chain(images, steps)
        deployments.append(
            Deployment(label, f"{name} {row.setting}", "", once, row.quality, sent)
        )
    return deployments
