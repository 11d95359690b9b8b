"""The files of a teacher's training: none lost, none gone on with by mistake."""

import pytest

from benchmarks.methods.teacher_files import places
from sc_jax.errors import UsageError


def test_nothing_that_is_there_is_written_over(tmp_path):
    out = tmp_path / "net.pth"
    assert places(str(out), {"seed": 0}) == (out, tmp_path / "net.json")
    with pytest.raises(UsageError, match=r"NAME\.pth, not"):
        places(str(tmp_path / "net.json"), {"seed": 0})
    for name in ("net.json", "net.pth"):
        (tmp_path / name).write_text("kept")
        with pytest.raises(UsageError, match=f"{name} is there"):
            places(str(out), {"seed": 0})
        (tmp_path / name).unlink()


def test_an_unfinished_training_goes_on_with_its_own_settings_alone(tmp_path):
    out = tmp_path / "net.pth"
    places(str(out), {"seed": 0})
    (tmp_path / "net.partial").write_text("state")
    places(str(out), {"seed": 0})
    with pytest.raises(UsageError, match=r"net\.partial is of other settings"):
        places(str(out), {"seed": 1})
    # Of before settings were kept: nothing is known against it.
    (tmp_path / "net.partial.json").unlink()
    places(str(out), {"seed": 1})
