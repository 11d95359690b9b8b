"""Published students: what was trained of a run, as one small file with its record.

NAME.npz holds the parameters and state of those parts, kernels to 24 bits, the codecs'
tables as the run saved them, and a record. The teacher's own weights are not in it:
they are a public checkpoint, which the user has, known by its SHA-256.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from sc_jax import foreign, spec
from sc_jax.errors import UsageError, unknown
from sc_jax.nets.run import Variables
from sc_jax.recipes.knobs import Pretrained
from sc_jax.runs import source as origin
from sc_jax.runs.source import DataFacts, Source
from sc_jax.spec import Knob, Parameter

FOLDER = Path(__file__).parents[1] / "zoo"
ZOO = {file.stem: file for file in sorted(FOLDER.glob("*.npz"))}
PREFIX = "zoo:"  # zoo:NAME or zoo:FILE.npz, wherever a recipe or a run is named
COPY = "zoo.json"  # in a folder that a student was unpacked into: its record
LARGEST_BYTES = 1_000_000
RECORD = "record"


@dataclass(frozen=True)
class Teacher:
    """The public checkpoint that a student was taught by; sha256: of the file."""

    title: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """All that a student is beside its arrays, as JSON holds it.

    knobs: of the recipe, without files. parts: those that were trained. data: facts of
    the training images. phases, images_seen: steps by name, and the images in them, of
    the run and of those that it began with. measured: rows, the teacher's first.
    probe: what a few images of the tested set took, by their places in it.
    """

    recipe: str
    knobs: dict[str, Any]
    overrides: list[str]
    parts: list[str]
    teacher: Teacher
    data: DataFacts
    phases: dict[str, int]
    images_seen: int
    measured: list[dict[str, Any]]
    probe: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Student:
    """A file of the zoo, read. variables: of `record.parts` alone; tables: by split."""

    name: str
    record: Record
    variables: Variables
    tables: dict[str, dict[str, np.ndarray]]
    digest: str  # of the file

    def source(
        self, pretrained: str | Path, data: str | None = None, test: str | None = None
    ) -> Source:
        """The recipe as it was, without its phases: nothing is to be trained.

        data, test: sets of one's own; the training images do not come with it.
        """
        files = {"pretrained": str(pretrained), "test": test}
        files["data"] = data or self.record.data.name
        done = "phases=()", "teacher.phases=()"
        overrides = (*self.record.overrides, *done)
        return Source(self.record.recipe, self.record.knobs | files, overrides)

    def check_teacher(self, file: str | Path | None) -> None:
        """UsageError unless the file is the checkpoint that taught this student."""
        own = self.record.teacher
        wanted = f"{own.title}, {own.url} (SHA-256 {own.sha256[:8]}...)"
        if not file:
            raise UsageError(f"{PREFIX}{self.name} needs pretrained=FILE: {wanted}")
        try:
            found = sha256(file)
        except OSError as error:
            raise UsageError(
                f"pretrained={file} cannot be read: {foreign.reason(error)}; "
                f"{PREFIX}{self.name} takes {wanted}"
            ) from None
        if found != own.sha256:
            raise UsageError(
                f"{file} is another checkpoint (SHA-256 {found[:8]}...): "
                f"{PREFIX}{self.name} was taught by {wanted}"
            )


def sha256(file: str | Path) -> str:
    """Of a file's bytes; OSError."""
    with foreign.regular(file) as opened:
        content: Any = opened
        return hashlib.file_digest(content, "sha256").hexdigest()


def _opened(
    *,
    pretrained: Pretrained = None,
    data: Annotated[
        str | None, Knob("training images of your own, as to calibrate int8")
    ] = None,
    test: Annotated[str | None, Knob("labelled set that is measured")] = None,
) -> None:
    """The knobs of every student."""


def knobs_of(name: str) -> dict[str, Parameter]:
    """What can be said of a student when it is opened."""
    del name  # of all the same
    return spec.knobs_of(_opened)


def is_named(text: str | Path) -> bool:
    """Whether a recipe's name, or a run's, is that of a published student."""
    return str(text).startswith(PREFIX)


def read(text: str | Path) -> Student:
    """The student "zoo:NAME", of the package, or "zoo:FILE.npz"; UsageError."""
    name = str(text).removeprefix(PREFIX)
    if name.endswith(".npz"):
        file = Path(name).expanduser()
        if not file.is_file():
            raise UsageError(f"there is no published student {file}")
    elif name in ZOO:
        file = ZOO[name]
    else:
        raise unknown("published student", name, (*ZOO, "FILE.npz"))
    with foreign.reading(file, "published student"):
        data = foreign.read_bytes(file, LARGEST_BYTES)
        arrays = foreign.read_arrays(file)
        record = _record(arrays.pop(RECORD))
        variables, tables = _trees(record.parts, arrays)
        digest = hashlib.sha256(data).hexdigest()
        return Student(name, record, variables, tables, digest)


def _record(array: np.ndarray) -> Record:
    """Of its JSON as bytes; KeyError, TypeError, ValueError."""
    content = foreign.unsealed(array.tobytes())
    content["teacher"] = Teacher(**content["teacher"])
    content["data"] = origin.facts_from_json(content["data"])
    record = Record(**content)
    # A stranger's file is opened as quietly as one of the package.
    if Source(record.recipe, record.knobs).files:
        raise ValueError("its recipe reads files, as code")
    return record


