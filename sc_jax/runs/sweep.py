"""One run, or a curve of runs over a knob: trained, measured and reported together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sc_jax.data.pipeline import Data
from sc_jax.data.sources import Dataset
from sc_jax.errors import Diverged, Stopped, UsageError
from sc_jax.evaluate.reports.report import Row
from sc_jax.recipes import common
from sc_jax.runs import (
    baselines,
    begun,
    exit_runs,
    preflight,
    rate_runs,
    run_folder,
    sizes,
    training,
    unpack,
    zoo,
)
from sc_jax.runs.lock import locked
from sc_jax.runs.run_folder import Source
from sc_jax.spec import literal, words
from sc_jax.train import running
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import difference

TEACHER = "teacher"  # the folder of who teaches, in a run's or beside those of a sweep


def points(source: Source, sweep: str) -> dict[str, Source]:
    """The runs of "knob:value,value" by their folder's name, "knob=value".

    Without a sweep one run, named "": it stands in the folder itself.
    """
    if not sweep:
        return {"": source}
    knob, values = words(sweep, "sweep")
    if not values:
        raise UsageError(f"--sweep takes knob:value,value, got {sweep!r}")
    if knob in source.knobs:
        raise UsageError(f"--sweep and --recipe both set {knob}; leave one out")
    return {
        # A value may be a path, as of `data`; the folder stays below the workdir.
        f"{knob}={value}".replace("/", "_"): replace(
            source, knobs=source.knobs | {knob: value}
        )
        for value in map(literal, values)
    }


class Point(NamedTuple):
    """One run of a sweep.

    name: of its folder. taught: the folder of its teacher, or where one would be.
    reused: whether that is a finished run which teaches however it was trained.
    """

    name: str
    source: Source
    recipe: Recipe
    folder: Path
    taught: Path
    reused: bool = False


def built(
    source: Source, workdir: Path, sweep: str = "", teacher_dir: Path | None = None
) -> list[Point]:
    """The recipes of all points, each with a teacher: points that can, share one.

    teacher_dir: of a finished run that teaches all of them, or where the one teacher
    of all is to be trained. Else the first teacher stands in `workdir`/teacher, and
    each other in the folder of the first point that it teaches.
    """
    shared = teacher_dir or workdir / TEACHER
    # Looked up once, before any point trains: the first may finish the teacher.
    reused = teacher_dir is not None and run_folder.is_finished(teacher_dir)
    found = []
    for name, each in points(source, sweep).items():
        folder = workdir / name
        make = partial(begun.build, each, folder, shared, folder / TEACHER)
        with _named(name), sizes.explained(make):
            recipe = make()
        found.append(Point(name, each, recipe, folder, shared, reused))
    groups = [] if reused else _by_teacher(found)
    if teacher_dir is not None and len(groups) > 1:
        raise UsageError(
            f"--sweep: {groups[1][0].name} has another teacher than {found[0].name}, "
            "and --teacher names one folder: leave it out, or give a finished run"
        )
    if teacher_dir is not None or not sweep:
        return found
    places = _places(groups, shared)
    by_name = {p.name: place for group, place in zip(groups, places) for p in group}
    return [point._replace(taught=by_name[point.name]) for point in found]


def _by_teacher(found: Sequence[Point]) -> list[list[Point]]:
    """The points of one teacher together, in their order."""
    groups: list[list[Point]] = []
    # Compared and not hashed: a module of one's own may hold a list.
    for point in found:
        teacher = point.recipe.teacher
        fitting = (group for group in groups if group[0].recipe.teacher == teacher)
        if (group := next(fitting, None)) is None:
            groups.append([point])
        else:
            group.append(point)
    return groups


def _places(groups: Sequence[Sequence[Point]], shared: Path) -> list[Path]:
    """Where the teacher of each group stands: a sweep with more points keeps it."""
    places = [_recorded(group, shared) for group in groups]
    for i, group in enumerate(groups):
        if places[i] is not None:
            continue
        # One teacher alone belongs there: what else is there is refused, in a line.
        other = len(groups) > 1 and _holds_another(shared, group[0].recipe.teacher)
        taken = shared in places or other
        places[i] = group[0].folder / TEACHER if taken else shared
    return [place for place in places if place is not None]


def _recorded(group: Sequence[Point], shared: Path) -> Path | None:
    """The teacher's folder below the sweep's, as one of the points has it."""
    workdir = shared.parent.resolve()
    for point in group:
        if not (point.folder / run_folder.FILE).exists():
            continue
        saved = run_folder.read_json(point.folder / run_folder.FILE).get("teacher")
        place = (point.folder / (saved or "")).resolve()
        if saved and workdir in place.parents:
            return shared.parent / place.relative_to(workdir)
    return None


def _holds_another(folder: Path, teacher: Recipe | None) -> bool:
    if teacher is None or not (folder / run_folder.FILE).exists():
        return False
    saved = run_folder.read_json(folder / run_folder.FILE)
    return difference(saved.get("recipe"), teacher) is not None


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Says of which point an error is; of a single run, named "", nothing."""
    try:
        yield
    except (UsageError, Diverged, Stopped) as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from error


