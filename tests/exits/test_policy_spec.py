"""Policies in one line of text: every one that is known, and every mistake in one."""

import dataclasses
from inspect import Parameter
from typing import Annotated, Any

import numpy as np
import pytest
from exit_traces import COST, EXITS, trace

from sc_jax import spec
from sc_jax.errors import UsageError
from sc_jax.exits.policies import (
    POLICIES,
    Anytime,
    Patience,
    PerClass,
    Policy,
    Threshold,
    TopFraction,
    from_json,
    to_json,
)
from sc_jax.exits.scores import SCORES, Scoring
from sc_jax.exits.solve.by_candidates import by_candidates
from sc_jax.exits.solve.calibration import temperatures
from sc_jax.exits.solve.policy_spec import (
    knobs_of,
    parse,
    policy_from_text,
    usable,
)
from sc_jax.exits.solve.solvers import SOLVERS
from sc_jax.exits.solve.thresholds import class_quantiles, minimum_recall, solve
from sc_jax.traces.trace import Trace, outcome

RECORDED = trace(500)
TWO = trace(500, classes=2, exits=2)
WHOLE = float((RECORDED.answers[-1].argmax(-1) == RECORDED.labels).mean())
QUICK = "width=4,steps=100"


def solved(text: str, budget: float | None = None, of: Trace = RECORDED):
    """The policy; what is said of it on the trace is true, and JSON brings it back."""
    found = policy_from_text(text, of, budget)
    again = from_json(to_json(found.policy))
    assert again == found.policy
    if found.expected.examples == len(of.labels):
        taken = again(of.answers, of.cost, of.confidence)
        assert outcome(of, taken) == found.expected
    return found


def test_what_is_given_in_numbers_is_the_policy_itself():
    nested = ((0.9,) * 5, (0.8,) * 5, (0.7,) * 5)
    expect = {
        "threshold:thresholds=(0.9,0.8,0.7)": Threshold((0.9, 0.8, 0.7)),
        "threshold:thresholds=0.9": Threshold((0.9, 0.9, 0.9)),
        "threshold:score=margin,thresholds=(1, 0.8, 0.7)": Threshold(
            (1, 0.8, 0.7), Scoring("margin")
        ),
        f"per_class:thresholds={nested}": PerClass(nested),
        "top_fraction:shares=(0.5,0.25,0.25,0)": TopFraction((0.5, 0.25, 0.25, 0)),
        "patience:patience=2": Patience(2),
        "anytime:deadline_macs=46.5": Anytime(46.5),
    }
    for text, policy in expect.items():
        assert solved(text).policy == policy, text


def test_targets_reach_the_solvers():
    margin = Scoring("margin")
    expect = {
        "threshold:score=margin,budget=0.5": solve(RECORDED, margin, budget=50.0),
        "threshold:budget=30": solve(RECORDED, budget=30.0),
        "threshold:accuracy=0.8,search=shared,points=9": solve(
            RECORDED, accuracy=0.8, search="shared", points=9
        ),
        "threshold:recall=0.6": solve(RECORDED, recall=0.6),
        "threshold:shares=(0.4,0.3,0.2,0.1)": solve(
            RECORDED, shares=(0.4, 0.3, 0.2, 0.1)
        ),
        "per_class:quantile=0.9": class_quantiles(RECORDED, quantile=0.9),
        "threshold:calibrated=True,budget=0.5": solve(
            RECORDED, Scoring(temperatures=temperatures(RECORDED)), budget=50.0
        ),
    }
    for text, found in expect.items():
        assert solved(text) == found, text
    found = solved("filter:recall=0.95,negative=1", of=TWO)
    assert found == minimum_recall(TWO, recall=0.95, negative=1)


@pytest.mark.parametrize("name", [n for n in SOLVERS if "budget" in knobs_of(n)])
def test_a_budget_is_a_share_or_a_cost_and_is_met(name):
    text = f"{name}:{QUICK}" if name == "eenet" else name
    share, cost = solved(text, 0.6), solved(text, 60.0)
    assert share == cost and share.expected.mean_cost <= 60.0
    knob = f"{text}{',' if ':' in text else ':'}budget=0.6"
    assert solved(knob) == solved(knob, 0.3) == share


