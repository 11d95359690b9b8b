"""Quality against real bytes and work, and the reports of it; itself callable."""

from typing import TYPE_CHECKING

from sc_jax.lazy import callable_package, facade

if TYPE_CHECKING:
    from sc_jax.evaluate.bd_rate import against_best as against_best
    from sc_jax.evaluate.rate import Measured as Measured
    from sc_jax.evaluate.rate import measure as measure
    from sc_jax.evaluate.reports.report import Row as Row
    from sc_jax.evaluate.reports.report import table as table

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "bd_rate": ["against_best"],
        "rate": ["Measured", "measure"],
        "reports.report": ["Row", "table"],
    },
)
callable_package(__name__, "sc_jax.api", "evaluate")
