"""The section of benchmarks.methods.peer_student: ours beside the public code."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.results_page import page

COLUMNS = ("by", "setting", "top-1 %", "bytes mean", "p95", "est. bits / 8")


def student(file: Path, teacher: Path | None = None) -> list[str]:
    """Top-1 and real bytes of both on one teacher, data and steps, and the BD-rates.

    teacher: the JSON of benchmarks.methods.peer_teacher, for how it was trained.
    """
    report = json.loads(file.read_text())
    lines = []
    for row in sorted(report["rows"], key=lambda row: (row["by"], -row["bytes"])):
        sizes = row["bytes"], row["bytes_p95"], row["estimated_bits"] / 8
        figures = (f"{100 * row['top1']:.2f}", *(f"{n:,.1f}" for n in sizes))
        lines.append((row["by"], row["setting"], *figures))
    facts = [f"{page.where(report)}; {report['rows'][0]['examples']:,} test images."]
    taught = {each["teacher_top1"] for each in report["peer"].values()}
    facts += [f"The teacher has {100 * top1:.2f} %." for top1 in sorted(taught)]
    if teacher:
        facts.append(taught_by(json.loads(teacher.read_text())))
    for name, (first, second) in report["steps"].items():
        facts.append(
            f"Steps of sc2bench, {name}: {first:,} and {second:,}, as ours; "
            + speed(report, name)
        )
    found = ", ".join(f"{k} {v}" for k, v in versions(report).items())
    facts.append(f"The peer: {found}.")
    rates = []
    for entry in report["bd_rates"]:
        share = f"over {entry['overlap']:.0%} of our qualities"
        rate = entry["reason"] or f"{entry['percent']:+.1f} %, {share}"
        rates.append(f"- BD-rate of ours against {entry['against']}: {rate}")
    body = [*page.rows(COLUMNS, lines), "", *rates]
    title = "Entropic Student beside the field's public code, CIFAR-10"
    return page.section(title, " ".join(facts), report["command"], body)


def taught_by(found: dict) -> str:
    """One sentence on the teacher's training."""
    settings, seconds = found["settings"], found["seconds"]
    backbone = found["recipe"].partition("backbone=")[2].partition(",")[0]
    return (
        f"It is a {backbone} of benchmarks.methods.peer_teacher: {settings['epochs']} "
        f"epochs of one cycle up to {settings['learning_rate']:g}, "
        f"{found['images']:,} images seen in {seconds / 3600:.2f} h on "
        f"{settings['threads']} threads, seed {settings['seed']}."
    )


def speed(report: dict, name: str) -> str:
    """Training images a second of the peer, by stage."""
    rows = [row for row in report["rows"] if row["by"].endswith(name)]
    texts = []
    for stage in rows[0]["images_per_s"]:
        cpu = [row["images_per_s"][stage]["cpu"] for row in rows]
        texts.append(f"{stage} {min(cpu):.0f} to {max(cpu):.0f}")
    return f"images a CPU second: {', '.join(texts)}."


def versions(report: dict) -> dict:
    return next(iter(report["peer"].values()))["versions"]
