"""launch.train with one classical codec: what is tested is who writes what."""

import runpy
import sys

from sc_jax.data import sources
from sc_jax.runs import baselines

baselines.CLASSICAL = (("PNG", (None,)),)
full = sources.load


def load(name, split, **options):
    dataset = full(name, split, **options)
    return dataset.take(range(40)) if split == "test" else dataset


sources.load = load
sys.argv[0] = "launch.train"
runpy.run_module("launch.train", run_name="__main__")