@pytest.mark.parametrize("name", [n for n in SOLVERS if "lost" in knobs_of(n)])
def test_without_a_target_the_cheapest_that_loses_a_point_is_found(name):
    text = f"{name}:{QUICK}," if name == "eenet" else f"{name}:"
    usual, more = solved(text.rstrip(",:")), solved(f"{text}lost=0.05")
    assert usual.expected.accuracy >= WHOLE - 0.01
    assert more.expected.accuracy >= WHOLE - 0.05
    costs = more.expected.mean_cost, usual.expected.mean_cost
    assert costs[0] <= costs[1] < 100
    assert costs[0] < costs[1] or POLICIES.get(name, Threshold).candidates(4)  # few
    if name != "eenet":
        assert solved(f"{text}lost=0.01") == usual


def test_fixed_exits_answer_all():
    for e, name in enumerate(RECORDED.exits):
        for word in {name, name.removeprefix("exit@")}:
            found = solved(f"fixed:exit={word}").expected
            assert found.exit_shares[e] == 1 and found.mean_cost == COST[e]
    assert solved("fixed").expected.cost_share == 1


def test_scores_that_exits_learnt_are_found_by_name():
    for score in ("confidence", "cumulative_confidence"):
        found = solved(f"threshold:score={score}", 0.5)
        assert found.policy.scoring == Scoring(score)
    fitted = solved("threshold:score=failure_prediction", 0.5)
    assert fitted == solved("failure_prediction", 0.5)
    assert solved("failure_prediction:ridge=100", 0.5) != fitted


def test_risk_is_controlled_on_what_nothing_was_fitted_on():
    whole = trace(4000)
    found = solved("risk:epsilon=0.05,delta=0.2,loss=harm", of=whole)
    assert found.expected.examples == 4000 and found.expected.cost_share < 1
    half = solved("risk:epsilon=0.05,loss=harm,score=failure_prediction", of=whole)
    assert half.expected.examples == 2000 and half.policy.scoring.weights
    warm = solved("risk:epsilon=0.05,loss=harm,calibrated=True", of=whole)
    assert warm.expected.examples == 2000 and warm.policy.scoring.temperatures


def test_policies_in_numbers_are_evaluated_on_the_test_split_too():
    tested = dataclasses.replace(RECORDED, split="test")
    for text in ("threshold:thresholds=0.9", "patience:patience=1", "fixed:exit=a"):
        assert solved(text, of=tested).split == "test"
    for name in set(SOLVERS) - {"fixed", "anytime", "filter"}:
        with pytest.raises(UsageError, match="test split"):
            policy_from_text(name, tested)
    with pytest.raises(UsageError, match="test split"):
        policy_from_text("filter", dataclasses.replace(TWO, split="test"))


@pytest.mark.parametrize("name", SOLVERS)
def test_every_knob_has_a_type_a_line_and_a_default_that_fits(name):
    for knob, known in knobs_of(name).items():
        assert known.type not in (Any, Parameter.empty) and known.knob.help, knob
        spec.check_value(name, known, known.default)


