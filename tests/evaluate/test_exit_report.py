"""The report of exits: solved on validation, evaluated on test, and saying so."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import recorded_nets as tiny
from PIL import Image

from sc_jax.errors import UsageError
from sc_jax.evaluate import budgets
from sc_jax.evaluate.budgets import accuracies, oracle_accuracy, report
from sc_jax.evaluate.reports import exit_report
from sc_jax.exits.policies import from_json
from sc_jax.exits.solve import policy_spec

FACTS = {"seed": np.int64(7), "command": "this test"}


@pytest.fixture(scope="module")
def both():
    return tiny.recorded("validation"), tiny.recorded("test", 500, seed=1)


@pytest.fixture(scope="module")
def found(both):
    return report(*both)


def test_one_exit_for_all_has_its_own_accuracy_and_cost(both, found):
    trace = both[1].trace
    names = [point.name for point in found.anytime]
    assert names == ["exit@a", "exit@b", "final"] and found.split == "test"
    for e, point in enumerate(found.anytime):
        right = trace.answers[e].argmax(-1) == trace.labels
        assert point.outcome.accuracy == right.mean()
        assert point.outcome.mean_cost == trace.cost[e]
        assert point.outcome.exit_shares[e] == 1 and not point.solved_on


def test_budgets_run_from_the_first_exit_to_the_last(found):
    assert len(found.curve) == 15
    assert [found.curve[i].budget for i in (0, -1)] == [0.3, 1.0]
    assert found.curve[0].solved.expected.exit_shares == (1, 0, 0)
    assert found.curve[-1].solved.expected.exit_shares == (0, 0, 1)
    for point in found.curve:
        assert point.solved.expected.cost_share <= point.budget + 1e-9
        assert (point.solved_on, point.outcome.split) == ("validation", "test")


def test_a_quarter_under_the_first_exits_cost_cannot_be_had(found):
    assert found.quarters[0] is None
    assert [q.budget for q in found.quarters[1:]] == [0.5, 0.75, 1.0]
    assert found.quarters[3].outcome == found.curve[-1].outcome


def test_what_is_solved_reads_no_label_of_the_test_split(both, found):
    fitted, test = both
    labels = np.roll(test.trace.labels, 1)
    other = test._replace(
        trace=dataclasses.replace(test.trace, labels=labels, quality=None)
    )
    again = report(fitted, other)
    for field in ("curve", "lowest_cost", "risk_controlled", "chosen"):
        assert _policies(getattr(again, field)) == _policies(getattr(found, field))
    assert again.curve[3].outcome.accuracy != found.curve[3].outcome.accuracy


def _policies(points):
    points = points if isinstance(points, tuple) else (points,)
    return [point.solved.policy for point in points]


def test_the_cheapest_loses_at_most_a_point_where_it_was_solved(both, found):
    floor = accuracies(both[0].trace)[-1] - 0.01
    assert found.lowest_cost.solved.expected.accuracy >= floor
    assert found.lowest_cost.solved.expected.cost_share < 1


def test_policies_of_the_report_decide_the_same_again(both, found):
    trace = both[1].trace
    for point in (found.chosen, found.lowest_cost, found.risk_controlled):
        entry = exit_report.entry(point)
        policy = from_json(json.dumps(entry["policy"]))
        taken = budgets.taken(policy, trace)
        answers = trace.answers[taken, np.arange(len(taken))].argmax(-1)
        assert entry["accuracy"] == (answers == trace.labels).mean()
        assert entry["mean_cost_macs"] == trace.cost[taken].mean()
        sent = np.where(taken == 0, 0, both[1].payload_bytes)
        assert entry["sent_bytes"] == sent.mean()


@pytest.mark.parametrize("budget", [30, 35, 47.5, 58, 100])
def test_the_oracle_is_the_best_of_all_choices(budget):
    trace = tiny.recorded("test", 6, seed=3).trace
    right = trace.answers.argmax(-1) == trace.labels
    best = 0.0
    for choice in itertools.product(range(3), repeat=6):
        taken = np.array(choice)
        if trace.cost[taken].mean() <= budget:
            best = max(best, right[taken, np.arange(6)].mean())
    assert oracle_accuracy(trace, budget) == pytest.approx(best)


def test_no_policy_beats_the_oracle_at_its_cost(both, found):
    for point in (
        *found.curve,
        *found.anytime,
        found.lowest_cost,
        found.risk_controlled,
    ):
        best = oracle_accuracy(both[1].trace, point.outcome.mean_cost)
        assert point.outcome.accuracy <= best + 1e-12
    assert (np.diff(found.oracle) >= 0).all()


def test_every_number_names_its_split(found):
    def walk(node):
        if isinstance(node, dict):
            if "accuracy" in node:
                assert node["split"] in ("validation", "test"), node
            node = list(node.values())
        for item in node if isinstance(node, list | tuple) else ():
            walk(item)

    document = exit_report.document(found)
    walk(document)
    assert document["quarters"]["25 %"] is None
    assert document["histogram"]["budget_share"] == 0.5
    assert document["head_share"] == pytest.approx([1 / 6, 1 / 6, 0.1])
    assert document["without_exits_share"] == pytest.approx(0.9)
    assert document["risk"]["epsilon"] == document["risk"]["delta"] / 10 == 0.01
    heading, _, *lines = exit_report.table(
        exit_report.rows(found), found.exits
    ).splitlines()
    assert "evaluated on" in heading and heading.rstrip().endswith("final %")
    assert all(" test " in line for line in lines)
    assert sum(" validation " in line for line in lines) == len(lines) - 3


def test_written_files_say_the_same(found, tmp_path):
    exit_report.write(found, tmp_path / "new", title="A title", facts=FACTS)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["exit_report.json", "exit_report.md", "exits.png"]
    content = json.loads((tmp_path / "new" / "exit_report.json").read_text())
    assert content["facts"]["seed"] == 7 and len(content["budgeted"]) == 15
    page = (tmp_path / "new" / "exit_report.md").read_text("utf-8")
    assert "| validation | test |" in page and "- command: `this test`" in page
    for sentence in exit_report.sentences(found):
        assert f"- {sentence}" in page
    with Image.open(tmp_path / "new" / "exits.png") as image:
        assert image.size == (1800, 750)


def test_without_a_split_no_bytes_are_named(both):
    fitted, test = (one._replace(payload_bytes=None) for one in both)
    found = report(fitted, test, budgets=3)
    assert {point.sent_bytes for point in exit_report.rows(found)} == {None}


def test_the_methods_own_score_serves_the_curves_and_its_policy_is_evaluated(both):
    text = "threshold:score=margin,thresholds=0.5"
    found = report(*both, policy=text, budgets=3)
    assert found.method_policy.solved.policy.thresholds == (0.5, 0.5)
    for point in (
        *found.curve,
        found.lowest_cost,
        found.risk_controlled,
        found.method_policy,
    ):
        assert point.solved.policy.scoring.score == "margin"
    assert exit_report.rows(found)[-1].name == text


def test_a_policy_that_cannot_be_solved_leaves_the_rest_of_the_report(both):
    found = report(*both, policy="threshold:accuracy=0.999", budgets=3)
    assert found.method_policy is None and found.score == "max_probability"
    assert "no thresholds reach accuracy 0.999" in exit_report.sentences(found)[-1]


def test_a_policy_that_does_not_fit_the_net_is_refused(both):
    for policy in ("threshold:score=confidence", "treshold", "patience:patience=2"):
        with pytest.raises(UsageError):
            report(*both, policy=policy, budgets=3)


def test_exits_that_cost_more_than_they_save_are_told(both):
    fitted, test = (
        one._replace(classifier_cost=np.array([20.0, 50.0, 90.0])) for one in both
    )
    said = exit_report.sentences(report(fitted, test, budgets=3))
    assert said[-1].startswith("The exits cost more than they save")


def test_mistakes_are_usage_errors(both):
    fitted, test = both
    with pytest.raises(UsageError, match="nothing is fitted on the test split"):
        report(test, test)
    other = dataclasses.replace(test.trace, net="other")
    with pytest.raises(UsageError, match="of net 'other', not of 'made'"):
        report(fitted, test._replace(trace=other))


def test_a_fitted_score_is_fitted_to_each_budget(both):
    """EENet's scheduler is learnt for one budget: no other is given its weights."""
    fitted, _ = both
    assert policy_spec.refitted("eenet") and not policy_spec.refitted(
        "threshold:score=margin"
    )
    found = report(*both, policy="eenet", budgets=2)
    quarters = [q for q in found.quarters if q is not None]
    for quarter in quarters[:-1]:  # at the whole cost nothing is left to decide
        own = policy_spec.policy_from_text("eenet", fitted.trace, quarter.budget)
        assert quarter.solved.policy == own.policy
    first, second = (q.solved.policy for q in quarters[:2])
    assert first.scoring.weights != second.scoring.weights
