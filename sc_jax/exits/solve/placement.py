"""From a trace of branches at every place to the data that chooses among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring
from sc_jax.plan.placement import Candidates, first_confident
from sc_jax.traces.trace import Trace, for_fitting


def candidates(
    trace: Trace,
    threshold: float | Sequence[float],
    scoring: Scoring = MAX_PROBABILITY,
    classifier_cost: np.ndarray | None = None,
) -> Candidates:
    """What `plan.placement.dynamic_programme` chooses from, places as stage names.

    threshold: the score from which an exit is confident, one for all or [E - 1].
    classifier_cost: f64[E], what of trace.cost the exit classifiers on the way take
    (traces.record.Recorded); None: nothing, so that one left out saves nothing.
    """
    classifiers = np.zeros_like(trace.cost)
    if classifier_cost is not None:
        classifiers = np.asarray(classifier_cost)
    if classifiers.shape != trace.cost.shape:
        raise UsageError(
            f"{classifiers.size} costs of exit classifiers for {trace.cost.size} exits"
        )
    return Candidates(
        places=tuple(name.removeprefix("exit@") for name in trace.exits[:-1]),
        leaves_at=first_confident(confident(trace, threshold, scoring)),
        # Quality 1 or 0 of classification; of other tasks the better half.
        correct=trace.quality > 0.5,
        # A cost on the way holds the classifiers of all earlier places too.
        trunk_cost=trace.cost - classifiers,
        exit_cost=np.diff(classifiers[:-1], prepend=0.0),
    )


def confident(
    trace: Trace,
    threshold: float | Sequence[float],
    scoring: Scoring = MAX_PROBABILITY,
) -> np.ndarray:
    """bool[E - 1, N], where the score of an exit before the last is high enough.

    `plan.placement.stays_confident` of it measures how far the programme's
    assumption holds.
    """
    thresholds = np.asarray(threshold, np.float64)
    early = len(trace.exits) - 1
    if thresholds.shape not in ((), (early,)) or np.isnan(thresholds).any():
        raise UsageError(
            f"a threshold is one number, or {early}, one for each exit but the last: "
            f"{threshold}"
        )
    return (
        scoring.of(for_fitting(trace))[:-1]
        >= np.broadcast_to(thresholds, early)[:, None]
    )