def test_text_is_read_as_recipes_are():
    assert parse("threshold") == ("threshold", {})
    text = "a:x=(1, 2),word=plain, y=((0.5,),), z=True"
    expect = {"x": (1, 2), "word": "plain", "y": ((0.5,),), "z": True}
    assert parse(text) == ("a", expect)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "unknown policy ''.*Known: threshold, per_class"),
        ("treshold", "did you mean 'threshold'"),
        ("threshold:", "NAME:knob=value"),
        ("threshold:0.9", "NAME:knob=value"),
        ("threshold:points=3,points=4", "each knob once"),
        ("threshold:scores=margin", "did you mean 'score'.*Known: score, calibrated"),
        ("threshold:score=margins", "did you mean 'margin'"),
        ("threshold:score=3", "score is a name, not 3"),
        ("threshold:score=eenet", "policy 'eenet'"),
        ("threshold:score=failure_prediction,calibrated=True", "no calibrated"),
        ("threshold:score=confidence,calibrated=True", "reads no logits"),
        ("threshold:calibrated=1", "calibrated is True or False, not 1"),
        ("threshold:thresholds=(0.9,0.8)", "2 instead of 3"),
        ("threshold:thresholds=(0.9,0.8,0.7,0.6)", "4 instead of 3"),
        ("threshold:thresholds=(0.9,nan,0.7)", "thresholds is numbers in brackets"),
        ("threshold:thresholds=(0.9,1e999,0.7)", "numbers in brackets or a number"),
        ("threshold:thresholds=('a','b','c')", "numbers in brackets or a number"),
        ("threshold:thresholds=((0.9,),(0.8,),(0.7,))", "numbers in brackets or a"),
        ("threshold:thresholds=0.9,budget=0.5", "nothing to solve: no budget"),
        ("threshold:budget=0.5,accuracy=0.8", "not budget and accuracy"),
        ("threshold:accuracy=0.8,lost=0.1", "not accuracy and lost"),
        ("threshold:accuracy=1.1", r"from 0\.\d+ to 0\."),
        ("threshold:lost=-1", r"from 0\.\d+ to 0\."),
        ("threshold:budget=0.09", "the first costs 10, the last 100"),
        ("threshold:budget=9", "the first costs 10, the last 100"),
        ("threshold:budget=0", "budget is a number, above 0 or None, not 0"),
        ("threshold:budget=-3", "budget is a number, above 0 or None, not -3"),
        ("threshold:budget=nan", "budget is a number, above 0 or None, not 'nan'"),
        ("threshold:budget=1e999", "budget is a number, above 0 or None, not inf"),
        ("threshold:budget=half", "budget is a number, above 0 or None, not 'half'"),
        ("threshold:budget=True", "budget is a number, above 0 or None, not True"),
        ("threshold:points=1", "points is a whole number, 2 or more, not 1"),
        ("threshold:points=2.5", "points is a whole number, 2 or more, not 2.5"),
        (
            "threshold:search=geo",
            "unknown search of policy 'threshold' 'geo'.* Known: geometric",
        ),
        ("threshold:shares=(0.5,0.5)", "2 shares for 4 exits"),
        ("per_class:thresholds=0.9", "thresholds is numbers in brackets or None"),
        ("per_class:thresholds=((0.9,),(0.9,0.8))", "equally long"),
        ("per_class:thresholds=((0.9,0.8),(0.9,0.8),(0.9,0.8))", "of 2 .*net has 5"),
        (f"per_class:thresholds={((0.9,) * 7,) * 3}", "of 7 classes, the net has 5"),
        ("threshold:score=entropy,thresholds=0.5", "to 0, higher is surer.*nobody"),
        ("threshold:thresholds=(1.5,2.0,1.5)", "nobody would leave early"),
        ("per_class:thresholds=((0.9,),)", "1 instead of 3"),
        ("per_class:quantile=1.5", "quantile is a number, 0 to 1 or None, not 1.5"),
        ("per_class:quantile=0.9,budget=0.5", "no budget"),
        ("per_class:budget=0.5,lost=0.1", "one target of budget, lost"),
        ("top_fraction:shares=(0.5,0.6,0,0)", "sum to 1"),
        ("top_fraction:shares=1", "shares is numbers in brackets, 0 to 1 or None"),
        ("top_fraction:budget=0.05", "the first costs 10"),
        ("patience:patience=0", "patience is a whole number, 1 or more or None, not 0"),
        ("patience:patience=3", "of 3 exits before the last, 2 can repeat"),
        ("patience:patience=-1", "patience is a whole number, 1 or more or None"),
        ("patience:patience=2,budget=0.5", "no budget"),
        ("patience:lost=-1", r"no setting reaches accuracy 1\.\d+ on split"),
        ("patience:budget=0.2", "no setting meets a mean cost of 20 .* take"),
        ("patience:budget=0.05", "the first costs 10"),
        ("anytime", "deadline_macs or a budget"),
        ("anytime:deadline_macs=50,budget=0.5", "one of them"),
        ("anytime:budget=0.05", "the first takes 10, the last 100"),
        ("anytime:deadline_macs=-1", "deadline_macs is a number, 0 or more or None"),
        ("fixed:exit=d", "unknown exit 'd'.* Known: a, b, c, final"),
        ("filter", "2 exits"),
        ("filter:budget=0.5", "takes no budget; these do: threshold, per_class"),
        ("filter:recall=2", "recall is a number, 0 to 1, not 2"),
        ("risk:epsilon=0", "epsilon is a number, above 0, not 0"),
        ("risk:epsilon=2", "epsilon of 'error_gap' is in"),
        ("risk:delta=1", "delta is a number, above 0, below 1, not 1"),
        ("risk:method=ltt", "unknown method of policy 'risk' 'ltt'"),
        ("risk:budget=0.5", "takes no budget"),
        ("risk:score=eenet", "policy 'eenet'"),
        ("eenet:budget=0.05", "the first costs 10"),
        ("eenet:budget=0.5,lost=0.1", "no lost"),
        ("eenet:steps=0", "steps is a whole number, 1 or more, not 0"),
        ("failure_prediction:ridge=0", "ridge is a number, above 0, not 0"),
        ("failure_prediction:score=margin", "knob of policy 'failure_prediction'"),
    ],
)
def test_every_mistake_is_one_line(text, line):
    with pytest.raises(UsageError, match=line) as raised:
        policy_from_text(text, RECORDED)
    assert "\n" not in str(raised.value)


