"""The report of a net with exits: exit_report.json, exit_report.md and exits.png."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sc_jax import foreign
from sc_jax.errors import UsageError
from sc_jax.evaluate.budgets import QUARTERS, BudgetReport, Evaluated, points
from sc_jax.evaluate.reports import exit_plots
from sc_jax.evaluate.reports.report import (
    AGAIN,
    NONE,
    aligned,
    draft,
    fact,
    human,
    markdown_line,
    plain,
)
from sc_jax.exits.policies import to_json


def write(found: BudgetReport, workdir: str | Path, *, title: str, facts: dict) -> None:
    """Writes the three files, each in one step; facts as for `report.write`."""
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "facts": facts, **document(found)}
    text = foreign.sealed(content, indent=2, allow_nan=False, default=plain)
    page = _markdown(found, title, facts)
    with draft(workdir / "exit_report.json") as path:
        path.write_bytes(text)
    with draft(workdir / "exit_report.md") as path:
        path.write_text(page, "utf-8")
    with draft(workdir / "exits.png") as path:
        exit_plots.draw(found, path, title)


class Row(NamedTuple):
    """One policy of one run, as its report has it; costs and bytes are means."""

    run: str  # the folder
    method: str
    policy: str  # an exit that answers for all, or a share of the whole cost
    split: str
    quality: float
    macs: float
    cost_share: float  # of the whole network's
    sent_bytes: float | None  # None where nothing is ever sent

    @property
    def cells(self) -> list[str]:
        sent = NONE if self.sent_bytes is None else f"{self.sent_bytes:,.1f}"
        quality, share = f"{100 * self.quality:.2f}", f"{100 * self.cost_share:.1f}"
        return [*self[:4], quality, human(self.macs), share, sent]


def read(workdir: str | Path) -> dict[str, list[Row]]:
    """What `write` left in a directory: the rows of anytime, budgeted and quarters."""
    path = Path(workdir) / "exit_report.json"
    if not path.is_file():
        raise UsageError(f"no report in {str(workdir)!r}: {path.name} is missing")
    with foreign.reading(path, "report", AGAIN):
        found = foreign.read_json(path, "report", AGAIN)
        # Titles are METHOD on DATA.
        method = found["title"].removesuffix(f" on {found['facts'].get('data')}")
        curves = {name: found[name] for name in ("anytime", "budgeted")}
        curves["quarters"] = [entry for entry in found["quarters"].values() if entry]
        return {
            name: [_row(str(workdir), method, entry) for entry in entries]
            for name, entries in curves.items()
        }


def _row(run: str, method: str, entry: Mapping[str, Any]) -> Row:
    names = ("name", "split", "accuracy", "mean_cost_macs", "cost_share", "sent_bytes")
    return Row(run, method, *(entry[name] for name in names))


def comparison(rows: Sequence[Row]) -> str:
    """Rows of several runs as aligned plain text."""
    titles = ["run", "method", "policy", "split", "accuracy %", "MACs", "cost %"]
    return aligned([[*titles, "bytes"], *(row.cells for row in rows)])


def table(points: Sequence[Evaluated], exits: Sequence[str]) -> str:
    """Policies as aligned plain text; every line names both splits."""
    return aligned(
        [
            _headings(exits, points[0]),
            *(_cells(point) for point in points),
        ]
    )


def rows(found: BudgetReport) -> list[Evaluated]:
    """What the table of a report shows."""
    quarters = [point for point in found.quarters if point is not None]
    solved = [
        found.lowest_cost,
        found.risk_controlled,
        *([found.method_policy] if found.method_policy else []),
    ]
    return [*found.anytime, *quarters, *solved]


def document(found: BudgetReport) -> dict[str, Any]:
    """The report as JSON; every number stands beside the name of its split."""
    gap = found.anytime[-1].outcome.accuracy - found.risk_controlled.outcome.accuracy
    return {
        "exits": found.exits,
        "cost_macs": found.cost,
        "head_share": [h / c for h, c in zip(found.head_cost, found.cost)],
        "without_exits_share": found.without_exits,
        "score": found.score,
        "anytime": [entry(point) for point in found.anytime],
        "budgeted": [entry(point) for point in found.curve],
        "oracle": [
            {"split": found.split, "budget_share": point.budget, "accuracy": accuracy}
            for point, accuracy in zip(found.curve, found.oracle)
        ],
        "quarters": {
            f"{100 * q:.0f} %": point and entry(point)
            for q, point in zip(QUARTERS, found.quarters)
        },
        "histogram": entry(found.chosen),
        "cheapest": {"lost": found.lost, **entry(found.lowest_cost)},
        "risk": {
            "epsilon": found.epsilon,
            "delta": found.delta,
            "lost": gap,
            **entry(found.risk_controlled),
        },
        "own": found.method_policy and entry(found.method_policy),
        "problem": found.problem,
        "executed_share": found.executed,
    }


def entry(point: Evaluated) -> dict[str, Any]:
    """One policy as JSON."""
    solved, out = point.solved, point.outcome
    fields: dict[str, Any] = {"name": point.name, "budget_share": point.budget}
    if solved is not None:
        fields["solved_on"] = {
            "split": solved.split,
            "examples": solved.expected.examples,
            "accuracy": solved.expected.accuracy,
            "cost_share": solved.expected.cost_share,
        }
        fields["policy"] = json.loads(to_json(solved.policy))
    return fields | {
        "split": out.split,
        "examples": out.examples,
        "accuracy": out.accuracy,
        "mean_cost_macs": out.mean_cost,
        "cost_share": out.cost_share,
        "exit_shares": out.exit_shares,
        "sent_bytes": point.sent_bytes,
        "forwarded_bytes": point.forwarded_bytes,
        "tier_shares": point.tiers,
    }


def _headings(exits: Sequence[str], point: Evaluated) -> list[str]:
    metric = point.outcome.metric
    titles = ["policy", "solved on", "evaluated on", f"{metric} %", "MACs", "cost %"]
    onward = [] if point.forwarded_bytes is None else ["to cloud"]
    return [*titles, "bytes", *onward, *(f"{name} %" for name in exits)]


def _cells(point: Evaluated) -> list[str]:
    out = point.outcome
    return [
        point.name,
        point.solved_on or NONE,
        out.split,
        f"{100 * out.accuracy:.2f}",
        human(out.mean_cost),
        f"{100 * out.cost_share:.1f}",
        NONE if point.sent_bytes is None else f"{point.sent_bytes:,.1f}",
        *([] if (onward := point.forwarded_bytes) is None else [f"{onward:,.1f}"]),
        *(f"{100 * share:.1f}" for share in out.exit_shares),
    ]


_HOW_TO_READ = """\
Thresholds are solved on the split that *solved on* names and evaluated on the one that
*evaluated on* names: where the two differ, nothing was fitted on what is evaluated.
*MACs* are an example's multiply-accumulates on average, exit classifiers on the way
included; *cost* is their share
of the whole network's with its exits, {whole} (without early exits: {without:.1f} %).
*Bytes* are the mean payload, 0 for who leaves before the split; {none} where nothing is
ever sent; *to cloud* are those of the second split. The columns named by exits say how
many of the answers came from there."""


def _markdown(found: BudgetReport, title: str, facts: dict) -> str:
    header = _headings(found.exits, found.anytime[-1])
    rules = ["---", "---", "---", *["---:"] * (len(header) - 3)]
    how = _HOW_TO_READ.format(
        whole=human(found.cost[-1]), without=100 * found.without_exits, none=NONE
    )
    lines = [markdown_line(cells) for cells in (header, rules)]
    parts = [
        f"# {title}",
        how,
        "\n".join([*lines, *(markdown_line(_cells(p)) for p in rows(found))]),
        "\n".join(f"- {sentence}" for sentence in sentences(found)),
        f"![{found.metric} against cost, and who leaves where](exits.png)",
        f"## Budgets ({found.split})",
        "\n".join([*lines, *(markdown_line(_cells(p)) for p in found.curve)]),
        "## Facts",
        "\n".join(f"- {name}: {fact(value)}" for name, value in facts.items()),
    ]
    return "\n\n".join(parts) + "\n"


def sentences(found: BudgetReport) -> list[str]:
    """What the numbers say, for and against the exits."""
    whole, controlled = found.anytime[-1].outcome, found.risk_controlled.outcome
    lowest = found.lowest_cost.outcome
    shares = ", ".join(
        f"{name} {100 * h / c:.1f} %"
        for name, h, c in zip(found.exits, found.head_cost, found.cost)
    )
    lost, gap = whole.accuracy - lowest.accuracy, whole.accuracy - controlled.accuracy
    # A gap of exactly epsilon must not fail by the last bit.
    kept = "holds" if gap <= found.epsilon + 1e-9 else "does not hold"
    said = [
        f"Exit classifiers' share of the cost of an answer: {shares}.",
        f"The thresholds of lowest cost that lose at most {points(found.lost)} on "
        f"{found.lowest_cost.solved_on} lose {points(lost)} on {found.split}, at "
        f"{100 * lowest.cost_share:.1f} % of the cost.",
        f"At most {points(found.epsilon)} worse than the whole network with "
        f"probability {1 - found.delta:g}: {points(gap)} worse on {found.split} "
        f"({kept} there), at {100 * controlled.cost_share:.1f} % of the cost.",
    ]
    if lowest.cost_share >= found.without_exits:
        said.append(
            "The exits cost more than they save: the network without them takes "
            f"{100 * found.without_exits:.1f} %."
        )
    if found.executed is not None:
        said.append(
            f"Gates let {100 * found.executed:.1f} % of the gated blocks run; the "
            "costs count them all, as a batch computes them."
        )
    chosen = found.method_policy or found.lowest_cost
    if found.chosen.forwarded_bytes is not None:
        shares = ", ".join(f"{n} {100 * s:.1f} %" for n, s in chosen.tiers.items())
        said.append(
            f"{chosen.name}: answers of {shares}; {chosen.sent_bytes:,.1f} bytes from "
            f"device to edge, {chosen.forwarded_bytes:,.1f} from edge to cloud."
        )
    if found.problem:
        said.append(f"The method's own policy is left out: {found.problem}")
    return said
