"""Sections of the results page on the edge server: bad clients, lost servers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results_page import page

BAR = 1_000_000  # requests of each kind


def bad_clients(paths: Sequence[str]) -> list[str]:
    """benchmarks.serving.hostile: memory and good clients, kind by kind.

    paths: of reports of one machine, each with a server of its own.
    """
    reports = [json.loads(Path(path).read_text()) for path in paths]
    columns = ["kind", "requests", "a second", "memory MiB", "against warm-up"]
    columns += ["good requests", "answered right", "p50 ms", "p99 ms", "p99 ratio"]
    columns += ["what became of them", "load"]
    rows = [row for report in reports for row in report["rows"]]
    whole = {row["kind"] for row in rows if row["requests"] >= BAR}
    fewer = dict.fromkeys(row["kind"] for row in rows if row["kind"] not in whole)
    short = f" Fewer than {BAR:,}: {', '.join(fewer)}." if fewer else ""
    first = reports[0]
    warm = (f"{r['memory_after_warm_up_bytes'] / 2**20:.0f}" for r in reports)
    refused = "; ".join(_counts(report["rejects"]) for report in reports)
    facts = (
        f"{page.where(first)}. A launch.serve of an untrained Entropic Student a "
        f"command; {first['good_clients']} good clients that ask 10 ms after each "
        "answer, alone and attacked in turns; bad ones in a process of their own, "
        "waiting for answers. Server, good and bad clients and other programs shared "
        "the cores: the last column is the load average. Seeds "
        f"{first['seed'] + 1} and on; {first['warm_up']} of each kind before, as the "
        f"warm-up.{short} Memory is the server's resident set, "
        f"{' and '.join(warm)} MiB after the warm-up. "
        "left: given up by the client; lost: the connection; silent: no word in 0.3 s. "
        f"Refused by the servers' own counts: {refused}."
    )
    commands = "\n    ".join(report["command"] for report in reports)
    body = page.rows(columns, map(_bad, rows))
    return page.section("Edge server among bad clients", facts, commands, body)


def _bad(row: Mapping[str, Any]) -> list[str]:
    before, during = row["before"], row["during"]
    counts = during["counts"]
    milliseconds = (
        f"{1e3 * before[q]:.1f} -> {1e3 * during[q]:.1f}" for q in ("p50_s", "p99_s")
    )
    total = sum(counts.values())
    return [
        row["kind"],
        f"{row['requests']:,}",
        f"{row['requests'] / row['seconds']:.0f}",
        f"{row['memory_bytes'] / 2**20:.0f}",
        f"{100 * row['memory_growth']:+.1f} %",
        f"{total:,}",
        f"{100 * counts.get('right', 0) / total:.2f} %",
        *milliseconds,
        f"{row['p99_ratio']:.1f}",
        _counts(row["outcomes"]),
        f"{row['load_average']:.0f}",
    ]


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered)


def restarts(path: str) -> list[str]:
    """benchmarks.serving.restarts: two servers killed and drained under load."""
    report = json.loads(Path(path).read_text())
    outcomes = report["outcomes"]
    columns = ["clients", "minutes", "rounds", "requests", "right", "lost or wrong"]
    columns += ["p50 ms", "p99 ms", "longest s"]
    total, right = sum(outcomes.values()), outcomes.get("right", 0)
    cells = [
        report["clients"],
        f"{report['seconds'] / 60:.1f}",
        report["rounds"],
        f"{total:,}",
        f"{right:,}",
        f"{total - right:,}",
        f"{1e3 * report['p50_s']:.0f}",
        f"{1e3 * report['p99_s']:.0f}",
        f"{report['longest_s']:.1f}",
    ]
    facts = (
        f"{page.where(report)}. Two servers of one tail file; a round ends one by "
        "SIGKILL, starts it anew, drains the other while the first compiles, and "
        "starts that too: for seconds no server serves, and the clients wait for one. "
        f"Other programs shared the cores: load {report['load_average'][0]:.0f}."
    )
    body = page.rows(columns, [cells])
    title = "Edge servers killed and drained under load"
    return page.section(title, facts, report["command"], body)


def lost_server(path: str) -> list[str]:
    """benchmarks.serving.lost_server: a device, and its server killed."""
    report = json.loads(Path(path).read_text())
    phases = report["phases"]
    used_again = [each for each in phases.values() if not isinstance(each, dict)]
    columns = ["phase", "seconds", "images", "mean ms", "median ms", "longest ms"]
    columns += ["answered by", "bytes sent"]
    cells = [
        [
            name,
            f"{each['seconds']:.1f}",
            f"{each['images']:,}",
            f"{each['mean_ms']:.2f}",
            f"{each['median_ms']:.2f}",
            f"{each['longest_ms']:.0f}",
            _counts(each["exits"]),
            f"{each['sent_bytes']:,}",
        ]
        for name, each in phases.items()
        if isinstance(each, dict)
    ]
    facts = (
        f"{page.where(report)}. An untrained net with an exit on the device, images of "
        "28 x 28 one after another, a launch.serve on the same machine that is killed "
        "by SIGKILL. A frame handed over before gRPC sees the connection end counts as "
        "sent. A new server on the port answered the device "
        f"{used_again[0]:.1f} s after it served, with the breaker "
        f"{used_again[1]:.1f} s after. Other programs shared the cores: load average "
        f"{report['load_average'][0]:.0f}."
    )
    title = "A device whose server is killed"
    return page.section(title, facts, report["command"], page.rows(columns, cells))
