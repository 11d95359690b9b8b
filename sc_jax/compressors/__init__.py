"""Compressors: what sits at a split while training. One a file, one row here."""

from sc_jax.compressors.affine import Affine
from sc_jax.compressors.compressor import Compressor
from sc_jax.compressors.factorized_prior import FactorizedPrior
from sc_jax.compressors.image import Image
from sc_jax.compressors.raw import Raw

__all__ = ["Affine", "Compressor", "FactorizedPrior", "Image", "Raw"]
