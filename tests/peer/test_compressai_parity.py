"""The factorized prior against CompressAI: golden numbers always, itself if installed.

golden_prior.json was written by make_golden_prior.py from CompressAI.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.codec.tables import compat_from_pmf
from sc_jax.compressors.factorized_prior import LIKELIHOOD_BOUND, likelihood, pmfs

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden_prior.json").read_text())


def check_likelihoods(params, values, expected):
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    for compat in (True, False):
        got = likelihood(params, jnp.asarray(values), compat=compat)
        got = np.maximum(got, LIKELIHOOD_BOUND)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def check_tables(params, theirs):
    """Offsets and lengths equal; counts of live symbols within 2 of 65536."""
    rows, offsets, tails = pmfs(params, compat=True)
    ours = compat_from_pmf(rows, offsets, tails)
    np.testing.assert_array_equal(ours.offset, theirs["offset"])
    np.testing.assert_array_equal(ours.length + 1, theirs["length"])
    for row, (cdf, length) in enumerate(zip(theirs["cdf"], ours.length)):
        counts = np.diff(np.asarray(cdf)[: length + 1])
        mine = np.diff(ours.cdf[row, : length + 1].astype(np.int64))
        live = np.append(rows[row] * 65536 > 2, False)
        assert np.abs(counts - mine)[live].max() <= 2


def arrays(tree) -> dict:
    return {name: np.asarray(value, np.float32) for name, value in tree.items()}


def test_golden_likelihoods():
    values = np.asarray(GOLDEN["values"], np.float32)
    check_likelihoods(arrays(GOLDEN["params"]), values, GOLDEN["likelihoods"])


def test_golden_tables():
    check_tables(arrays(GOLDEN["params"]), GOLDEN["tables"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parity_with_the_installed_compressai(seed, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("compressai")
    monkeypatch.syspath_prepend(HERE)
    import make_golden_prior as peer

    module, params = peer.bottleneck(seed)
    values = peer.values()
    check_likelihoods(params, values, peer.oracle(module, values))
    check_tables(params, peer.tables(module))
