"""Labelled images: where they come from (sources) and how batches are made."""

from sc_jax.lazy import facade

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "dataset": ["Dataset", "LazyImages"],
        "pipeline": ["Batches", "Data", "batches", "evaluation_batches"],
        "sources": ["SOURCES", "SPLITS", "load"],
    },
)
