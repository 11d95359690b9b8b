"""Where arrays live: one data axis over all devices of all processes."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sc_jax.errors import UsageError
from sc_jax.places import home_cache
from sc_jax.train import pages

# Steps of smaller images take small blocks, for which one arena's threads would wait.
LARGE = 64  # pixels


def start(multihost: bool, image_size: Any = None) -> None:
    """Turns on the persistent compilation cache; multihost: joins the others.

    image_size: of what a process trains on that does nothing else; from LARGE on it
    keeps its memory (`pages`).

    JAX_COMPILATION_CACHE_DIR moves the cache (default ~/.cache/sc_jax/xla); empty
    turns it off. JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID are
    read outside of clusters that jax knows.
    """
    if isinstance(image_size, int) and image_size >= LARGE:
        # First: what jax's threads hold by then would stay apart.
        pages.keep()
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if cache is None and (root := home_cache()) is not None:
        cache = str(root / "xla")
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        # Not jax's 1 s: a start compiles many programs of less.
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if multihost:
        # None lets jax ask the cluster that it runs in.
        number = os.environ.get("JAX_NUM_PROCESSES")
        own = os.environ.get("JAX_PROCESS_ID")
        try:
            jax.distributed.initialize(
                num_processes=int(number) if number else None,
                process_id=int(own) if own else None,
            )
        except (ValueError, RuntimeError) as error:
            raise UsageError(
                f"--multihost found no other processes ({error}); outside a cluster "
                "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
            ) from None


def mesh() -> Mesh:
    """All devices along one axis "data"; Auto axes, as sort and gather need."""
    count = jax.device_count()
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,))


def replicate(tree: Any, on: Mesh) -> Any:
    """The same value on every device; host values must agree between processes."""
    sharding = NamedSharding(on, PartitionSpec())

    def put(leaf):
        # Nothing is copied that lies there already: restored arrays do.
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        # device_put would need every device to be of this process.
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(put, tree)


def gathered(value: Any) -> np.ndarray:
    """[processes, ...]: an array of every process, which all call this together."""
    if jax.process_count() == 1:
        return np.asarray(value)[None]
    return multihost_utils.process_allgather(np.asarray(value))


def together(where: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def local(tree: Any) -> Any:
    """Replicated values on this process's first device, for it to use alone."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def copied(tree: Any) -> Any:
    """The same values in buffers of their own: a step may donate those of `tree`."""
    if jax.process_count() > 1:
        return jax.tree.map(jnp.copy, tree)
    return jax.device_put(tree, may_alias=False)  # compiles nothing


def shard(batch: Any, on: Mesh) -> Any:
    """This process's part of a batch -> global arrays split along the leading axis."""
    sharding = NamedSharding(on, PartitionSpec("data"))
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch
    )
