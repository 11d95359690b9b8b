"""What a notebook says: train, load, predict, compare. docs/python.md is a tour."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sc_jax import foreign, plugins, spec
from sc_jax.codec.codecs import Codec, at_level
from sc_jax.deploy import bundle
from sc_jax.deploy.device.runtime import EXIT, FINAL, Runner, in_turn, latent_of
from sc_jax.deploy.server import portable
from sc_jax.errors import UsageError, unknown
from sc_jax.evaluate.reports import exit_plots, exit_report, plots
from sc_jax.evaluate.reports import report as reports
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables
from sc_jax.runs import exit_runs, loading, rate_runs, run_folder, unpack, zoo
from sc_jax.runs import sweep as sweeps
from sc_jax.runs.loading import Answers
from sc_jax.runs.source import Source
from sc_jax.train import devices
from sc_jax.train.recipe import Recipe

__all__ = ["Comparison", "Model", "build", "compare", "evaluate", "load", "train"]


@dataclass(frozen=True, eq=False)
class Model:
    """A trained run, a device's bundle or a server's tail, opened. Arrays in and out.

    kind: "run", "bundle" or "tail". facts: of the data and of what was trained, as
    classes, shape, dtype; of a bundle also head_dtype, its weights'. codecs: by the
    split's name. cost: columns by exit. report: rows of the run's report. net,
    variables and recipe are a run's alone.
    """

    kind: str
    path: Path
    facts: dict[str, Any]
    codecs: dict[str, Codec]
    cost: dict[str, list]
    report: list[dict[str, Any]]
    net: Net | None
    variables: Variables | None
    recipe: Recipe | None
    _answer: Callable[..., Answers]
    _encode: Callable[[Any, int | None], bytes]
    _decode: Callable[[bytes, str], Answers]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of predictions."""
        return tuple(self.facts["classes"])

    def __call__(
        self, images: Any, *, policy: str = "", budget: float | None = None
    ) -> Answers:
        """Arrays by name for images [N, ...], or for one (then without the axis N).

        A run: logits, prediction, probabilities, exit, payload_bytes, framed_bytes, and
        exit_logits f32[E, N, K] where exits answer early; policy, budget: as of
        launch.evaluate. A bundle: what the device computes: logits of its exits, bytes
        (0 where the whole net is there, whose answer is `final`).
        A tail: the same reply as its server gives, of decoded latents [N, ...].
        """
        more = {"policy": policy or None, "budget": budget}
        return self._answer(images, **{k: v for k, v in more.items() if v is not None})

    def encode(self, image: Any, *, level: int | None = None) -> bytes:
        """One input as the bytes that a device sends: a wire frame.

        level: of a net of several rates, 0 the fewest bytes; None: its last. `decode`
        takes each.
        """
        return self._encode(image, level)

    def decode(self, data: bytes, *, bundle: Model | str = "") -> Answers:
        """The latent of a frame and, where the tail is here, the answer to it.

        bundle: of this run, that encoded the frame, opened or by its model's name. Its
        tables were fitted to its own head; run and tail keep them. A frame does not
        name its tables: others than its own may decode it to a wrong latent unnoticed.
        """
        if isinstance(bundle, Model):
            bundle = str(bundle.facts.get("model", bundle.path))
        return self._decode(data, bundle)

    def metrics(self) -> dict[str, list]:
        """What training recorded, as columns: `pandas.DataFrame(model.metrics())`."""
        return loading.metrics(self.path)

    def __repr__(self) -> str:
        named = self.facts.get("recipe") or self.facts.get("model", "")
        return f"<sc_jax {self.kind} {named} in {self.path}>"


def load(
    path: str | Path,
    *,
    trust: str | Path | Iterable[str | Path] = (),
    pretrained: str | Path | None = None,
) -> Model:
    """Opens a run's folder (a student's, a teacher's, one of a sweep), a bundle's
    folder or zip, a tail file, or a published student, "zoo:NAME". Needs neither the
    data set nor the recipe's file.

    pretrained: of a published student the checkpoint that taught it; its folder is then
    kept in the cache ($SC_JAX_CACHE), and needs no checkpoint the next time.
    trust: Python files that the run may be built with, by their bytes. A folder's own
    copies run only where one of these, or a file used before, is the same.
    """
    plugins.trust(trust)
    if zoo.is_named(path):
        return _run(unpack.kept(str(path), pretrained))
    if pretrained is not None:
        raise UsageError(f"pretrained is of zoo:NAME, and {path} has its weights")
    path = Path(path)
    if (path / run_folder.FILE).exists():
        return _run(path)
    if (path / bundle.MANIFEST).exists():
        return _bundle(path)
    if path.is_file():
        return _tail(path) if _manifest(path).get("kind") == "tail" else _bundle(path)
    if path.is_dir():
        # Of a sweep: the folder that a command named, not the one that holds a run.
        inside = sorted(file.parent.name for file in path.glob(f"*/{run_folder.FILE}"))
        if inside:
            raise UsageError(
                f"{path} holds several runs; open one: {', '.join(inside)}"
            )
        raise UsageError(f"{path} holds no run, no bundle and no tail")
    raise UsageError(f"there is no {path}")


