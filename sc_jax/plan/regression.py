"""A layer's seconds by regression on its figures, after Neurosurgeon.

Kang et al. 2017, section 4 (https://doi.org/10.1145/3037697.3037698): a device is
profiled once, kind by kind of layer, and any network is predicted from what its layers
look like. Two forms are the paper's, "linear" and "logarithmic" (a product of powers,
fitted in logarithms), one is ours: "work", multiplications and bytes at a price each.
Which form a kind has, networks that are held out of its fit decide. Fits weigh relative
errors; which weights the paper has is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from sc_jax.errors import UsageError, unknown
from sc_jax.plan import records
from sc_jax.plan.layers import Layer
from sc_jax.plan.profile import Machine

FORMAT = 1
# Assumption: below it an error is the profiler's (whole microseconds), not the fit's.
RESOLUTION_S = 1e-5
FORMS = ("constant", "linear", "logarithmic", "work")


@dataclass(frozen=True)
class LayerModel:
    """Seconds of one kind. coefficients: of the columns of its form, the constant last.

    layers: how many it was fitted to. error: sum of |predicted - measured| over the sum
    measured, on networks that were held out while the form was chosen.
    """

    kind: str
    form: str
    coefficients: tuple[float, ...]
    layers: int
    error: float


@dataclass(frozen=True)
class Regression:
    """What predicts layers on one machine. networks: those it was fitted to."""

    models: tuple[LayerModel, ...]
    machine: Machine
    networks: tuple[str, ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for model in self.models:
            if model.form not in FORMS:
                raise unknown("form of a layer's model", model.form, FORMS)


def fit(
    layers: Sequence[Layer], machine: Machine, forms: Sequence[str] = FORMS
) -> Regression:
    """A model of each kind among measured layers, of the best of `forms`; UsageError
    without any layer.
    """
    if not layers or any(layer.seconds is None for layer in layers):
        raise UsageError("a regression is fitted to layers that were measured")
    kinds: dict[str, list[Layer]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, []).append(layer)
    return Regression(
        tuple(_chosen(kind, kinds[kind], forms) for kind in sorted(kinds)),
        machine,
        tuple(dict.fromkeys(layer.network for layer in layers)),
    )


def predicted(regression: Regression, layers: Sequence[Layer]) -> np.ndarray:
    """f64[N] seconds, 0 or more; UsageError for a kind that was never measured."""
    models = {model.kind: model for model in regression.models}
    for layer in layers:
        if layer.kind not in models:
            raise UsageError(
                f"no layer of kind {layer.kind} was measured on "
                f"{regression.machine.description}: fit the regression to a network "
                f"that has one; it has {', '.join(models)}"
            )
    return np.array([_seconds(models[each.kind], each) for each in layers])


def held_out(layers: Sequence[Layer], forms: Sequence[str] = FORMS) -> np.ndarray:
    """f64[N]: each predicted from networks of other families alone; NaN: kind unknown.

    The choice of forms is made anew without the family, too.
    """
    families = [layer.family for layer in layers]
    if len(set(families)) < 2:
        raise UsageError("holding out a family of networks takes two or more of them")
    found = np.full(len(layers), np.nan)
    nobody = Machine("held out")
    for family in sorted(set(families)):
        rest = [layer for layer in layers if layer.family != family]
        models = {model.kind: model for model in fit(rest, nobody, forms).models}
        for i, layer in enumerate(layers):
            if layer.family == family and layer.kind in models:
                found[i] = _seconds(models[layer.kind], layer)
    return found


def error(predicted_s: np.ndarray, measured_s: np.ndarray) -> float:
    """Sum of |predicted - measured| over the sum measured; 0 where nothing took time.

    What is not predicted (NaN) counts as predicted 0.
    """
    missed = np.abs(np.nan_to_num(predicted_s) - measured_s).sum()
    return float(missed / measured_s.sum()) if measured_s.sum() else 0.0


@dataclass(frozen=True)
class Errors:
    """Of some layers, predicted from other families. share: of all measured seconds.

    error: as `error`. median: of |predicted - measured| / measured over the layers of
    RESOLUTION_S or more; None without one. missing: layers of a kind that no other
    family has.
    """

    name: str
    layers: int
    measured_s: float
    predicted_s: float
    share: float
    error: float
    median: float | None
    missing: int


def errors_by(
    names: Sequence[str], predicted_s: np.ndarray, measured_s: np.ndarray
) -> list[Errors]:
    """A row for each of `names`, which say where a layer belongs: kinds, networks."""
    found = []
    for name in dict.fromkeys(names):
        own = np.array([each == name for each in names])
        ours, theirs = predicted_s[own], measured_s[own]
        long = (theirs >= RESOLUTION_S) & np.isfinite(ours)
        relative = np.abs(ours[long] - theirs[long]) / theirs[long]
        found.append(
            Errors(
                name,
                int(own.sum()),
                float(theirs.sum()),
                float(np.nansum(ours)),
                float(theirs.sum() / measured_s.sum()),
                error(ours, theirs),
                float(np.median(relative)) if long.any() else None,
                int(np.isnan(ours).sum()),
            )
        )
    return found


def lines(layers: Sequence[Layer]) -> list[str]:
    """Held-out errors by kind and by network, in columns; of one family none."""
    if len({layer.family for layer in layers}) < 2:
        return ["one family of networks: nothing is left to hold out"]
    guesses = held_out(layers)
    seconds = np.array([layer.seconds for layer in layers], np.float64)
    groups = {
        "kind": [layer.kind for layer in layers],
        "network": [layer.network for layer in layers],
    }
    found = []
    for what, names in groups.items():
        found += [f"{what:<24}layers  measured ms  predicted ms  error %  median %"]
        for row in errors_by(names, guesses, seconds):
            median = "" if row.median is None else f"{100 * row.median:.0f}"
            found.append(
                f"{row.name:<24}{row.layers:>6}{1e3 * row.measured_s:>13.3f}"
                f"{1e3 * row.predicted_s:>14.3f}{100 * row.error:>9.0f}{median:>10}"
            )
        found.append("")
    return found[:-1]


def write(path: str | Path, regression: Regression) -> None:
    """One JSON file, indented to be read."""
    records.write(path, "regression", FORMAT, regression)


def read(path: str | Path) -> Regression:
    """The file of `write`; one line for what is unknown, missing or no number."""

    def part(kind: type, what: str):
        return lambda value: records.record(kind, value, what, {})

    parts = {
        "models": part(LayerModel, "a layer's model"),
        "machine": part(Machine, "a machine"),
    }
    return records.read(
        path,
        "regression",
        FORMAT,
        lambda content: records.record(Regression, content, "a regression", parts),
    )


def _chosen(kind: str, layers: list[Layer], forms: Sequence[str]) -> LayerModel:
    """The form of least error on held-out networks, fitted to all layers."""
    groups = np.array([layer.family for layer in layers])
    if len(set(groups)) < 2:  # of one family: every fifth layer stands out
        groups = np.arange(len(layers)) % min(5, len(layers))
    measured = np.array([layer.seconds for layer in layers], np.float64)
    errors = {}
    for form in forms:
        guesses = np.zeros(len(layers))
        for group in set(groups.tolist()):
            out = groups == group
            rest = [each for each, left in zip(layers, out) if not left]
            model = LayerModel(kind, form, _fitted(form, rest), 0, 0.0)
            guesses[out] = [
                _seconds(model, each) for each, left in zip(layers, out) if left
            ]
        errors[form] = error(guesses, measured)
    best = min(errors, key=errors.__getitem__)
    return LayerModel(kind, best, _fitted(best, layers), len(layers), errors[best])


def _columns(form: str, layer: Layer) -> tuple[float, ...]:
    if form == "linear":
        return (*layer.figures, 1.0)
    if form == "logarithmic":
        return (*(float(np.log(max(value, 1.0))) for value in layer.figures), 1.0)
    if form == "work":
        return layer.macs, layer.moved_bytes, layer.weight_bytes, 1.0
    return (1.0,)


def _seconds(model: LayerModel, layer: Layer) -> float:
    value = float(np.dot(_columns(model.form, layer), model.coefficients))
    if model.form == "logarithmic":
        # No layer takes a day: an exponent far out of what was measured stays finite.
        return float(np.exp(min(value, 11.0)))
    return max(value, 0.0)


def _fitted(form: str, layers: Sequence[Layer]) -> tuple[float, ...]:
    """Weighted least squares: of relative errors, or of logarithms."""
    if not layers:
        return (0.0,) * len(_columns(form, _NOTHING))
    table = np.array([_columns(form, layer) for layer in layers], np.float64)
    seconds = np.array([layer.seconds for layer in layers], np.float64)
    if form == "logarithmic":
        logs = np.log(np.maximum(seconds, RESOLUTION_S / 10))
        return tuple(map(float, _solved(table, logs)))
    weights = 1.0 / (seconds + RESOLUTION_S)
    table, target = table * weights[:, None], seconds * weights
    solved = _solved if form == "linear" else not_negative
    return tuple(map(float, solved(table, target)))


_NOTHING = Layer("", 1, 1, 1, 1, 1, 1)


def _solved(table: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares with columns of one scale; the shortest of equal solutions."""
    scale = np.abs(table).max(0)
    scale[scale == 0] = 1.0
    return np.linalg.lstsq(table / scale, target, rcond=None)[0] / scale


def not_negative(table: np.ndarray, target: np.ndarray) -> np.ndarray:
    """f64[C] >= 0 of least squares, over every set of columns: exact for a few."""
    count = table.shape[1]
    best, least = np.zeros(count), float(target @ target)
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            found = np.zeros(count)
            found[list(chosen)] = _solved(table[:, chosen], target)
            rest = float(((table @ found - target) ** 2).sum())
            if (found >= 0).all() and rest < least:
                best, least = found, rest
    return best
