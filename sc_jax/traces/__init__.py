"""What every exit answered over a split, recorded once, and what it costs."""

from typing import TYPE_CHECKING

from sc_jax.lazy import facade

if TYPE_CHECKING:
    from sc_jax.traces.record import Recorded as Recorded
    from sc_jax.traces.record import exit_costs as exit_costs
    from sc_jax.traces.trace import Trace as Trace

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "record": ["Recorded", "exit_costs"],
        "trace": ["Trace"],
    },
)
