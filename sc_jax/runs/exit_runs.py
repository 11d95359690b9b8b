"""Runs of nets with exits: traces recorded once, reported, and decided again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from sc_jax.data.sources import Dataset
from sc_jax.errors import Unread, UsageError, unknown
from sc_jax.evaluate import budgets
from sc_jax.evaluate.budgets import Evaluated
from sc_jax.evaluate.reports import exit_report
from sc_jax.evaluate.reports.report import draft, plain
from sc_jax.exits.solve import policy_spec
from sc_jax.nets.net import Net
from sc_jax.runs import rate_runs, run_folder
from sc_jax.traces import record
from sc_jax.traces.record import Recorded
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe
from sc_jax.train.serialisation import digest

SPLITS = ("validation", "test")  # what launch.train records


class Decided(NamedTuple):
    """A policy evaluated, beside the whole network's answers."""

    policy: Evaluated
    whole: Evaluated
    exits: tuple[str, ...]


def leaves_early(net: Net) -> bool:
    """Whether anybody can answer before the last exit."""
    return len(net.exit_names) > 1


def check(recipe: Recipe) -> None:
    """Before training: UsageError where no threshold could be solved afterwards.

    No examples are left for it, or the recipe's policy does not fit its net.
    """
    if not leaves_early(recipe.net):
        return
    if recipe.policy:
        example = run_folder.example_of(recipe)
        costs, classes, learned = record.outline(recipe.net, example, recipe.task)
        names = recipe.net.exit_names
        policy_spec.usable(recipe.policy, names, classes, costs, learned)
    # Now: after training there would be weights and no report.
    held = run_folder.dataset_of(recipe, "validation")
    if not held.labelled:
        raise UsageError(
            f"{held.name} has no labels, and exits are solved on labelled "
            f"images: give {recipe.name} a labelled set"
        )
    if not len(held):
        raise UsageError(
            f"{recipe.data.name} has no validation examples to solve thresholds on: a "
            "class gives a tenth of its images, none of fewer than 6"
        )


def name_of(recipe: Recipe, workdir: Path) -> str:
    """Whose traces: the recipe, its setting, seed, last step, and a hash of it all."""
    step = run_folder.finished_step(recipe, workdir)
    words = [recipe.name, recipe.setting, f"seed={recipe.seed}", f"step={step}"]
    return " ".join(filter(None, [*words, digest(recipe)]))


def measure(recipe: Recipe, workdir: Path, dataset: Dataset) -> Recorded:
    """All exits of the finished run over a data set, through its saved codec tables."""
    variables, codecs = run_folder.restore(recipe, workdir)
    return record.record(
        recipe.net,
        variables,
        dataset,
        net_name=name_of(recipe, workdir),
        task=recipe.task,
        codecs=codecs,
    )


def recorded(
    recipe: Recipe, workdir: Path, dataset: Dataset, out: Path | None = None
) -> Recorded:
    """The trace of a split of the run's own data: as it was saved, or measured now.

    out: the folder that keeps what is measured, by default the run's own.
    """
    file = trace_file(workdir, dataset.split)
    if file.exists():
        try:
            found = load_trace(workdir, dataset.split, name_of(recipe, workdir))
            # The name knows recipe and step; of the examples only labels are kept.
            if np.array_equal(found.trace.labels, dataset.labels):
                return found
            # Drawn anew from a set that has changed, it may hold what was trained on.
            if dataset.split == SPLITS[0] and has_changed(recipe, workdir):
                LOGGER.info("%s is of the data as it was: used", file)
                return found
            LOGGER.info("%s is of other examples: recording again", file)
        except Unread:
            raise  # it may be whole
        except UsageError as error:
            LOGGER.info("recording again: %s", error)
    measured = measure(recipe, workdir, dataset)
    record.save(measured, trace_file(out or workdir, dataset.split))
    return measured


