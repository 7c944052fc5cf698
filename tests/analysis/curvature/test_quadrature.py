import numpy as np
import pytest

from basinet.analysis.curvature.quadrature import quadratic_form


def matrix(seed=0, size=60):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((size, size)))
    values = np.concatenate([[5.0, 3.0, -0.5], np.abs(rng.standard_normal(size - 3)) * 0.1])
    return (q * values) @ q.T, values, q, rng


@pytest.mark.parametrize("f", [lambda t: np.exp(-t), lambda t: 0.1 / (2 - 0.1 * t), lambda t: (1 - 0.1 * t) ** 40])
def test_smooth_functions_of_a_matrix(f):
    h, values, q, rng = matrix()
    v = rng.standard_normal(60)
    nodes, weights = quadratic_form(h, v, steps=15)
    assert weights @ f(nodes) == pytest.approx((q.T @ v) ** 2 @ f(values), rel=1e-7)
    assert len(nodes) == 15 and (weights >= 0).all()


def test_polynomials_up_to_twice_the_steps_are_exact():
    h, _, _, rng = matrix(1)
    v = rng.standard_normal(60)
    nodes, weights = quadratic_form(h, v, steps=4)
    for degree in range(8):
        assert weights @ nodes**degree == pytest.approx(v @ np.linalg.matrix_power(h, degree) @ v, rel=1e-9)


def test_all_steps_see_everything():
    h, values, q, rng = matrix(2, size=12)
    v = rng.standard_normal(12)
    nodes, weights = quadratic_form(h, v, steps=50)
    order = np.argsort(values)
    assert nodes == pytest.approx(values[order], abs=1e-10)
    assert weights == pytest.approx(((q.T @ v) ** 2)[order], abs=1e-9)


def test_zeros():
    nodes, weights = quadratic_form(np.eye(3), np.zeros(3))
    assert len(nodes) == len(weights) == 0
    nodes, weights = quadratic_form(np.zeros((3, 3)), np.ones(3))
    assert nodes.tolist() == [0.0] and weights == pytest.approx([3.0])
