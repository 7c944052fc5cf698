"""Sparse products, compiled and by NumPy, against scipy and each other."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from basinet.sim.agents.messages import mixing_kernels, sparse_products
from basinet.sim.agents.messages.mixing_kernels import mix
from basinet.sim.agents.messages.sparse_products import mix_by_numpy, pad


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), density=st.floats(0, 1), seed=st.integers(0, 99))
def test_padding_keeps_the_matrix(rows, columns, density, seed):
    matrix = random_array((rows, columns), density=density, rng=np.random.default_rng(seed), format="csr")
    starts, places, values = pad(matrix)
    assert (np.diff(starts) % 2 == 0).all() and (np.diff(starts) - np.diff(matrix.indptr) < 2).all()
    again = csr_array((values, places, starts), shape=matrix.shape)
    np.testing.assert_array_equal(again.toarray(), matrix.toarray())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2048, 5000])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 1.0])
def test_products_equal_those_of_scipy(dtype, size, density):
    rng = np.random.default_rng(0)
    matrix = random_array((13, 17), density=density, rng=rng, format="csr")
    starts, places, values = pad(matrix)
    values, sums = values.astype(dtype), matrix.sum(axis=1).astype(dtype)
    x, own = rng.normal(size=(17, size)).astype(dtype), rng.normal(size=(13, size)).astype(dtype)
    out = rng.normal(size=(13, size)).astype(dtype)  # what stands there must not matter
    # Sums of at most 17 terms and two more, each with a rounding of the size of what is added up.
    tolerance = 20 * np.finfo(dtype).eps * max(1.0, (matrix @ np.abs(x) + sums[:, None] * np.abs(own)).max())
    mix(starts, places, values, x, own, sums, out, False)
    np.testing.assert_allclose(out, matrix @ x, rtol=0, atol=tolerance)
    mix(starts, places, values, x, np.zeros_like(own), sums, out, True)
    np.testing.assert_allclose(out, 2 * (matrix @ x), rtol=0, atol=2 * tolerance)
    first, second = (np.full_like(out, np.nan) for _ in range(2))
    for add in (False, True):
        mix(starts, places, values, x, own, sums, first, add)
        mix_by_numpy(starts, places, values, x, own, sums, second, add)
        np.testing.assert_array_equal(first, second)
    half = np.zeros((5, size), dtype)  # some rows only
    mix(starts[4:10], places, values, x, own[4:9], sums[4:9], half, False)
    np.testing.assert_allclose(half, (matrix @ x)[4:9], rtol=0, atol=tolerance)


def test_rows_that_agree_stay_as_they_are():
    matrix = csr_array(np.full((7, 7), 1 / 7))
    starts, places, values = pad(matrix)
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 100)).astype(np.float32), 7, axis=0)
    out = np.zeros_like(x)
    mix(starts, places, values.astype(np.float32), x, x, np.ones(7, np.float32), out, False)
    np.testing.assert_array_equal(out, x)


def test_a_short_run_multiplies_by_numpy_and_a_long_one_by_compiled_loops(monkeypatch):
    used = []
    monkeypatch.delitem(sys.modules, "basinet.algorithms.row_kernels")
    monkeypatch.setattr(sparse_products, "_multiplied", 0)
    monkeypatch.setattr(sparse_products, "_WORTH", 3 * 14 * (2**12 + 5))
    monkeypatch.setattr(sparse_products, "mix_by_numpy", lambda *_: used.append("NumPy"))
    monkeypatch.setattr(mixing_kernels, "mix", lambda *_: used.append("compiled"))
    starts, places, values = pad(csr_array(np.ones((7, 2))))
    for _ in range(5):
        sparse_products.mix(
            starts, places, values, np.ones((2, 5)), np.ones((7, 5)), np.ones(7), np.ones((7, 5)), False
        )
    assert used == ["NumPy"] * 3 + ["compiled"] * 2