def _manifest(path: Path) -> dict[str, Any]:
    with foreign.reading(path, "bundle or tail"), foreign.parts(path) as part:
        return foreign.unsealed(part(bundle.MANIFEST, foreign.JSON_BYTES))


def _run(folder: Path) -> Model:
    loaded = loading.load(folder)

    def decode(data: bytes, bundled: str) -> Answers:
        # Read each time: the bundle may have been exported since.
        own = _tables(bundle.registered(folder), bundled) if bundled else None
        return loading.decode(loaded, data, own)

    return Model(
        "run", folder, loading.facts(loaded), loaded.codecs, loading.costs(loaded),
        loading.report(folder), loaded.recipe.net, loaded.variables, loaded.recipe,
        lambda images, **more: loading.answer(loaded, images, **more),
        lambda image, level: loading.encode(loaded, image, level),
        decode,
    )  # fmt: skip


def _tables(known: Mapping[str, Codec], bundled: str) -> Codec:
    """Those of a bundle, by its model's name."""
    if bundled not in known:
        raise unknown("bundle of this run", bundled, known)
    return known[bundled]


def _bundle(path: Path) -> Model:
    read = bundle.read(path)
    facts = read.manifest["facts"]
    shape = tuple(facts["input"])
    segments = [Runner(model) for model in read.segments.values()]

    # Opened once: an interpreter takes longer than an image.
    codec: Any = read.codec  # of those that a head may compute
    split = read.manifest["split"]

    def payload(found, row: int, level: int | None = None) -> bytes:
        sender = codec if level is None else at_level(codec, level)
        return sender.pack(**{k: v[row] for k, v in latent_of(found).items()})

    def answer(images, **more) -> Answers:
        if more:
            raise UsageError("a bundle leaves by its own policy: sc_jax.deploy.Device")
        images, single = loading.checked(images, shape, "uint8")
        found = in_turn(segments, images)
        outputs = {k: v for k, v in found.items() if k.startswith(EXIT) or k == FINAL}
        # One by one, as a device would: the coder takes one example.
        sent = [payload(found, i) for i in range(len(images))] if codec else []
        framed = [loading.framed_bytes(codec, split, data) for data in sent]
        for name, data in (("payload_bytes", sent), ("framed_bytes", framed)):
            sizes = [len(each) for each in data] or [0] * len(images)
            outputs[name] = np.array(sizes, np.int64)
        return {k: v[0] for k, v in outputs.items()} if single else outputs

    def encode(image, level: int | None) -> bytes:
        _sends(codec, path)
        found = in_turn(segments, loading.one(image, shape, "uint8"))
        return loading.framed_bytes(codec, split, payload(found, 0, level))

    def decode(data: bytes, bundled: str) -> Answers:
        _sends(codec, path)
        own = {read.manifest["model"]: codec}
        tables = _tables(own, bundled) if bundled else codec
        return {"latent": loading.unframed(tables, data)}

    named = {"classes": read.labels, "shape": shape, "dtype": "uint8"}
    named |= {"model": read.manifest["model"], "head_dtype": facts.get("dtype")}
    cost = {"exit": read.manifest["exits"], "macs": read.manifest["cost"]}
    return Model(
        "bundle", path, {**facts, **named, "task": read.manifest["task"]},
        {f"split@{facts['cut']}": codec} if codec else {},
        cost if read.manifest["cost"] else {}, [], None, None, None,
        answer, encode, decode,
    )  # fmt: skip


def _sends(codec: Codec | None, path: Path) -> None:
    if codec is None:
        raise UsageError(f"{path} holds the whole net: it sends nothing")


def _tail(path: Path) -> Model:
    models, manifest = portable.read(path), _manifest(path)
    # The run's own id comes first in the file; its bundles' ids follow.
    (name, (tail, *others)) = next(iter(models.items()))
    codecs = {f"split{i}": each.codec for i, each in enumerate((tail, *others))}
    shape, dtype = tuple(tail.codec.shape), np.dtype(tail.dtype).name

    def answer(latents, **more) -> Answers:
        if more:
            raise UsageError("a tail takes no policy: only the device leaves early")
        latents, single = loading.checked(latents, shape, dtype)
        found = tail.reply(latents)
        return {k: v[0] for k, v in found.items()} if single else dict(found)

    def encode(image, level):
        raise UsageError("a tail has no head; it decodes what a device has encoded")

    def decode(data: bytes, bundled: str) -> Answers:
        known = {model: first.codec for model, (first, *_) in models.items()}
        latent = loading.unframed(_tables(known, bundled or name), data)
        return {"latent": latent, **answer(latent)}

    named = {"classes": tail.labels, "shape": shape, "dtype": dtype, "model": name}
    facts = {k: v for k, v in manifest.items() if k not in ("parts", "models")}
    return Model(
        "tail", path, {**facts, **named}, codecs, {}, [], None, None, None,
        answer, encode, decode,
    )  # fmt: skip


def build(recipe: str, /, **knobs: Any) -> Recipe:
    """A recipe as data: NAME, "NAME:knob=value,..." or FILE.py, and knobs."""
    return _source(recipe, knobs, ()).build()


