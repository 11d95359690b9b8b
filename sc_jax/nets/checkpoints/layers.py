"""Names that backbones' checkpoint maps share."""

from collections.abc import Iterator


def conv_norm(ours: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    """Our path and the file's prefix of a convolution, then of its batch norm."""
    prefix = ours + "/" if ours else ""
    yield f"{prefix}Conv_0", conv
    yield f"{prefix}BatchNorm_0", norm
