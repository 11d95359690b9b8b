"""Logs of benchmark_model: every number against the line that holds it."""

import pytest
from benchmark_logs import COMPILED, FAILED, LOGCAT, NEW, OLD

from sc_jax.errors import UsageError
from sc_jax.plan.benchmark_model import read
from sc_jax.plan.op_profile import operation_times


def test_a_log_of_today():
    found = read(NEW)
    assert found.head_ms == {
        "median": 2.781,
        "p95": 3.169,
        "min": 2.605,
        "mean": 2.94227,
    }
    assert (found.warm_up, found.runs, found.threads) == (153, 337, 4)
    assert (found.init_ms, found.first_ms) == (6.395, 2.761)
    assert (found.delegate, found.delegate_partitions) == ("XNNPACK", 3)
    assert found.model_bytes == 142084
    assert found.memory_bytes == {"init": 79 * 2**19, "overall": 163 * 2**18}
    assert found.peak_memory_bytes == 181 * 2**18
    assert found.device == "Example Phone 9, Android 16, board8"
    assert found.cores == "f0"
    assert found.graph == "/data/local/tmp/head.tflite"


def test_the_operators_of_today_without_those_of_initialisation():
    rows = read(NEW).operations
    assert rows is not None
    assert [row.node for row in rows] == [
        "QUANTIZE",
        "Convolution (NHWC, QC8) IGEMM",
        "DIV",
    ]
    assert [row.calls for row in rows] == [1, 4, 1]
    # the tool's own shares follow from average times calls
    assert [round(row.share, 5) for row in rows] == [0.06757, 0.54054, 0.39189]
    assert sum(row.ms for row in rows) == pytest.approx(2.96)


def test_a_log_of_2019_has_no_percentiles():
    found = read(OLD)
    assert found.head_ms == {
        "median": None,
        "p95": None,
        "min": 66.699,
        "mean": 66.7676,
    }
    assert (found.init_ms, found.first_ms, found.threads) == (9.933, None, 2)
    assert found.delegate is found.model_bytes is found.memory_bytes is None
    rows = found.operations
    assert rows is not None
    assert [(row.node, row.ms, row.share) for row in rows] == [
        ("CONV_2D", 4.5, 0.75),
        ("DEPTHWISE_CONV_2D", 1.5, 0.25),
    ]


def test_logcat_and_a_single_run():
    found = read(LOGCAT)
    assert set(found.head_ms.values()) == {2640.862}
    assert (found.delegate, found.delegate_partitions) == ("GPU", 1)
    assert (found.warm_up, found.runs, found.threads) == (1, 1, None)
    assert found.operations is None
    assert found.memory_bytes == {"init": 573 * 2**19, "overall": 337 * 2**20}


def test_the_other_tool_of_that_name():
    found = read(COMPILED)
    assert found.head_ms == {"median": 0.842, "p95": 0.97, "min": 0.81, "mean": 0.845}
    assert (found.init_ms, found.first_ms, found.threads) == (12.5, 0.9, 2)
    assert (found.warm_up, found.runs, found.model_bytes) == (40, 50, 142084)
    assert found.memory_bytes == {"init": 2**23, "overall": 17 * 2**19}
    assert found.peak_memory_bytes == 121 * 2**18
    assert found.operations is not None
    assert [row.share for row in found.operations] == [
        pytest.approx(x) for x in (0.1, 0.9)
    ]
    summary = COMPILED.split("=======", 1)[1]  # logcat may have lost the rest
    assert read(summary).head_ms == {
        "median": None,
        "p95": None,
        "min": 0.81,
        "mean": 0.84,
    }


def test_the_summary_line_alone_gives_the_mean():
    line = next(one for one in NEW.splitlines() if "Inference timings" in one)
    found = read(line)
    assert found.head_ms["mean"] == 2.94227
    assert found.head_ms["median"] is found.runs is found.warm_up is None


def test_equal_runs_are_printed_as_one_value():
    log = "count=50 curr=700(all same)\nInference timings in us: Init: 1, "
    found = read(log + "First inference: 700, Warmup (avg): 700, Inference (avg): 700")
    assert set(found.head_ms.values()) == {0.7}
    assert found.runs == 50


def test_the_summary_of_litert_counts_the_calls_of_all_runs():
    table = """\
==== Run Order ====
    [node type] [start] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]
    CAST  0.000  0.001  0.001  1.000%  1.000%  0.000  30  [Builtin]:0
    Delegate/Convolution (NHWC, F32) IGEMM  0.000  0.007  0.100  99.000%  100.000% \
0.000  60  [Delegate]:2
"""
    rows = operation_times(table)
    assert rows is not None
    assert [row.calls for row in rows] == [1, 2]
    assert rows[1].ms == pytest.approx(0.2)
    assert operation_times(table, 30) == rows


def test_a_delegates_own_table_replaces_its_row():
    head = "==== Run Order ====\n"
    inner = "Convolution  0.0  1.5  1.500  100.000%  100.000%  0.000  1  :0\n"
    outer = (
        "TfLiteXNNPackDelegate  0.0  2.0  2.000  80.000%  80.000%  0.000  1  [a]:1\n"
    )
    other = "DIV  2.0  0.5  0.500  20.000%  100.000%  0.000  1  [b]:2\n"
    rows = operation_times(
        head + outer + other + "\nDelegate internal:\n" + head + inner
    )
    assert rows is not None
    assert [(row.node, row.ms) for row in rows] == [("DIV", 0.5), ("Convolution", 1.5)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no timing"),
        (FAILED, "Could not open '/data/local/tmp/none.tflite'"),
        ("count=0\nnot a timing", "no timing"),
        (NEW + NEW, "2 runs"),
    ],
)
def test_a_log_without_one_timing_says_what_to_give(text, says):
    with pytest.raises(UsageError, match=r"^phone\.txt holds") as caught:
        read(text, "phone.txt")
    assert says in str(caught.value) and "\n" not in str(caught.value)
