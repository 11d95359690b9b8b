"""Sections of docs/results.md on executors of early exits."""

from __future__ import annotations

import json
from pathlib import Path


def section(file: str) -> list[str]:
    """The page's section of one exit_speed.json."""
    made = json.loads(Path(file).read_text())
    lines = [
        f"## Executors of early exits, {made['net']} at {made['side']} px, "
        f"{made['machine'].rpartition(', ')[2]}, load {made['load'][0]:.1f}",
        "",
        f"{made['date']}; {made['machine']}; {made['device']}; load "
        f"{made['load'][0]:.1f} to {made['load'][1]:.1f}; untrained weights, "
        f"thresholds solved on the timed batch for shares {made['shares']}.",
        "",
        f"    {made['command']}",
        "",
        "Speed-up over the network without exits, in turns within one run; ideal is "
        "the ratio of MACs with heads. Could is each segment's own time at the full "
        "batch times who gets there: a share over 100 % comes from late segments that "
        "are slow for their MACs, not from the executor.",
        "",
        "| batch | executor | ms (median) | speed-up | ideal | of the ideal, "
        "wall-clock | of the ideal, CPU | bar |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in (row for part in made["batches"] for row in part["rows"]):
        bar = made["bars"].get(row["executor"])
        lines.append(
            f"| {row['batch']} | {row['executor']} | {row['wall_ms']['median']:.1f} | "
            f"{row['speed_up']:.2f} | {row['ideal']:.2f} | {row['of_ideal']:.0%} | "
            f"{row['of_ideal_cpu']:.0%} | {f'{bar:.0%}' if bar else ''} |"
        )
    for part in made["batches"]:
        could = part["could"]
        lines.append(f"| {part['batch']} | could | | {could['wall']:.2f} | | | | |")
    return [*lines, ""]
