"""Quality against real bytes and work, and the reports of it; itself callable."""

from sc_jax.lazy import callable_package, facade

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "bd_rate": ["against_best"],
        "rate": ["Measured", "measure"],
        "reports.report": ["Row", "table"],
    },
)
callable_package(__name__, "sc_jax.api", "evaluate")