def write(
    file: Path,
    record: Record,
    variables: Variables,
    tables: Mapping[str, Mapping[str, np.ndarray]],
) -> int:
    """The file of a student, its bytes counted; UsageError, unwritten, above 1 MB.

    variables: of `record.parts`, as `rounded` gives them.
    """
    sealed = foreign.sealed(dataclasses.asdict(record))
    arrays: dict[str, Any] = {RECORD: np.frombuffer(sealed, np.uint8)}
    for kind, trees in variables._asdict().items():
        for number, part in enumerate(record.parts):
            for path, leaf in _leaves(trees[part]):
                arrays[f"{kind}/{number}/{path}"] = np.asarray(leaf)
    for number, split in enumerate(sorted(tables)):
        arrays[f"tables/{number}/split"] = np.array(split)
        for field, value in tables[split].items():
            arrays[f"tables/{number}/{field}"] = np.asarray(value)
    draft = file.with_suffix(".part")
    try:
        with draft.open("wb") as out:
            np.savez_compressed(out, **arrays)
        size = draft.stat().st_size
        if size > LARGEST_BYTES:
            raise UsageError(
                f"{file.name} would take {size:,} bytes, more than {LARGEST_BYTES:,}: "
                f"trained were {', '.join(record.parts)}; publish a run that trains "
                "fewer parts, as pair=projection with stage2_epochs=0"
            )
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return size


def rounded(variables: Variables, parts: list[str], exact: set[str]) -> Variables:
    """The `parts` alone, kernels rounded to 24 bits but in those of `exact`.

    Biases, scales and priors keep their bits: they are few, and a prior's medians must
    be those of its tables.
    """

    def read(tree: Any, kernels: Callable[[np.ndarray], np.ndarray]) -> Any:
        if isinstance(tree, dict):
            return {name: read(value, kernels) for name, value in tree.items()}
        value = np.asarray(tree)
        return kernels(value) if value.ndim > 1 else value

    return Variables(
        *(
            {p: read(tree[p], np.asarray if p in exact else shortened) for p in parts}
            for tree in variables
        )
    )


def shortened(value: np.ndarray) -> np.ndarray:
    """float32 to the nearest with a last byte of zero: 16 bits of significand.

    Measured on the first student: no answer to 500 photographs changes, where float16
    changes 8 and saves a third of the file.
    """
    if value.dtype != np.float32:
        return value
    # A carry goes into the exponent, which is where it belongs.
    return ((value.view(np.uint32) + np.uint32(0x80)) & ~np.uint32(0xFF)).view(
        np.float32
    )


def about(file: Path) -> str:
    """A line on a student, then what its record says."""
    student = read(f"{PREFIX}{file}")
    record, teacher = student.record, student.record.teacher
    whole, *rows = map(_words, record.measured)
    knobs = ",".join(f"{k}={v}" for k, v in record.knobs.items())
    phases = ", ".join(f"{name} {steps}" for name, steps in record.phases.items())
    lines = [
        "; ".join((*rows, whole)),
        "",
        f"Recipe: {record.recipe}:{knobs}",
        f"Trained: {', '.join(record.parts)} on {record.data.name}, "
        f"{record.images_seen:,} images seen (steps: {phases})",
        f"Teacher, pretrained=FILE: {teacher.title}",
        f"  {teacher.url}",
        f"  SHA-256 {teacher.sha256}",
    ]
    return "\n".join(lines)


def _words(row: Mapping[str, Any]) -> str:
    """A measured row: of what is sent, or of a teacher that sends nothing."""
    quality = f"{row['metric']} {100 * row['quality']:.1f} %"
    if row["payload_bytes"] is None:
        return f"{row['method']} {quality} of {row['examples']} in {row['data']}"
    return f"{row['payload_bytes']:,.0f} bytes, {quality}"


def facts_of(folder: Path) -> dict[str, Any]:
    """What a report says of a run that was not trained where it stands; {} of others.

    Its data may be the user's own, and it has no phases: the record knows better.
    """
    if not (folder / COPY).exists():
        return {}
    saved = foreign.read_json(folder / COPY, "record of a published student")
    trained = f"{saved['data']['name']} ({saved['images_seen']:,} images seen)"
    named = {"published student": saved["name"], "trained on": trained}
    return named | {"phases": saved["phases"]}


def copy(student: Student, folder: Path) -> None:
    """Leaves the record in the folder of an unpacked student."""
    content = {"name": student.name, **dataclasses.asdict(student.record)}
    (folder / COPY).write_bytes(foreign.sealed(content, indent=1))


def _leaves(tree: Any, path: str = ""):
    """(path, array) of every leaf of nested dicts."""
    for name, value in tree.items():
        inside = f"{path}/{name}" if path else name
        if isinstance(value, dict):
            yield from _leaves(value, inside)
        else:
            yield inside, value


def _trees(parts: list[str], arrays: Mapping[str, np.ndarray]):
    """(variables, tables) of the arrays of a file; KeyError, ValueError."""
    trees = {kind: {part: {} for part in parts} for kind in Variables._fields}
    numbered: dict[str, dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        kind, number, *path = name.split("/")
        if kind == "tables":
            numbered.setdefault(number, {})["/".join(path)] = value
            continue
        node = trees[kind][parts[int(number)]]
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    tables = {str(fields.pop("split")): fields for fields in numbered.values()}
    return Variables(**trees), tables
