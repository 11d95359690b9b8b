"""What every exit answered over a split, recorded once, and what it costs."""

from sc_jax.lazy import facade

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "record": ["Recorded", "exit_costs"],
        "trace": ["Trace"],
    },
)
