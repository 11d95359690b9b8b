"""What each labelled input of a split met at every exit and over every cut.

One NPZ file beside a device's profile: planners that weigh mistakes (`joint`, `spinn`)
read it. The inputs are none that the network was trained on: what is certified on those
holds for nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sc_jax import foreign
from sc_jax.errors import UsageError
from sc_jax.plan.profile import Profile
from sc_jax.writing import writing

FORMAT = 1
SPLITS = ("validation", "test")
ROWS = ("score", "right", "behind")


@dataclass(frozen=True, eq=False)
class Records:
    """N independent inputs; qualities are in 0..1, of a classifier right or wrong.

    score: f[E, N], the confidence score `score_name` at each of `exits`, larger is
    surer; right: f[E, N], the quality of their answers; behind: f[C, N], of the whole
    network's answer over each of `cuts`, decoded bytes and all; whole: f[N], of the
    network in one piece. split: one of SPLITS.
    """

    network: str
    split: str
    exits: tuple[str, ...]
    cuts: tuple[str, ...]
    score: np.ndarray
    right: np.ndarray
    behind: np.ndarray
    whole: np.ndarray
    score_name: str = "max_probability"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UsageError(
                "records are of inputs that no training has seen, validation or test, "
                f"not of {self.split!r}"
            )
        for name in (*ROWS, "whole"):
            values = np.asarray(getattr(self, name))
            if values.dtype.kind not in "biuf":
                raise UsageError(f"{name} of records is numbers, not {values.dtype}")
            object.__setattr__(self, name, values.astype(np.float64))
        n = self.whole.size
        if self.whole.shape != (n,) or n < 2:
            raise UsageError(f"records are of 2 inputs or more, not {self.whole.shape}")
        for name in ROWS:
            names = self.cuts if name == "behind" else self.exits
            shape = getattr(self, name).shape
            if shape != (len(names), n):
                raise UsageError(
                    f"{name} of records is [{len(names)}, {n}], not {shape}"
                )
        if np.isnan(self.score).any():
            raise UsageError("a score of records is NaN")
        for name in ("right", "behind", "whole"):
            values = getattr(self, name)
            if not ((values >= 0) & (values <= 1)).all():
                raise UsageError(f"{name} of records is a quality in 0..1")

    def take(self, inputs: np.ndarray) -> Records:
        """Those of `inputs`, numbers of them."""
        parts = {name: getattr(self, name)[..., inputs] for name in (*ROWS, "whole")}
        return replace(self, **parts)

    def of(self, profile: Profile) -> Records:
        """Rows in the profile's order; UsageError for what was not recorded."""
        if self.network != profile.network:
            raise UsageError(
                f"the records are of network {self.network}, the profile of "
                f"{profile.network}"
            )
        exits = tuple(ending.after for ending in profile.exits)
        cuts = tuple(cut.name for cut in profile.cuts)
        rows = []
        for what, wanted, known in (
            ("exit after", exits, self.exits),
            ("cut", cuts, self.cuts),
        ):
            for name in wanted:
                if name not in known:
                    raise UsageError(
                        f"the records of {self.network} have no {what} {name}, which "
                        f"its profile has: record again with the profile"
                    )
            rows.append([known.index(name) for name in wanted])
        at, over = rows
        parts = {"score": self.score[at], "right": self.right[at]}
        return replace(self, exits=exits, cuts=cuts, behind=self.behind[over], **parts)


def write(path: str | Path, records: Records) -> None:
    """One NPZ file."""
    arrays = {name: getattr(records, name) for name in records.__dataclass_fields__}
    small = {name: arrays[name].astype(np.float32) for name in (*ROWS, "whole")}
    with writing(path), Path(path).open("wb") as file:
        np.savez_compressed(file, format=FORMAT, **{**arrays, **small})


def read(path: str | Path) -> Records:
    """The file of `write`; one line for what is missing or is none of it."""
    fix = "make it again: launch.profile --records=validation"
    if not Path(path).is_file():
        raise UsageError(f"{path}, a file of records, is missing; {fix}")
    with foreign.reading(path, "file of records", fix):
        arrays = foreign.read_arrays(path)
        if (found := arrays.pop("format", None)) != FORMAT:
            raise UsageError(
                f"{path}: format {found!r} of records, this version reads {FORMAT}"
            )
        for name in Records.__dataclass_fields__:
            if name not in arrays:
                raise UsageError(f"{path} has no array {name!r}")
        for name in arrays.keys() - Records.__dataclass_fields__.keys():
            raise UsageError(f"{path}: {name!r} is no array of records")
        words = {n: str(arrays[n]) for n in ("network", "split", "score_name")}
        names = {n: tuple(map(str, arrays[n])) for n in ("exits", "cuts")}
        try:
            return Records(**{**arrays, **words, **names})
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