def test_none_leaves_a_knob_to_the_solver():
    for text in ("threshold:budget=None", "patience:patience=None,budget=None"):
        assert solved(text) == solved(text.partition(":")[0])
    assert solved("threshold:thresholds=None", 0.5) == solved("threshold", 0.5)


@pytest.mark.parametrize("exits", [1, 2])
def test_patience_needs_exits_to_compare(exits):
    for text in ("patience", "patience:patience=1"):
        with pytest.raises(UsageError, match=f"this net has {exits - 1}: a threshold"):
            policy_from_text(text, trace(50, exits=exits))


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"eenet"}))
def test_only_scores_that_read_confidences_need_them(name):
    plain = trace(50, confidence=None)
    text = f"threshold:score={name},budget=0.5"
    if SCORES[name].learned:
        with pytest.raises(UsageError, match="never learnt"):
            policy_from_text(text, plain)
    else:
        assert policy_from_text(text, plain).expected.mean_cost <= 50


def test_a_budget_of_the_caller_is_checked_like_a_knob():
    for budget in (float("nan"), 0.0, -1.0, 0.05):
        with pytest.raises(UsageError, match="budget"):
            policy_from_text("threshold", RECORDED, budget)
    with pytest.raises(UsageError, match="takes no budget"):
        policy_from_text("risk", RECORDED, 0.5)
    assert np.isfinite(solved("threshold", 1.0).policy.thresholds).all()


@pytest.mark.parametrize("name", ["threshold", "top_fraction"])
def test_the_first_exits_own_share_of_the_cost_is_a_budget_that_it_meets(name):
    """Though the share times the whole cost may round below the first exit's."""
    first, whole = 3647488.0, 14236032.0
    share = np.nextafter(first / whole, 0)
    assert share * whole < first
    cost = np.array([first, 6e6, 9e6, whole])
    made = trace(80, cost=cost)
    found = policy_from_text(name, made, float(share))
    assert found.expected.exit_shares[0] > 0.9


