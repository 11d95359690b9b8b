"""Knobs that several solvers have: type, range and one line of help, as one name.

None, where a knob takes it, leaves the knob to the solver.
"""

from __future__ import annotations

from typing import Annotated

from sc_jax.exits.scores import SCORES
from sc_jax.exits.solve.threshold_search import SEARCHES
from sc_jax.spec import Knob

ScoreName = Annotated[str, Knob("confidence score, of --list=scores", choices=SCORES)]
Calibrated = Annotated[bool, Knob("divide logits by a temperature fitted to each exit")]

Budget = Annotated[
    float | None,
    Knob("mean cost: up to 1 a share of the whole network's, else MACs", above=0),
]
Accuracy = Annotated[float | None, Knob("to reach on the trace, at the lowest cost")]
Recall = Annotated[
    float | None,
    Knob("of every class, at the lowest cost", at_least=0, at_most=1),
]
Lost = Annotated[
    float | None,
    Knob("of the whole network's accuracy, at the lowest cost; 0.01 without a target"),
]
Shares = Annotated[
    tuple[float, ...] | None,
    Knob("that leave at each exit, the last too; sum 1", at_least=0, at_most=1),
]

Search = Annotated[str, Knob("of candidate thresholds", choices=SEARCHES)]
Points = Annotated[int, Knob("candidates of the search", at_least=2)]
Seed = Annotated[int, Knob("of random halves and first weights", at_least=0)]
