"""Compressors: what sits at a split while training. One a file, one row here."""

from dataclasses import dataclass

from sc_jax import spec
from sc_jax.compressors.affine import Affine
from sc_jax.compressors.channels import AWGN, Erasure, OverChannel, Rayleigh
from sc_jax.compressors.clipped import Clipped
from sc_jax.compressors.compressor import Compressor
from sc_jax.compressors.csr import CSR
from sc_jax.compressors.factorized_prior import FactorizedPrior
from sc_jax.compressors.image import Image
from sc_jax.compressors.laplace_prior import LaplacePrior
from sc_jax.compressors.raw import Raw
from sc_jax.compressors.slicer import Slicer
from sc_jax.compressors.tiled import Tiled
from sc_jax.compressors.top_k import TopK
from sc_jax.compressors.variable_rate import VariableRatePrior
from sc_jax.errors import unknown

__all__ = [
    "AWGN",
    "COMPRESSORS",
    "CSR",
    "Affine",
    "Clipped",
    "Compressor",
    "Erasure",
    "FactorizedPrior",
    "Image",
    "LaplacePrior",
    "OverChannel",
    "Raw",
    "Rayleigh",
    "Row",
    "Slicer",
    "Tiled",
    "TopK",
    "VariableRatePrior",
    "knobs_of",
    "named",
]


@dataclass(frozen=True)
class Row:
    """A compressor and what its tests run on: settings of it, and latents.

    shape, dtype: of one example's latent. bytes_share: how far bytes may lie from the
    estimate, beside 8 bytes.
    """

    compressor: type[Compressor]
    samples: tuple[Compressor, ...]
    shape: tuple[int, ...] = (20, 20, 4)
    dtype: str = "float32"
    bytes_share: float = 0.005


COMPRESSORS: dict[str, Row] = {
    "raw": Row(Raw, (Raw(), Raw("float16"))),
    "affine": Row(Affine, tuple(Affine(bits) for bits in (1, 2, 8, 16))),
    "image": Row(
        Image,
        (Image("PNG"), Image("JPEG", 30), Image("WEBP"), Image("WEBP", 60, side=12)),
        shape=(24, 20, 3),
        dtype="uint8",
    ),
    "factorized": Row(FactorizedPrior, (FactorizedPrior(),)),
    # The published tables give every tail symbol a count: 2 % where rows are long.
    "factorized_compat": Row(
        FactorizedPrior, (FactorizedPrior(compat=True),), bytes_share=0.02
    ),
    "laplace": Row(LaplacePrior, (LaplacePrior(),)),
    # At its coarsest: training, which draws all levels, costs no less.
    "variable_rate": Row(VariableRatePrior, (VariableRatePrior(level=0),)),
    "over_channel": Row(
        OverChannel,
        (
            OverChannel(),
            OverChannel(Raw("float16"), AWGN(10.0)),
            OverChannel(Raw(), Rayleigh(10.0)),
            OverChannel(Clipped(), Erasure(0.5, 16)),
        ),
    ),
    "clipped": Row(Clipped, (Clipped(), Clipped(2), Clipped(8, 0.05))),
    "tiled": Row(
        Tiled, (Tiled(), Tiled(3, "WEBP"), Tiled(8, "JPEG", 60), Tiled(8, "WEBP", 60))
    ),
    "slicer": Row(
        Slicer, (Slicer(), Slicer(0.05, 2.0, 1, 4, 0.0), Slicer(1.0, 0.5, 16, 8, 3.5))
    ),
    "csr": Row(CSR, (CSR(), CSR(1), CSR(8))),
    "top_k": Row(TopK, (TopK(), TopK(0.01, 4), TopK(1.0, 16))),
}


def knobs_of(name: str) -> dict[str, spec.Parameter]:
    """The knobs of a compressor's class, but for those that are other parts."""
    known = spec.knobs_of(COMPRESSORS[name].compressor)
    own = {k: each for k, each in known.items() if k not in ("parent", "name")}
    plain = (int, float, str, bool, tuple, type(None))
    return {k: each for k, each in own.items() if isinstance(each.default, plain)}


def named(text: str) -> Compressor:
    """The compressor "NAME:knob=value+knob=value"; UsageError in one line.

    With + between knobs, since it stands inside a recipe's own, which commas divide.
    """
    name, knobs = spec.parse(text.replace("+", ","), "compressor")
    if name not in COMPRESSORS:
        raise unknown("compressor", name, COMPRESSORS)
    spec.check(f"compressor {name}", knobs_of(name), knobs)
    return COMPRESSORS[name].compressor(**knobs)
