"""What executors skip is not run, and regrouping keeps within its bounds."""

import ast
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from exit_nets import SHARES, clear_thresholds, dense, inputs, made, recorded

import sc_jax
from sc_jax.exits.execute import bucketed, capacity, cond, run_all
from sc_jax.exits.execute.buckets import ladder
from sc_jax.exits.policies import Threshold, TopFraction
from sc_jax.exits.scores import Scoring


def test_what_is_saved_is_not_run():
    """Rows that stages computed, counted as they ran, are those that are reported."""
    ran = Counter()
    net = dense(ran=lambda width, rows: ran.update({int(width): int(rows)}))
    variables, x = made(net), inputs(net, 40)
    logits, _ = recorded(net, variables, x)
    thresholds = clear_thresholds(Scoring()(logits))
    threshold, top = Threshold(tuple(thresholds)), TopFraction(SHARES)

    def rows_of(executor, x):
        executor(x)
        jax.effects_barrier()
        ran.clear()
        decision = jax.block_until_ready(executor(x))
        jax.effects_barrier()
        counted = [ran[width] for width in (8, 9, 10, 11)]
        assert counted == decision.rows.tolist()
        return decision

    assert rows_of(run_all(net, variables, threshold), x).rows.tolist() == [40] * 4
    exact = rows_of(capacity(net, variables, top), x)
    assert exact.rows.tolist() == [40, 24, 14, 6]  # 16, 10, 8 and 6 leave
    assert np.bincount(exact.exits, minlength=4).tolist() == [16, 10, 8, 6]
    exits = rows_of(bucketed(net, variables, threshold), x).exits
    assert len(set(exits.tolist())) == 4
    alone = cond(net, variables, threshold)
    for e in range(4):
        i = exits.tolist().index(e)
        one = rows_of(alone, x[i : i + 1])
        assert one.rows.tolist() == [1] * (e + 1) + [0] * (3 - e)


@pytest.mark.parametrize("batch", [3, 40])
def test_bucketed_keeps_to_its_buckets(batch):
    """Programs and rows are bounded, whatever leaves when."""
    traced: list[tuple[int, int]] = []
    net = dense(traced=lambda width, rows: traced.append((width, rows)))
    variables, x = made(net), inputs(net, batch)
    logits, _ = recorded(net, variables, x)
    thresholds = np.quantile(Scoring()(logits)[:3], (0.7, 0.6, 0.5))
    executor = bucketed(net, variables, Threshold(tuple(thresholds.tolist())))
    traced.clear()
    sizes = ladder(batch, 8)
    step = -(-batch // 8)
    for seed in range(20):
        x = inputs(net, batch, seed)
        decision = executor(x)
        reach = [int((decision.exits >= e).sum()) for e in range(4)]
        for rows, left in zip(decision.rows.tolist(), reach):
            assert rows == (min(s for s in sizes if s >= left) if left else 0)
            assert left <= rows < left + step
    assert {rows for _, rows in traced} <= set(sizes)
    assert len(traced) == len(set(traced)) <= 1 + 3 * len(sizes)
    before = len(traced)
    executor(x)
    assert len(traced) == before


@pytest.mark.parametrize(
    ("examples", "buckets", "sizes"),
    [(1, 8, (1,)), (7, 8, tuple(range(1, 8))), (257, 2, (129, 257)), (16, 1, (16,))],
)
def test_ladder(examples, buckets, sizes):
    assert ladder(examples, buckets) == sizes


def mapped(tree: ast.AST) -> list[ast.AST]:
    """What a file hands to vmap: lambdas, or all its own functions of that name."""
    nodes, found = list(ast.walk(tree)), []
    for call in nodes:
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("vmap"):
            name = ast.unparse(call.args[0])
            own = [
                n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == name
            ]
            found += own or call.args[:1]
    return found


def test_nothing_maps_over_a_cond():
    """vmap makes a select of a cond: both sides run, and slowly."""
    seen = 0
    for path in Path(sc_jax.__file__).parent.rglob("*.py"):
        for function in mapped(ast.parse(path.read_text())):
            seen += 1
            own = isinstance(function, ast.FunctionDef | ast.Lambda)
            assert own, f"{path}: what {ast.unparse(function)} calls cannot be seen"
            calls = (n.func for n in ast.walk(function) if isinstance(n, ast.Call))
            called = {ast.unparse(call).split(".")[-1] for call in calls}
            assert not called & {"cond", "switch", "run", "advance"}, path
    assert seen
