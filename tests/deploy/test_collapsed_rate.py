"""A student whose rate term won sends nothing: training and export say so."""

import dataclasses
import logging

import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from benchmarks import untrained
from sc_jax.codec import refit
from sc_jax.deploy.export import package
from sc_jax.deploy.export.convert import ExportError
from sc_jax.evaluate.reports import report
from sc_jax.runs import rate_runs, run_folder


@pytest.fixture
def collapsed(tmp_path, monkeypatch):
    """(run folder, recipe): every latent is zero, and its tables know no other."""
    first, codecs_of = untrained.first_variables, untrained.codecs_of

    def variables(*arguments):
        found = first(*arguments)
        kernel = found.params["encoder"]["Conv_2"]["kernel"]
        found.params["encoder"]["Conv_2"]["kernel"] = 0 * kernel
        return found

    def codecs(*arguments):
        ((name, codec),) = codecs_of(*arguments).items()
        symbols = np.asarray(codec.symbols(np.zeros(codec.shape, np.float32)))[None]
        monkeypatch.setattr(refit, "KEEP", 0.0)
        return {name: codec.refit([{"symbols": symbols}])}

    monkeypatch.setattr(untrained, "first_variables", variables)
    monkeypatch.setattr(untrained, "codecs_of", codecs)
    workdir = untrained.untrained(tmp_path / "run")
    monkeypatch.undo()
    whole = run_folder.dataset_of

    def some(recipe, part):
        return whole(recipe, part).take(np.arange(20))

    monkeypatch.setattr(run_folder, "dataset_of", some)
    return workdir, run_folder.recipe_of(workdir)


def test_a_rate_that_collapsed_is_said_in_training_and_export(collapsed, caplog):
    workdir, recipe = collapsed
    test = run_folder.dataset_of(recipe, "test")
    with caplog.at_level(logging.WARNING):
        row = rate_runs.student_row(recipe, workdir, test)
    assert row.payload_bytes == (0.0, 0.0) and report.is_collapsed(row)
    assert caplog.text.count(report.COLLAPSED) == 1
    with pytest.raises(ExportError, match="nothing to send: the rate collapsed") as e:
        package.package(workdir, workdir.parent / "bundle", calibration=8)
    assert "\n" not in str(e.value) and not (workdir.parent / "bundle").exists()


def test_bytes_over_none_are_no_share():
    from sc_jax.deploy.export.proof import Proof

    proof = Proof("test", 4, "accuracy", 0.5, 0.5, 0.0, 0.0, 0.0)
    assert proof.more_bytes == 0
    assert dataclasses.replace(proof, payload_bytes=2.0).more_bytes == np.inf
