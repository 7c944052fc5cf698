import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.measures.risk import ExcessRisk, excess_risk, newton_decrement

NOTHING = (torch.zeros(1),)


class Point(nn.Module):
    def __init__(self, *start: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start, dtype=torch.float64))


def risk_of(function: Callable[[Tensor], Tensor], *start: float, **settings: float) -> ExcessRisk:
    return excess_risk(Point(*start), lambda model, _: function(model.theta).sum(), NOTHING, **settings)


def cross(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def test_quadratic_has_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    a = torch.tensor((q * np.geomspace(0.1, 10, 12)) @ q.T)
    b, start = torch.tensor(rng.standard_normal(12)), rng.standard_normal(12)
    found = risk_of(lambda x: x @ a @ x / 2 - b @ x, *start, gradient_tolerance=1e-7)
    distance = start - np.linalg.solve(a.numpy(), b.numpy())
    assert found.value == pytest.approx(distance @ a.numpy() @ distance / 2, rel=1e-10)
    assert found.converged
    assert found.value == found.loss - found.minimum
    # Conjugate gradients end after one step a dimension; the rest is the growth of the radius.
    assert found.num_products < 40


def test_softmax_regression_against_another_minimiser() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    data = torch.randn(60, 4, dtype=torch.float64), torch.randint(3, (60,))  # labels at random: not separable
    operator = HessianOperator(model, cross, data)
    best = minimize(
        lambda x: operator.at(x).loss(),
        operator.point,
        jac=lambda x: operator.at(x).gradient(),
        method="BFGS",
        options={"gtol": 1e-9},
    )
    found = excess_risk(model, cross, data, gradient_tolerance=1e-7)
    assert found.converged
    assert found.minimum == pytest.approx(best.fun, rel=1e-12)
    assert found.value == pytest.approx(operator.loss() - best.fun, rel=1e-10)


@pytest.mark.parametrize("width", [1.0, 1e-3, 1e3])
@pytest.mark.parametrize("tilt", [0.0, 0.3, -0.3])
def test_a_double_well_ends_on_the_side_where_it_began(width: float, tilt: float) -> None:
    def wells(x: Tensor) -> Tensor:
        return ((x / width) ** 2 - 1) ** 2 + tilt * x / width

    roots = np.sort(np.roots([4, 0, -4, tilt]).real)
    bottoms = {side: float(wells(torch.tensor(roots[i] * width))) for side, i in ((-1, 0), (1, 2))}
    for start in np.linspace(-3, 3, 17):
        if abs(start - roots[1]) < 1e-6:
            continue
        found = risk_of(wells, start * width, gradient_tolerance=1e-8 / width)
        assert found.minimum == pytest.approx(bottoms[1 if start > roots[1] else -1], abs=1e-12)


@pytest.mark.parametrize("start", np.linspace(0.1, 6.2, 30))
def test_a_row_of_wells_is_not_run_down(start: float) -> None:
    found = risk_of(lambda x: 0.2 * x - x.cos(), start, gradient_tolerance=1e-9)
    bottom = -np.arcsin(0.2) + (2 * np.pi if start > np.pi + np.arcsin(0.2) else 0)
    assert found.minimum == pytest.approx(0.2 * bottom - np.cos(bottom), abs=1e-12)


def test_the_loss_falls_with_every_step() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    data = torch.randn(50, 5, dtype=torch.float64), torch.randint(3, (50,))
    # The descent is deterministic: a smaller budget is the beginning of a larger one.
    found = [excess_risk(model, cross, data, max_products=budget) for budget in range(15)]
    assert found[0].value == 0.0
    assert [risk.num_products for risk in found] == list(range(15))
    assert not found[-1].converged
    minima = [risk.minimum for risk in found]
    assert all(after < before for before, after in itertools.pairwise(minima))


def test_a_minimum_at_infinity_ends_at_the_tolerance() -> None:
    model = nn.Linear(1, 2).double()
    data = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1])
    found = excess_risk(model, cross, data)
    assert found.converged
    assert 1e-6 < found.gradient_norm <= 1e-5
    assert found.minimum < 1e-4


def test_a_minimum_costs_nothing() -> None:
    found = risk_of(lambda x: x**2, 0.0)
    assert found == ExcessRisk(0.0, 0.0, 0.0, 0.0, True, 0, point=np.zeros(1))


def test_a_tolerance_below_rounding_ends() -> None:
    found = risk_of(lambda x: (x - 1) ** 2 + 1e6, 0.0, gradient_tolerance=0.0)
    assert found.value == pytest.approx(1.0, abs=1e-6)
    assert found.num_products < 30


def test_a_linear_loss_ends_at_the_budget() -> None:
    found = risk_of(lambda x: 3 * x, 1.0, max_products=20)
    assert not found.converged
    assert found.gradient_norm == pytest.approx(3.0)
    assert found.minimum < -100


def test_chunks_change_nothing_but_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    data = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    whole, parts = excess_risk(model, cross, data), excess_risk(model, cross, data, chunk=7)
    assert parts.value == pytest.approx(whole.value, rel=1e-8)


def test_float32_ends_at_its_own_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    data = torch.randn(20, 4), torch.randint(3, (20,))
    single = excess_risk(model, cross, data)
    double = excess_risk(model.double(), cross, (data[0].double(), data[1]))
    assert single.value == pytest.approx(double.value, abs=1e-4)  # of losses of the order of one


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double().eval()
    data = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    assert excess_risk(model, cross, data).value > 0
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training and all(p.grad is None for p in model.parameters())


def test_a_point_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        risk_of(lambda x: x.log(), -1.0)


def test_where_the_descent_ended() -> None:
    found = risk_of(lambda x: (x - 1) ** 2, 0.0)
    assert found.point == pytest.approx([1.0])


def test_newton_decrement() -> None:
    """Of a quadratic it is the excess risk; flat directions and those that bend down take no part."""
    h = torch.tensor([3.0, 1.0, 0.0, -2.0], dtype=torch.float64)
    start = Point(1.0, 2.0, 5.0, 0.3)
    operator = HessianOperator(start, lambda model, _: (h * model.theta**2).sum() / 2, NOTHING)
    assert newton_decrement(operator) == pytest.approx((3 + 4) / 2, rel=1e-12)
    assert newton_decrement(operator.at(np.zeros(4))) == 0.0
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    data = torch.randn(60, 4, dtype=torch.float64), torch.randint(3, (60,))
    below = excess_risk(model, cross, data, gradient_tolerance=1e-9)
    near = HessianOperator(model, cross, data).at(below.point + 1e-3)
    true = near.loss() - below.minimum
    assert newton_decrement(near) == pytest.approx(true, rel=1e-2)