def has_changed(recipe: Recipe, workdir: Path) -> bool:
    """Whether the training split is not the one that the run was begun with."""
    facts = run_folder.facts_of(workdir)
    now = run_folder.dataset_of(recipe, "train")
    return facts is not None and facts.examples != len(now)


def conclude(recipe: Recipe, workdir: Path, command: str) -> None:
    """Records the splits that are not yet, writes the report, prints its table."""
    if jax.process_index() > 0:
        return
    test = run_folder.dataset_of(recipe, "test")
    write_report(
        recipe, workdir, workdir, test, recorded(recipe, workdir, test), command
    )


def conclude_again(
    recipe: Recipe, workdir: Path, out: Path, examples: Dataset, command: str
) -> None:
    """The same for `examples`, measured again; files go to `out`."""
    found = measure(recipe, workdir, examples)
    out.mkdir(parents=True, exist_ok=True)
    record.save(found, trace_file(out, examples.split))
    write_report(recipe, workdir, out, examples, found, command)


def write_report(
    recipe: Recipe,
    workdir: Path,
    out: Path,
    examples: Dataset,
    found: Recorded,
    command: str,
) -> None:
    """The report of `found`, with thresholds from the run's validation split."""
    held = run_folder.dataset_of(recipe, "validation")
    fitted = recorded(recipe, workdir, held, out)
    report = budgets.report(fitted, found, policy=recipe.policy)
    facts = rate_runs.facts_of(recipe, examples, command)
    facts |= {"thresholds solved on": held.split, "net": found.trace.net}
    title = f"{recipe.title} on {examples.name}"
    exit_report.write(report, out, title=title, facts=facts)
    print(exit_report.table(exit_report.rows(report), report.exits))
    print("\n".join(exit_report.sentences(report)))


def decide(
    recipe: Recipe,
    workdir: Path,
    split: str,
    policy: str = "",
    budget: float | None = None,
) -> Decided:
    """A policy solved on the recorded validation split and evaluated on `split`.

    policy: as text, "" is the recipe's own; budget: its mean cost, in MACs or, up to
    1, as a share of the whole network's (exits.solve.policy_spec). The network does not
    run.
    """
    if not leaves_early(recipe.net):
        raise UsageError(f"{recipe.name} has no early exits to decide about")
    if split not in SPLITS:
        raise unknown("recorded split", split, SPLITS)
    net = name_of(recipe, workdir)
    # Both of one net and step: thresholds of older weights would pass unseen.
    fitted, found = (load_trace(workdir, name, net) for name in (SPLITS[0], split))
    text, whole = policy or recipe.policy or "threshold", fitted.trace.cost[-1]
    solved = policy_spec.policy_from_text(text, fitted.trace, budget)
    share = budget and policy_spec.in_cost(budget, fitted.trace) / whole
    solution = budgets.evaluate_solved(text, found, solved, share)
    last = np.full(len(found.trace.labels), len(found.trace.exits) - 1)
    return Decided(
        solution,
        budgets.evaluate_exits("whole network", found, last),
        found.trace.exits,
    )


def write_decision(decided: Decided, out: Path, facts: dict) -> None:
    """decision.json in `out`, in one step."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "facts": facts,
        "exits": decided.exits,
        "decision": exit_report.entry(decided.policy),
        "whole": exit_report.entry(decided.whole),
    }
    with draft(out / "decision.json") as path:
        text = json.dumps(content, indent=2, allow_nan=False, default=plain)
        path.write_text(text + "\n", "utf-8")


def load_trace(folder: Path, split: str, net: str) -> Recorded:
    """The recorded trace of a split; UsageError where the file holds another's."""
    file = trace_file(folder, split)
    found = record.load(file, net)
    if found.trace.split != split:
        raise UsageError(f"{file} is a trace of {found.trace.split}: record it again")
    return found


def trace_file(folder: Path, split: str) -> Path:
    return folder / f"trace_{split}.npz"
