"""A finished run measured again: on other data, or under another exit policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sc_jax import writing
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import exit_report
from sc_jax.runs import exit_runs, rate_runs, run_folder, zoo


def measure(
    workdir: Path,
    *,
    data: str | None = None,
    split: str = "test",
    out: Path | None = None,
    baselines: bool = True,
    agreement: bool = False,
    command: str = "",
) -> None:
    """Writes the reports of a split of `data`, by default the run's own, to `out`.

    Weights and codec tables are read as they were saved. out: by default the run's own
    folder, whose reports are then written again; another data set needs another.
    agreement: quality is the share of answers that are the teacher's, in place of the
    labels', and the report needs another folder too.
    """
    if (data or agreement) and out is None:
        flag = "--data" if data else "--agreement"
        raise UsageError(f"with {flag} also give --out, so that no report is lost")
    recipe = run_folder.recipe_of(workdir)
    writing.check(out or workdir)
    examples = run_folder.dataset_of(recipe, split, data)
    # Before the net runs: class 3 of other data would count as this one's.
    if not agreement:  # which no label enters
        run_folder.check_same_classes(recipe, examples, workdir)
    out = out or workdir
    if agreement:
        if exit_runs.leaves_early(recipe.net):
            raise UsageError("--agreement is for runs without exits")
        examples = replace(examples, labelled=False)
    if exit_runs.leaves_early(recipe.net):
        exit_runs.conclude_again(recipe, workdir, out, examples, command)
        if not recipe.net.splits:
            return
    rows = rate_runs.rows(recipe, workdir, examples, baselines=baselines)
    rate_runs.conclude(rows, recipe, out, examples, command, zoo.facts_of(workdir))


def decide(
    workdir: Path,
    *,
    policy: str = "",
    budget: float | None = None,
    split: str = "test",
    out: Path | None = None,
    command: str = "",
) -> None:
    """A policy's accuracy and cost on the recorded traces; `out` keeps decision.json.

    The network does not run. policy: as text, "" is the recipe's own; budget: share of
    the whole network's cost, or MACs.
    """
    recipe = run_folder.recipe_of(workdir)
    writing.check(out)
    decided = exit_runs.decide(recipe, workdir, split, policy, budget)
    print(exit_report.table([decided.policy, decided.whole], decided.exits))
    if out is not None:
        examples = run_folder.dataset_of(recipe, split)
        facts = rate_runs.facts_of(recipe, examples, command)
        exit_runs.write_decision(decided, out, facts)