def run(
    source: Source,
    workdir: Path,
    *,
    sweep: str = "",
    teacher_dir: Path | None = None,
    init: Path | None = None,
    report: bool = True,
    baselines: bool = True,
    command: str = "",
    **options: Any,
) -> None:
    """Trains and reports every point under `workdir`; unpacks a published student.

    teacher_dir: as of `built`. init: of `training.train`, as are `options`. report:
    False measures nothing; baselines: whether the teachers and image codecs are
    measured too. Every mistake of a recipe shows before the first is trained. Where a
    point diverges the others go on; whatever ends the sweep early, what is finished is
    reported, and the same command goes on.
    """
    if zoo.is_named(source.recipe):
        unpack.run(
            source, workdir, report=report, baselines=baselines, command=command,
            trains={"--sweep": sweep, "--teacher": teacher_dir, "--init": init},
        )  # fmt: skip
        return
    # All of it: a second process would also write over this one's report.
    with running.stopping(), locked(workdir):
        runs = built(source, workdir, sweep, teacher_dir)
        tests = _check(runs, init, report)
        rows, finished, diverged = [], [], {}
        said = sweep, workdir, tests, command
        conclude = partial(_conclude, runs, rows, finished, diverged, *said)
        for point in runs:
            try:
                with _named(point.name):
                    _train(point, init=init, **options)
                    wanted = _baselines(point, finished) if baselines else ()
                    if report:
                        rows += _measured(point, runs, tests, wanted, command)
                finished.append(point)
            except BaseException as error:
                # Ctrl-C too: hours may lie behind it, and the report takes a second.
                if not sweep:
                    raise
                if not isinstance(error, Diverged):
                    conclude()
                    raise
                diverged[point.name] = str(error)
                LOGGER.warning("%s; the sweep goes on without it", error)
        conclude()
    if diverged:
        done = f"{len(finished)} of {len(runs)} points are finished"
        raise Diverged(f"{'; '.join(diverged.values())}; {done}")


def _conclude(
    runs: Sequence[Point],
    rows: Sequence[Row],
    finished: Sequence[Point],
    diverged: Mapping[str, str],
    sweep: str,
    workdir: Path,
    tests: Mapping[Data, Dataset],
    command: str,
) -> None:
    """The report of what is finished, where any of it has rows."""
    if rows and finished:
        first = finished[0]
        more = _facts(runs, finished, sweep, diverged) if sweep else {}
        test = tests[_key(first)]
        rate_runs.conclude(rows, first.recipe, workdir, test, command, more)


