"""What the devices of a DDNN send (Teerapittayanon et al. 2017)."""

from __future__ import annotations

from sc_jax.errors import UsageError


def device_bytes(
    classes: int, filters: int, map_bits: int, local_share: float
) -> float:
    """Mean bytes that one device sends for one input: 4 |C| + (1 - l) f o / 8.

    It always sends a float32 class vector to the local exit, and the share 1 - l that
    does not leave there its `filters` binary maps of `map_bits` (places) each.
    """
    if not 0 <= local_share <= 1:
        raise UsageError(f"local_share is in 0..1, not {local_share}")
    if min(classes, filters, map_bits) < 0:
        counts = f"{classes}, {filters}, {map_bits}"
        raise UsageError(f"classes, filters and map_bits are 0 or more, not {counts}")
    return 4 * classes + (1 - local_share) * filters * map_bits / 8
