"""Labelled images: where they come from (sources) and how batches are made."""

from typing import TYPE_CHECKING

from sc_jax.lazy import facade

if TYPE_CHECKING:
    from sc_jax.data.dataset import Dataset as Dataset
    from sc_jax.data.dataset import LazyImages as LazyImages
    from sc_jax.data.pipeline import Batches as Batches
    from sc_jax.data.pipeline import Data as Data
    from sc_jax.data.pipeline import batches as batches
    from sc_jax.data.pipeline import evaluation_batches as evaluation_batches
    from sc_jax.data.sources import SOURCES as SOURCES
    from sc_jax.data.sources import SPLITS as SPLITS
    from sc_jax.data.sources import load as load

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "dataset": ["Dataset", "LazyImages"],
        "pipeline": ["Batches", "Data", "batches", "evaluation_batches"],
        "sources": ["SOURCES", "SPLITS", "load"],
    },
)