def _check(
    runs: Sequence[Point], init: Path | None, report: bool
) -> dict[Data, Dataset]:
    """UsageError where any point could not be trained or reported; the test sets."""
    begins = training.begins_with(init)
    tests: dict[Data, Dataset] = {}
    for point in runs:
        places = point.folder, point.taught
        with (
            _named(point.name),
            common.known(begun.facts(point.recipe.data, *places)),
            sizes.explained(point.source.build),
        ):
            # Without a report a net may have more splits than one can measure.
            check = (preflight if report else training).check
            check(point.recipe, reused=point.reused)
            training.refuse(point.recipe, *places, begins, reused=point.reused)
            if report and _key(point) not in tests:
                tests[_key(point)] = run_folder.dataset_of(point.recipe, "test")
    return tests


def _key(point: Point) -> Data:
    """What a point reads: what it does with it in training is left out."""
    return replace(point.recipe.data, batch_size=1, augment="none")


def _train(point: Point, **options: Any) -> None:
    running.heed("before its first step")
    reuse = point.taught if point.reused else None
    training.train(
        point.recipe, point.folder, point.source,
        teacher_dir=point.taught, reuse=reuse, **options,
    )  # fmt: skip


def _baselines(point: Point, finished: Sequence[Point]) -> tuple[str, ...]:
    """What is measured beside a point: each teacher once, image files once a data set.

    Of points without a teacher the first alone: the others' own rows say the same.
    """
    same = [other for other in finished if _key(other) == _key(point)]
    files = ("files",) if not same else ()
    if point.recipe.teacher is None:
        return ("whole", *files) if not same else ()
    new = all(other.taught != point.taught for other in same)
    return ("whole", *files) if new else ()


def _measured(
    point: Point,
    runs: Sequence[Point],
    tests: Mapping[Data, Dataset],
    wanted: tuple[str, ...],
    command: str,
) -> list[Row]:
    """A finished point's rows, named so that no two points' look alike."""
    recipe, folder = point.recipe, point.folder
    running.heed("before its report")
    if exit_runs.leaves_early(recipe.net):
        exit_runs.conclude(recipe, folder, command)
        if not recipe.net.splits:
            return []  # nothing is sent: the exits' report is all there is
        running.heed("before its bytes are measured")
    found = rate_runs.rows(
        recipe, folder, tests[_key(point)],
        baselines="whole" in wanted, files="files" in wanted, beside=len(runs) > 1,
    )  # fmt: skip
    # As of seed: no setting names the knob.
    alike = len({each.recipe.setting for each in runs}) < len(runs)
    teachers = len({(each.taught, _key(each)) for each in runs}) > 1
    sets = len({_key(each) for each in runs}) > 1
    by_point = rate_runs.settings(replace(recipe, setting=point.name))
    renamed = dict(zip(rate_runs.settings(recipe), by_point)) if alike else {}
    named = []
    for row in found:
        if row.method == recipe.title and row.setting in renamed:
            row = replace(row, setting=renamed[row.setting])
        elif row.method in baselines.LOCAL and teachers:
            row = replace(row, setting=point.name)
        elif row.family == "classical" and sets:
            # Another method, and no setting: one curve is of one set of images.
            row = replace(row, method=f"{row.method} ({point.name})")
        named.append(row)
    return named


def _facts(
    runs: Sequence[Point],
    finished: Sequence[Point],
    sweep: str,
    diverged: Mapping[str, str],
) -> dict[str, Any]:
    """What a report says of a sweep beyond what its first point says."""
    missing = [point.name for point in runs if point not in finished]
    facts: dict[str, Any] = {"sweep": sweep}
    facts["points"] = [point.name for point in finished]
    if missing:
        facts["not finished"] = [diverged.get(name, name) for name in missing]
    each: dict[str, Callable[[Point], Any]] = {
        "seed": lambda point: point.recipe.seed,
        "data": lambda point: point.recipe.data.name,
        "phases": lambda point: {p.name: p.steps for p in point.recipe.phases},
    }
    for name, of in each.items():
        found = {point.name: of(point) for point in finished}
        if any(value != of(finished[0]) for value in found.values()):
            facts[name] = found
    return facts
