"""Where a finished run can be cut, with what codecs, and what the bytes answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sc_jax.codec import codecs
from sc_jax.codec.codecs import Codec
from sc_jax.compressors import Affine, Compressor, Image, Raw
from sc_jax.compressors.splits import codecs_of, levels_of
from sc_jax.data.dataset import Dataset
from sc_jax.deploy.export import stage_seconds
from sc_jax.deploy.wire import frame
from sc_jax.errors import UsageError
from sc_jax.evaluate import rate
from sc_jax.evaluate.reports import report
from sc_jax.nets.net import INPUT, Net, cut_at
from sc_jax.nets.run import Variables
from sc_jax.plan.profile import Cut
from sc_jax.runs import rate_runs
from sc_jax.runs.loading import LoadedRun
from sc_jax.train.log import LOGGER

# What is sent without a codec of the run's own: files at the input, values elsewhere.
FILES = tuple(Image(kind, q) for kind in ("JPEG", "WEBP") for q in (10, 30, 50, 75, 90))
PLAIN = {"float32": Raw(), "8 bit": Affine(8)}
LOCAL = "local computing"
Candidate = tuple[
    Net, str, str, Codec
]  # the net cut there, after, the codec's name, codec


def candidates(
    loaded: LoadedRun, example: Any, given: Mapping[str, Any]
) -> Iterator[Candidate]:
    """Where to cut and what to send; a feature of several arrays has none.

    given: features by stage, of which the kind is read.
    """
    net = loaded.recipe.net
    for split in net.splits:
        own = loaded.codecs[split.name]
        for level in range(levels_of(net)):
            codec = codecs.at_level(own, level) if levels_of(net) > 1 else own
            name = f"level={level}" if levels_of(net) > 1 else codec.kind
            # Of several splits each is a cut of its own.
            yield replace(net, splits=(split,)), split.after, name, codec
    if net.splits:
        return
    for after in (INPUT, *net.names[:-1]):
        if not isinstance(given[after], np.ndarray):
            LOGGER.info("%s gives several arrays: no cut is tried there", after)
            continue
        for name, compressor in _compressors(after, example):
            cut = cut_at(net, after, compressor)
            known = Variables(*({**p, f"split@{after}": {}} for p in loaded.variables))
            codec = codecs_of(cut, known, example)[f"split@{after}"]
            yield cut, after, name, codec


def _compressors(after: str, example: Any) -> Iterator[tuple[str, Compressor]]:
    if after != INPUT:
        yield from PLAIN.items()
    elif example.dtype == np.uint8 and example.shape[3:] in ((1,), (3,)):
        for each in FILES:
            yield f"{each.format} q={each.quality}", each


def over(
    loaded: LoadedRun, net: Net, codec: Codec, data: Dataset, title: str
) -> rate.Measured:
    """The net that is cut once, on decoded bytes of every example."""
    return measured(loaded, net, {net.splits[0].name: codec}, data, title)


def measured(
    loaded: LoadedRun, net: Net, tables: dict[str, Any], test: Dataset, title: str
) -> rate.Measured:
    """The run's net, or one made of its stages, over a data set."""
    empty = {split.name: {} for split in net.splits}
    # A compressor without parameters has an entry all the same.
    variables = Variables(*({**empty, **part} for part in loaded.variables))
    return rate.measure(
        net, variables, tables, test, task=loaded.recipe.task, title=title
    )


def reports(
    loaded: LoadedRun, test: Dataset, given: Mapping[str, Any], runs: int
) -> tuple[float | None, list[Cut]]:
    """(quality of local computing, cuts) without an answer at any cut.

    None: of a split run nobody measured it. UsageError where its report has several
    splits in one.
    """
    net, quality = loaded.recipe.net, None
    if len(net.splits) > 1:
        raise UsageError(
            f"the report of {loaded.folder} is of {len(net.splits)} splits together: "
            "measure each with --examples of 1 or more"
        )
    if not net.splits:
        quality = measured(loaded, net, {}, test, LOCAL).figure
    return quality, list(_known_cuts(loaded, test, given, runs, quality))


def _known_cuts(
    loaded: LoadedRun,
    test: Dataset,
    given: Mapping[str, Any],
    runs: int,
    quality: float | None,
) -> Iterator[Cut]:
    """Of a split run as its report has them; of any other values as they are.

    Those take as many bytes for every input, and keep the network's quality.
    """
    split = bool(loaded.recipe.net.splits)
    every = candidates(loaded, test.example(), given)
    for level, (_, after, name, codec) in enumerate(every):
        if not split and name != "float32":
            continue
        seconds = stage_seconds.coder_seconds(codec, given[after], runs)
        if split:
            sent, quality = _reported(loaded, level)
        else:
            coded = codec.encode(given[after][0])
            sent = len(frame.pack(codec.id, 0, codec.shape, coded))
        yield Cut(after, name, sent, *seconds, quality)


def answers(
    loaded: LoadedRun, test: Dataset, given: Mapping[str, Any], runs: int
) -> tuple[float, list[Cut]]:
    """(quality of local computing, cuts) by running each on the test images."""
    bare = replace(loaded.recipe.net, splits=())
    local = measured(loaded, bare, {}, test, LOCAL)
    return local.figure, list(_cuts(loaded, test, given, runs))


def _cuts(
    loaded: LoadedRun, test: Dataset, given: Mapping[str, Any], runs: int
) -> Iterator[Cut]:
    """Each with its real bytes and answers."""
    for net, after, name, codec in candidates(loaded, test.example(), given):
        found = over(loaded, net, codec, test, f"{after}, {name}")
        encode_s, decode_s = stage_seconds.coder_seconds(codec, given[after], runs)
        sent, figure = float(found.framed_bytes.mean()), found.figure
        LOGGER.info("cut %s, %s: %.0f bytes, quality %.4f", after, name, sent, figure)
        yield Cut(after, name, sent, encode_s, decode_s, figure)


def _reported(loaded: LoadedRun, level: int) -> tuple[float, float]:
    """(mean framed bytes, quality) in the run's report, of one level of its rates."""
    recipe = loaded.recipe
    setting = rate_runs.settings(recipe)[level]
    for row in report.read(loaded.folder):
        if (row.method, row.setting) == (recipe.title, setting) and row.framed_bytes:
            return row.framed_bytes[0], row.quality
    raise UsageError(
        f"the report of {loaded.folder} has no row of {recipe.title} {setting}: "
        "measure with --examples of 1 or more"
    )
