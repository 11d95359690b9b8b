"""The grammar of the command line, the check of knobs and the lists of them."""

from typing import Annotated, Literal

import pytest

from sc_jax import spec
from sc_jax.errors import UsageError
from sc_jax.spec import Knob


def method(
    trace,
    *,
    beta: Annotated[float, Knob("weight of a bit", at_least=0)] = 0.1,
    channels: Annotated[int, Knob("of the latent", at_least=1)] = 4,
    share: Annotated[float | None, Knob("of the cost", above=0, at_most=1)] = None,
    at: Annotated[tuple[float, ...] | None, Knob("thresholds", at_most=1)] = None,
    over: Literal["sum", "mean"] = "sum",
    score: Annotated[str, Knob("how sure", choices=("entropy", "margin"))] = "margin",
    flip: bool = False,
    free="anything",
    **shared,
):
    """A method for these tests.

    More about it.
    """


KNOWN = spec.knobs_of(method, skip=1)


@pytest.mark.parametrize(
    ("text", "name", "knobs"),
    [
        ("ghnd", "ghnd", {}),
        ("ghnd: channels = 6", "ghnd", {"channels": 6}),
        (
            "a:data=folder:x.zip,y.zip,e=0.5",
            "a",
            {"data": "folder:x.zip,y.zip", "e": 0.5},
        ),
        ("t:thresholds=(0.9,0.8)", "t", {"thresholds": (0.9, 0.8)}),
        ("a:policy=risk:epsilon=0.1", "a", {"policy": "risk:epsilon=0.1"}),
        ("/f/mine.py:beta=1", "/f/mine.py", {"beta": 1}),
        ("/f/mine.py:yours", "/f/mine.py:yours", {}),
        ("/f/mine.py:yours:beta=1", "/f/mine.py:yours", {"beta": 1}),
    ],
)
def test_a_name_and_its_knobs(text, name, knobs):
    assert spec.parse(text) == (name, knobs)


@pytest.mark.parametrize("text", ["hnd:3", "hnd:=3", "hnd:a=1,a=2"])
def test_text_that_is_no_spec_is_refused(text):
    with pytest.raises(UsageError, match="NAME:knob=value"):
        spec.parse(text)


def test_words_assignments_names_and_numbers(tmp_path):
    assert spec.words("beta:0.1,0.2") == ("beta", ("0.1", "0.2"))
    assert spec.words("fashion_mnist") == ("fashion_mnist", ())
    assert spec.assignment("a.0.b=(1,2)", "--set") == (("a", "0", "b"), (1, 2))
    assert spec.named("small=runs/a", "--workdir") == ("small", "runs/a")
    assert spec.numbers(["0.9", "1"], "--thresholds") == (0.9, 1)
    assert spec.integers(["96", "128"], "--lengths") == (96, 128)
    (tmp_path / "bits=4").mkdir()
    assert spec.named(f"{tmp_path}/bits=4", "--workdir") == ("", f"{tmp_path}/bits=4")
    for mistake in (
        lambda: spec.words("beta:", "sweep"),
        lambda: spec.assignment("beta", "--set"),
        lambda: spec.named("=runs/a", "--workdir"),
        lambda: spec.numbers(["0.9", "high"], "--thresholds"),
        lambda: spec.integers(["96.7"], "--lengths"),
        lambda: spec.integers(["0"], "--lengths"),
    ):
        with pytest.raises(UsageError):
            mistake()


@pytest.mark.parametrize(
    "values",
    [
        {"beta": 0, "channels": 1, "share": 1, "over": "mean", "flip": True},
        {"share": None, "at": (0.5, -3), "free": [1], "score": "entropy"},
        {"score": "mine.py:mine", "at": ()},
    ],
)
def test_values_within_their_ranges_pass(values):
    spec.check("method", KNOWN, values)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"beta": -1}, "beta is a number, 0 or more, not -1"),
        ({"beta": 1e999}, "not inf"),
        ({"beta": True}, "not True"),
        ({"channels": 0}, "channels is a whole number, 1 or more, not 0"),
        ({"channels": 1.5}, "not 1.5"),
        ({"share": 0}, "a number, above 0, at most 1 or None, not 0"),
        ({"at": (0.5, 2)}, "numbers in brackets, at most 1 or None"),
        ({"over": "men"}, "did you mean 'mean'"),
        ({"over": 3}, "sum or mean, not 3"),
        ({"score": "entropi"}, "did you mean 'entropy'"),
        ({"flip": 1}, "True or False"),
        ({"bta": 1}, "did you mean 'beta'"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line(values, line):
    with pytest.raises(UsageError) as caught:
        spec.check("method", KNOWN, values)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_knob_without_default_must_be_given():
    known = spec.knobs_of(method)
    with pytest.raises(UsageError, match="needs trace"):
        spec.check("method", known, {})


def test_lists_tell_every_knob_with_default_range_and_help():
    lines = spec.detail(KNOWN).splitlines()
    assert len(lines) == len(KNOWN)
    assert lines[0].split(None, 1)[0] == "beta=0.1"
    assert lines[0].endswith("weight of a bit (a number, 0 or more)")
    assert spec.table({"a": "one", "bc": "two"}) == "  a   one\n  bc  two"
