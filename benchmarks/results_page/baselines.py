"""Section of docs/results.md about heads beside local computing, files and the peer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.methods import latency_picture
from benchmarks.methods.deployments import PEER, SERVER
from benchmarks.results_page import page


def head_vs_baselines(path: str, out: Path) -> list[str]:
    """methods.head_vs_baselines: times, bytes and latency of every deployment.

    Draws the run too, under `out`.
    """
    report = json.loads(Path(path).read_text())
    versions = ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    facts = (
        f"{page.where(report)}, {versions}; {report['threads']} thread, medians of "
        f"{report['rounds']} rounds in which every deployment had one turn. A matched "
        f"file may be {report['points_below']:g} points below the first head."
    )
    body, titles = [], []
    for group in dict.fromkeys(row["group"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["group"] == group]
        trained = rows[0]["top1"] is not None
        body += _trained(group, rows) if trained else _untrained(group, rows)
        body += [*_peer(report, rows), ""]
        titles += [] if trained else [f", {group}"]
    kind = page.machine_kind(report)
    picture = f"baselines_{Path(path).stem}{kind.replace(', ', '_')}.png"
    latency_picture.draw(report, str(out / picture))
    body += [_links(report), "", f"![latency against link rate]({picture})"]
    title = "Head and coder beside local computing and image files"
    title += "".join(titles) + kind
    return page.section(title, facts, report["command"], body)


def _trained(group: str, rows: list[dict[str, Any]]) -> list[str]:
    links = list(rows[0]["latency_s"])
    lines = [
        f"**{group}.** Latency from image to answer, ms. Files are the smallest of "
        "their format at which the teacher is as accurate as the first head; server: "
        "decoding and the jitted rest of the net, batch 1, on the same core.",
        "",
    ]
    columns = ["deployment", "dtype", "top-1 %", "framed bytes", "device ms"]
    columns += ["server ms", *links]
    table = []
    for row in rows:
        server = row["seconds"].get(SERVER)
        cells = [
            row["deployment"],
            row["dtype"],
            f"{100 * row['top1']:.2f}",
            f"{row['framed_bytes']:.1f}" if row["framed_bytes"] else "",
            f"{1e3 * row['device_s']:.3f}",
            "" if server is None else f"{1e3 * server:.2f}",
            *(f"{1e3 * s:,.1f}" for s in row["latency_s"].values()),
        ]
        table.append(cells)
    return lines + page.rows(columns, table)


def _untrained(group: str, rows: list[dict[str, Any]]) -> list[str]:
    links = list(rows[0]["break_even_bytes"])
    lines = [
        f"**{group}.** Image to bytes (local: to logits); the last columns are the "
        "bytes that a head must save against JPEG q=75 to be as early on that link. "
        "Files as Pillow writes crops of one photograph.",
        "",
    ]
    columns = ["deployment", "dtype", "net ms", "coder ms", "device ms"]
    columns += ["peer's over it", "file B", *links]
    table = []
    for row in rows:
        steps = row["seconds"]
        parts = steps.get("head", steps.get("whole")), steps.get("code")
        needed = row.get("break_even_bytes", dict.fromkeys(links))
        cells = [
            row["deployment"],
            row["dtype"],
            *("" if s is None else f"{1e3 * s:.2f}" for s in parts),
            f"{1e3 * row['device_s']:.2f}",
            f"{row['peer_ratio']:.2f}" if "peer_ratio" in row else "",
            f"{row['framed_bytes']:,.0f}" if row["framed_bytes"] else "",
            *("" if b is None else f"{b:,.0f}" for b in needed.values()),
        ]
        table.append(cells)
    return lines + page.rows(columns, table)


def _peer(report: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    if not any(row["deployment"] == PEER for row in rows):
        return []
    peer = report["peer"]
    versions = ", ".join(f"{k} {v}" for k, v in peer["versions"].items())
    return [
        "",
        f"The peer is the published encoder in plain PyTorch with CompressAI's coder "
        f"({versions}), float32, one thread, turn about in its own process on the same "
        f"images and weights: {100 * peer['different']:.2f} % of its symbols differ "
        "from ours. It starts from normalised floats, our heads from uint8.",
    ]


def _links(report: dict[str, Any]) -> str:
    links = [
        f"{name} {link['up_bits_per_s'] / 1e6:g} Mbit/s, {1e3 * link['rtt_s']:g} ms"
        for name, link in report["links"].items()
    ]
    assumed = ", ".join(report["assumed_rtt"])
    return (
        f"Links (uplink, round trip): {'; '.join(links)}. Round trips of {assumed} are "
        "assumptions; sources in `sc_jax/plan/link.py`. The device is "
        "one core of the machine that measured: a slower device pays its column more "
        "often, the link and the server stay."
    )
