"""What each symbol of a latent costs: by channel, by place, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sc_jax.codec import rans, tables
from sc_jax.codec.context import as_grid

LITTLE = 0.01  # of the bits an even share would be: a channel that says nothing


def costs(codec: Any, symbols: np.ndarray) -> np.ndarray:
    """Bits f64[..., C] that the codec takes for an example's symbols int32[..., C]."""
    contexts = getattr(codec, "contexts", None)
    flat = symbols.reshape(-1)
    if contexts:
        context = contexts[codec.level]
        grid = symbols.reshape(as_grid(symbols.shape))
        rows = rans.context_rows(grid, context.weights, context.edges)
        return tables.costs(context.tables, flat, rows).reshape(symbols.shape)
    level = codec.coded[getattr(codec, "level", 0)]
    rows = np.resize(np.arange(level.rows, dtype=np.uint16), flat.size)
    return tables.costs(level, flat, rows).reshape(symbols.shape)


def measured(name: str, codec: Any, z: np.ndarray) -> dict[str, Any]:
    """A row of the table, and what the picture draws."""
    symbols = np.stack([codec.symbols(one) for one in z])
    bits = np.stack([costs(codec, each) for each in symbols])
    usual = np.rint(np.median(symbols, (0, 1, 2)))
    real = np.mean([len(codec.encode(one)) for one in z])
    each = bits.sum((1, 2)).mean(0)  # by channel
    ordered = np.sort(each)[::-1] / each.sum()
    place = bits.sum(3).mean(0)
    edge = np.ones(place.shape, bool)
    edge[1:-1, 1:-1] = False
    return {
        "name": name,
        "bytes": float(real),
        "bytes_by_tables": float(each.sum() / 8),
        "shape": list(z.shape[1:]),
        "bits_a_symbol": float(bits.mean()),
        "most_usual": float((symbols == usual).mean()),
        "channels_of_half": int(np.searchsorted(np.cumsum(ordered), 0.5) + 1),
        "channels_of_90": int(np.searchsorted(np.cumsum(ordered), 0.9) + 1),
        "silent_channels": int((each < LITTLE * each.mean()).sum()),
        "edge_to_middle": float(place[edge].mean() / place[~edge].mean()),
        "by_channel": (np.sort(each)[::-1]).tolist(),
        "by_place": place.tolist(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'run':40} bytes  bits/symbol  most usual %  half  90 %  silent  edge/middle"
    ]
    for row in rows:
        lines.append(
            f"{row['name'][-40:]:40} {row['bytes']:5.0f} {row['bits_a_symbol']:12.3f}"
            f" {100 * row['most_usual']:13.1f} {row['channels_of_half']:5}"
            f" {row['channels_of_90']:5} {row['silent_channels']:7}"
            f" {row['edge_to_middle']:12.2f}"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained")
    grid = figure.add_gridspec(2, 2 + (len(rows) + 1) // 2)
    shares = figure.add_subplot(grid[:, :2])
    for row in rows:
        shares.plot(np.cumsum(row["by_channel"]) / 8, label=row["name"][-30:])
    shares.set_xlabel("channels, most expensive first")
    shares.set_ylabel("bytes an image")
    shares.legend(fontsize=7)
    for at, row in enumerate(rows):
        axes = figure.add_subplot(grid[at % 2, 2 + at // 2])
        picture = axes.imshow(row["by_place"], cmap="magma", vmin=0)
        axes.set_title(f"{row['bytes']:.0f} bytes", fontsize=8)
        axes.set_axis_off()
        figure.colorbar(picture, ax=axes, shrink=0.7, label="bits a place")
    figure.savefig(file, dpi=110)
