"""What our optimizers take as parameters, gradients and learning rates, and what they refuse."""

import pytest
import torch
from torch import nn

from basinet.algorithms import row_kernels
from basinet.algorithms.optimizers import LOZO, LOZOM, NSGD, ClippedSGD, GaLore, GoLore, MeZO, NSGDm
from basinet.algorithms.row_norms import has_loops, row_math

every = pytest.mark.parametrize("kind", [NSGD, NSGDm, ClippedSGD, GaLore, GoLore, MeZO, LOZO, LOZOM])


def step(optimizer, parameters):
    """Take a step down the sum of the parameters."""
    for p in parameters:
        p.grad = torch.ones_like(p)
    return optimizer.step(lambda: torch.stack([p.double().sum() for p in parameters]).sum())


@every
def test_the_leading_axis_has_to_count_the_agents(kind):
    with pytest.raises(ValueError, match=r"the axis of 4 agents, and parameter 1 has the shape \(2, 5\)"):
        kind([nn.Parameter(torch.zeros(4, 5)), nn.Parameter(torch.zeros(2, 5))], agents=4)


@every
def test_complex_parameters_are_refused(kind):
    with pytest.raises(ValueError, match=r"must be real, and parameter 0 is torch\.complex64"):
        kind([nn.Parameter(torch.zeros(3, 3, dtype=torch.complex64))])


@every
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0,)])
def test_parameters_without_numbers_stay(kind, shape):
    parameters = [nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(6, 5))]
    optimizer = kind(parameters, lr=0.1)
    step(optimizer, parameters)
    assert float(parameters[1].detach().sum()) < 0


@every
def test_the_learning_rate_may_be_a_tensor(kind):
    found = []
    for lr in (0.125, torch.tensor(0.125)):
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(5))]
        optimizer = kind(parameters, lr=lr, weight_decay=0.5)
        step(optimizer, parameters)
        found.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert torch.equal(*found)
    with pytest.raises(ValueError, match="lr must be"):
        kind(parameters, lr=torch.tensor(-1.0))


@every
def test_one_step_in_inference_mode_and_one_outside(kind):
    parameters = [nn.Parameter(torch.zeros(6, 5))]
    optimizer = kind(parameters, lr=0.1)
    with torch.inference_mode():
        step(optimizer, parameters)
    step(optimizer, parameters)


@pytest.mark.parametrize("kind", [NSGD, NSGDm, ClippedSGD, GaLore])
def test_sparse_gradients_are_refused(kind):
    p = nn.Parameter(torch.zeros(4, 3))
    optimizer = kind([p])
    p.grad = torch.eye(4, 3).to_sparse()
    with pytest.raises(RuntimeError, match="dense gradients"):
        optimizer.step()


@pytest.mark.parametrize("kind", [NSGD, NSGDm, ClippedSGD])
def test_a_view_of_negatives_is_what_it_shows(kind):
    p = nn.Parameter(torch.zeros(4, 3))
    optimizer = kind([p], lr=0.1)
    p.grad = torch._neg_view(-torch.ones(4, 3))
    optimizer.step()
    assert (p < 0).all()


class Wrapped(torch.Tensor):
    """A subclass, such as those whose numbers are on several machines."""


def test_subclasses_are_left_to_torch(monkeypatch):
    plain, wrapped = torch.ones(3), torch.ones(3).as_subclass(Wrapped)
    assert has_loops([plain, nn.Parameter(plain)]) and not has_loops([plain, wrapped])
    monkeypatch.setattr(row_kernels, "CompiledMath", lambda *_: pytest.fail("it was given to a compiled loop"))
    squares = row_math(1, [wrapped]).zeros()
    row_math(1, [wrapped]).add_squares([wrapped], squares)
    assert float(squares) == pytest.approx(3)


def test_patterns_of_whole_may_fit_in_any_group():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    named = dict(model.named_parameters())
    decay = [(name, p) for name, p in named.items() if name.endswith("weight")]
    rest = [(name, p) for name, p in named.items() if name.endswith("bias")]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest}]
    optimizer = GaLore(groups, rank=2, whole=("0.weight",))
    step(optimizer, list(named.values()))
    assert [name for name, p in named.items() if "basis" in optimizer.state[p]] == ["1.weight"]
    with pytest.raises(ValueError, match=r"no parameter fits 'head\*'; there are 0.weight, 1.weight, 0.bias, 1.bias"):
        GaLore(groups, rank=2, whole=("head*",))
    with pytest.raises(ValueError, match=r"no parameter fits .0\.weight.; there are 0\.bias, 1\.bias"):
        GaLore([groups[0], {**groups[1], "whole": ("0.weight",)}], rank=2)
    # A state that was saved without it says which parameters are whole: none.
    parameters = list(named.values())
    plain = GaLore(groups, rank=2)
    step(plain, parameters)
    optimizer.load_state_dict(plain.state_dict())
    step(optimizer, parameters)


def test_a_frozen_parameter_keeps_its_momentum_and_changes_no_others():
    def run(freeze):
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(4, 5))]
        optimizer = LOZOM(parameters, lr=0.1, rank=2, period=2, momentum=0.9)
        for number in range(6):
            parameters[0].requires_grad_(not (freeze and number >= 1))
            slope = torch.tensor(1.0 if number == 0 else 0.0)
            optimizer.step(lambda slope=slope: slope * parameters[1].sum())
        return parameters[1].detach(), optimizer.state[parameters[1]]["momentum"]

    for alone, together in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(alone, together, rtol=1e-6, atol=1e-7)


def test_all_frozen_and_no_loss():
    p = nn.Parameter(torch.ones(3, 3), requires_grad=False)
    optimizer = LOZO([p], lr=0.1)
    assert float(optimizer.step(lambda: p.sum())) == 9.0
    assert (p == 1).all()
    with pytest.raises(ValueError, match="must return the loss, got None"):
        MeZO([nn.Parameter(torch.ones(3))]).step(lambda: None)