def _source(recipe: str, knobs: dict, overrides: Iterable[str]) -> Source:
    name, own = spec.parse(recipe, "recipe")
    return Source(name, own | knobs, tuple(overrides))


def train(
    recipe: str,
    /,
    workdir: str | Path,
    *,
    overrides: Iterable[str] = (),
    sweep: str = "",
    teacher: str | Path | None = None,
    init: str | Path | None = None,
    report: bool = True,
    baselines: bool = True,
    options: dict[str, Any] | None = None,
    **knobs: Any,
) -> Model | dict[str, Model]:
    """Trains a recipe in a folder (or resumes it), reports it, and opens it.

    As launch.train: recipe and knobs as of `build`; overrides: "path=value" each;
    sweep: "knob:value,value", a model each; teacher, init: folders of
    finished runs. report=False measures nothing; baselines: the teacher and image
    codecs beside the run. options: of train.loop.fit, as log_every.
    """
    devices.start(False)
    _show_progress()
    source, folder = _source(recipe, knobs, overrides), Path(workdir)
    sweeps.run(
        source, folder, sweep=sweep,
        teacher_dir=None if teacher is None else Path(teacher),
        init=None if init is None else Path(init),
        report=report, baselines=baselines,
        command=f"sc_jax.train({recipe!r}, ...)", **(options or {}),
    )  # fmt: skip
    models = {name: load(folder / name) for name in sweeps.points(source, sweep)}
    return models if sweep else models[""]


def _show_progress() -> None:
    """Lines of training on stderr, unless whoever imports sc_jax has set up logging."""
    # A notebook shows no INFO by itself, and would look hung while XLA compiles.
    logger = logging.getLogger("sc_jax")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())


def evaluate(
    folder: str | Path,
    *,
    data: str | None = None,
    split: str = "test",
    trust: str | Path | Iterable[str | Path] = (),
) -> list[dict[str, Any]]:
    """A finished run measured again: a row for its bytes at each rate, one an exit.

    data: another set of the same classes. trust: as of `load`. Nothing is written.
    """
    plugins.trust(trust)
    folder = Path(folder)
    recipe = run_folder.recipe_of(folder)
    examples = run_folder.dataset_of(recipe, split, data)
    run_folder.check_same_classes(recipe, examples, folder)
    rows: list[dict[str, Any]] = []
    if recipe.net.splits or not exit_runs.leaves_early(recipe.net):
        found = rate_runs.rows(recipe, folder, examples, baselines=False)
        rows += [{"split": split, **dataclasses.asdict(each)} for each in found]
    if exit_runs.leaves_early(recipe.net):
        trace = exit_runs.measure(recipe, folder, examples).trace
        for name, quality, macs in zip(trace.exits, trace.quality, trace.cost):
            row = {"split": split, "exit": name, "metric": trace.metric}
            rows.append(row | {"quality": float(quality.mean()), "macs": float(macs)})
    return rows


class Comparison(NamedTuple):
    """Several runs: columns for a DataFrame, the same as text, the picture's file."""

    columns: dict[str, list]
    table: str
    picture: Path | None

    def __str__(self) -> str:
        return self.table


def compare(
    runs: Iterable[str | Path], picture: str | Path | None = None
) -> Comparison:
    """The reports of several runs as one table and, with `picture`, one PNG.

    Quality against bytes; rows that several reports hold alike (a teacher, image
    codecs) stand once. Where a run only leaves early: accuracy against MACs, of nets
    with exits alone.
    """
    # A folder named twice would draw its line twice.
    folders = list(dict.fromkeys(map(Path, runs)))
    file = None if picture is None else Path(picture)
    if not folders:
        raise UsageError("compare takes at least one folder of a reported run")
    rates, exits = (
        [folder for folder in folders if (folder / name).is_file()]
        for name in ("report.json", "exit_report.json")
    )
    # A net with exits and a split reports both, and goes with either kind.
    early = [folder for folder in exits if folder not in rates]
    if not early:
        return _rates(folders, file)
    if others := [folder for folder in rates if folder not in exits]:
        raise UsageError(
            f"{early[0]} sends no bytes and {others[0]} has no exits: no picture shows "
            "both; compare each kind by itself"
        )
    return _exits(folders, file)


def _rates(folders: list[Path], file: Path | None) -> Comparison:
    rows: list[reports.Row] = []
    for folder in folders:
        rows += [row for row in reports.read(folder) if row not in rows]
    if file is not None:
        plots.rate_accuracy(rows, file, "comparison", split="test")
    names = [field.name for field in dataclasses.fields(reports.Row)]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    return Comparison(columns, reports.table(rows), file)


def _exits(folders: list[Path], file: Path | None) -> Comparison:
    found = [exit_report.read(folder) for folder in folders]
    if file is not None:
        exit_plots.compare(found, file)
    rows = [row for run in found for row in (*run["anytime"], *run["quarters"])]
    columns = zip(exit_report.Row._fields, zip(*rows))
    table = exit_report.comparison(rows)
    return Comparison({name: list(values) for name, values in columns}, table, file)
