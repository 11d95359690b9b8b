"""What papers on early exits claim, against the rows of methods.early_exits."""

from __future__ import annotations

import numpy as np

QUARTERS = ("25 %", "50 %", "75 %", "100 %")
# (better, worse, at which quarters of the worse one's cost): what the papers claim.
CLAIMS = (
    ("imta", "msdnet", QUARTERS),
    ("phuong", "msdnet", ("25 %", "50 %")),
    ("boostnet", "msdnet", ("75 %", "100 %")),
    ("l2w_den", "msdnet", ("75 %", "100 %")),
    ("ranet", "msdnet", ("25 %", "50 %")),
    ("zero_time_waste", "shallow_deep:frozen=True,epochs=4.0", ("25 %", "50 %")),
)
SCORES = {
    "branchynet": "entropy",
    "ddnn": "normalised entropy",
    "pomponi": "confidence",
}
SCORES |= {"jei_dnn": "gate", "eenet": "scheduler"}


def by_recipe(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows of one recipe with the same knobs together, in the order of their seeds."""
    found: dict[str, list[dict]] = {row["spec"]: [] for row in rows}
    for row in sorted(rows, key=lambda row: row["seed"]):
        found[row["spec"]].append(row)
    return found


def at(rows: list[dict], quarter: str) -> list[float]:
    """Each seed's accuracy at a share of the whole cost; empty: not all have one."""
    found = [p for row in rows if (p := row["quarters"][quarter]) is not None]
    return [point["accuracy"] for point in found] if len(found) == len(rows) else []


def at_macs(row: dict, macs: float) -> float | None:
    """Accuracy at a mean cost, between the points of the budgeted curve."""
    curve = sorted((p["mean_cost_macs"], p["accuracy"]) for p in row["budgeted"])
    costs, accuracies = zip(*curve)
    if macs < costs[0]:
        return None
    return float(np.interp(macs, costs, accuracies))


def noise(rows: list[dict], other: list[dict]) -> float:
    """Standard error of the difference of two mean accuracies, tests unpaired.

    That of drawing examples; claims() takes the seeds' own where it is larger.
    """
    accuracies = [row["anytime"][-1]["accuracy"] for row in (*rows, *other)]
    examples = rows[0]["anytime"][-1]["examples"] * min(len(rows), len(other))
    mean = float(np.mean(accuracies))
    return (2 * mean * (1 - mean) / examples) ** 0.5


def verdict(differences: list[float], error: float) -> str:
    """What differences in accuracy say; within a standard error: nothing."""
    if min(differences) > error:
        return "holds"
    if max(differences) < -error:
        return "does not hold"
    return "within noise" if max(map(abs, differences)) <= error else "in part"


def claims(rows: list[dict]) -> list[str]:
    """The orderings that papers claim, at equal MACs, confirmed or not."""
    known, lines = by_recipe(rows), []
    for better, worse, quarters in CLAIMS:
        if better not in known or worse not in known:
            continue
        differences, error = {}, noise(known[better], known[worse])
        # Seeds are paired: runs of one seed share data order and teacher.
        theirs_by_seed = {row["seed"]: row for row in known[worse]}
        pairs = [(a, b) for a in known[better] if (b := theirs_by_seed.get(a["seed"]))]
        for quarter in quarters:
            share = float(quarter.split()[0]) / 100
            found = []
            for a, b in pairs:
                macs = share * b["cost_macs"][-1]
                mine, theirs = at_macs(a, macs), at_macs(b, macs)
                if mine is not None and theirs is not None:
                    found.append(mine - theirs)
            if found:
                differences[quarter] = float(np.mean(found))
                error = max(error, spread(found) / len(found) ** 0.5)
        lines += _line(f"{better} >= {worse}", differences, error)
    return lines


def spread(values: list[float]) -> float:
    """Standard deviation between seeds; 0 where there is only one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def score_claims(rows: list[dict]) -> list[str]:
    """Learnt scores against the largest probability, on the same recorded answers."""
    lines = []
    for name, score in SCORES.items():
        seeds = by_recipe(rows).get(name, [])
        differences = {}
        for i, quarter in enumerate(QUARTERS[:3]):
            pairs = [(r["quarters"][quarter], r["max_probability"][i]) for r in seeds]
            found = [a["accuracy"] - b["accuracy"] for a, b in pairs if a and b]
            if found:
                differences[quarter] = float(np.mean(found))
        if differences:
            title = f"{name}: its {score} >= the largest probability"
            lines += _line(title, differences, noise(seeds, seeds))
    return lines


def points(share: float) -> float:
    """Points of accuracy to two digits; never -0.00."""
    return round(100 * share, 2) + 0.0


def _line(title: str, differences: dict[str, float], error: float) -> list[str]:
    if not differences:
        return []
    each = ", ".join(f"{points(d):+.2f} at {q}" for q, d in differences.items())
    word = verdict(list(differences.values()), error)
    return [f"- {title}: {word} ({each}; standard error {100 * error:.2f})."]