@dataclasses.dataclass(frozen=True)
class Averaged(Policy):
    """A moving average of the largest probability over a threshold."""

    threshold: Annotated[float, spec.Knob("to reach", at_least=0)]
    decay: Annotated[float, spec.Knob("of what was before", at_least=0, below=1)] = 0.5

    def init(self):
        return 0.0

    def step(self, answer, memory, xp):
        score, _ = Scoring().step(answer, None, xp)
        mean = (1 - self.decay) * score + self.decay * memory
        return mean >= self.threshold, mean

    @classmethod
    def candidates(cls, exits):
        return [cls(step / 8) for step in range(7, 0, -1)]


def test_a_policys_defaults_alter_its_candidates_and_the_rest_fixes_it():
    solver = by_candidates(Averaged)
    assert solver(RECORDED, threshold=0.4).policy == Averaged(0.4)
    assert solver(RECORDED, threshold=0.4, decay=0.1).policy == Averaged(0.4, 0.1)
    budget = float(RECORDED.cost[-1])
    found = solver(RECORDED, decay=0.25, budget=budget).policy
    assert found.decay == 0.25 and found in [
        dataclasses.replace(each, decay=0.25) for each in Averaged.candidates(4)
    ]
    with pytest.raises(UsageError, match="leaves nothing to solve"):
        solver(RECORDED, threshold=0.4, budget=budget)


OWN = """
from dataclasses import dataclass
from typing import Annotated
from sc_jax.exits.policies.policy import Policy
from sc_jax.exits.scores.score import Score, unit
from sc_jax.spec import Knob

def step(answer, memory, xp):
    \"\"\"The largest probability, squared.\"\"\"
    return xp.exp(answer.log_softmax(xp)).max(-1) ** 2, memory

squared = Score(step, unit)

@dataclass(frozen=True)
class After(Policy):
    \"\"\"Leave at the exit of this number.\"\"\"
    place: Annotated[int, Knob("exits to pass", at_least=0)]

    def step(self, answer, memory, xp):
        return answer.predicted >= (0 if answer.exit >= self.place else 99), memory

    @classmethod
    def candidates(cls, exits):
        return [cls(place) for place in range(exits)]

class Unnamed(After):
    candidates = Policy.candidates
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def test_a_score_of_a_file_serves_as_a_registered_one(own):
    usable(f"threshold:score={own}:squared", EXITS, 5, RECORDED.cost, False)
    found = policy_from_text(f"threshold:score={own}:squared,budget=0.5", RECORDED)
    known = policy_from_text("threshold:budget=0.5", RECORDED)
    # Squares keep the order, so the same examples leave.
    answers = RECORDED.answers, RECORDED.cost
    np.testing.assert_array_equal(found.policy(*answers), known.policy(*answers))
    assert found.policy.thresholds == pytest.approx(
        np.square(known.policy.thresholds), rel=1e-6
    )
    with pytest.raises(UsageError, match="bundles carry no code"):
        from_json(to_json(found.policy))


def test_a_policy_of_a_file_is_solved_from_its_candidates_and_knobs(own):
    usable(f"{own}:After", EXITS, 5, RECORDED.cost, False)
    fixed = policy_from_text(f"{own}:After:place=2", RECORDED)
    assert fixed.expected.mean_cost == RECORDED.cost[2]
    found = policy_from_text(f"{own}:After", RECORDED, budget=0.3)
    assert found.policy.place == 1  # 25 of 100 is the most within 30
    with pytest.raises(UsageError, match="bundles carry no code"):
        from_json(to_json(found.policy))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{own}:Absent", "has no policy Absent"),
        ("{own}:squared", "has no policy squared"),
        ("{own}:After:place=-1", "place is a whole number, 0 or more"),
        ("{own}:Unnamed", "Unnamed has no candidates"),
        ("threshold:score={own}:step", "has no score step"),
        ("threshold:score={own}", "has no score own"),
    ],
)
def test_a_mistaken_part_of_a_file_is_one_line(text, line, own):
    with pytest.raises(UsageError, match=line) as error:
        policy_from_text(text.format(own=own), RECORDED)
    assert "\n" not in str(error.value)
