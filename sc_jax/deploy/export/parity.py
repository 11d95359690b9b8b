"""A segment's outputs beside JAX's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax

from sc_jax.codec.codec import Codec, real_difference
from sc_jax.deploy.device.runtime import FEATURE, Runner


@dataclass(frozen=True)
class Parity:
    """How a segment's outputs differ from JAX's over some real examples."""

    examples: int
    symbols: int  # numbers compared: symbols, and values of exits and features
    different: int  # other symbols, or values beyond CLOSE of their tensor's size
    ties: int  # of the different, symbols with |frac - 1/2| < CLOSE in JAX
    largest: float  # difference of a symbol, or of a value beyond CLOSE


def compare(
    model: bytes,
    pairs: Iterable[tuple[Mapping, Mapping]],
    codec: Codec | None,
) -> Parity:
    """Runs a segment on inputs by name; each pair has JAX's outputs beside them.

    With a codec JAX's "feature" is the latent, of which the segment gives symbols.
    """
    runner = Runner(model)
    count, total, different, tied, largest = 0, 0, 0, 0, 0.0
    for inputs, exact in pairs:
        exact = jax.device_get(dict(exact))
        outputs = runner(inputs)
        # What the codec packs is compared by the codec itself, an example at a time.
        latents = exact.pop(FEATURE) if codec is not None else ()
        found = [
            real_difference(outputs.pop(name), value) for name, value in exact.items()
        ]
        if codec is not None:
            for i, z in enumerate(latents):
                row = {name: value[i] for name, value in outputs.items()}
                found.append(codec.difference(z, row))
        for distance, tie in found:
            total += distance.size
            different += int((distance > 0).sum())
            tied += int(((distance > 0) & tie).sum())
            largest = max(largest, float(distance.max(initial=0)))
        count += len(next(iter(inputs.values())))
    return Parity(count, total, different, tied, largest)
