"""Measures of a loss in which some labels do not count, against autograd of torch's own mean."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from basinet.algorithms import draws
from basinet.analysis.curvature.hessian import FisherOperator, HessianOperator, hessian_matrix
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.measures.measure import Needs
from basinet.analysis.measures.measured import take_snapshot
from basinet.analysis.measures.noise import gradient_noise
from basinet.sim.tasks import Task

N, C = 11, 3


@pytest.fixture(params=[(), (2,)], ids=["a label each", "two labels each"])
def case(request):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(N, *request.param, 2, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, C, (N, *request.param), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.4] = -100
    torch.manual_seed(0)
    return nn.Linear(2, C).double(), Task(train=(inputs, targets), num_outputs=C)


def mean(model, task, rows=slice(None)):
    """Return torch's mean over the labels that count as a function of the flat parameters."""
    inputs, targets = (t[rows] for t in task.train)

    def loss(flat):
        parameters = {"weight": flat[: 2 * C].view(C, 2), "bias": flat[2 * C :]}
        return nn.functional.cross_entropy(
            functional_call(model, parameters, (inputs,)).flatten(0, -2), targets.flatten()
        )

    return loss


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_hessian_is_that_of_the_mean_over_the_labels_that_count(case, chunk):
    model, task = case
    wanted = torch.autograd.functional.hessian(mean(model, task), flat(model))
    np.testing.assert_allclose(
        hessian_matrix(model, task.objective, task.train, chunk=chunk), wanted.numpy(), rtol=0, atol=1e-14
    )
    operator = HessianOperator(model, task.objective, task.train, chunk=chunk)
    assert operator.loss() == pytest.approx(float(mean(model, task)(flat(model))), rel=1e-13)


def test_each_agent_has_the_mean_over_its_own(case):
    model, task = case
    holdings = [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [2, 7, 9, 10]]
    objective = Objective(model, task.objective, task.train, holdings=holdings, chunk=4)
    losses = Curvature(objective, flat(model).expand(3, -1)).losses()
    wanted = [float(mean(model, task, rows)(flat(model))) for rows in holdings]
    np.testing.assert_allclose(losses.numpy(), wanted, rtol=1e-13)


def test_samples_have_the_weight_of_their_labels(case):
    """Fisher matrix and noise of the samples' gradients, whose weighted mean is the gradient of the mean."""
    model, task = case
    counts = (task.train[1] >= 0).view(N, -1).sum(1)
    rows = counts.nonzero()[:, 0].tolist()
    gradients = torch.stack([torch.func.grad(mean(model, task, [row]))(flat(model)) for row in rows])
    weights = (counts.double() / counts.sum())[rows]
    second = (weights[:, None] * gradients).T @ gradients
    for chunk in (None, 4):
        operator = FisherOperator(model, task.objective, task.train, chunk=chunk)
        np.testing.assert_allclose(operator @ np.eye(3 * C), second.numpy(), rtol=0, atol=1e-14)
    average = weights @ gradients
    torch.testing.assert_close(average, torch.func.grad(mean(model, task))(flat(model)), rtol=0, atol=1e-14)
    curvature = Curvature(Objective(model, task.objective, task.train, chunk=4), flat(model)[None])
    keys = torch.tensor([draws.key(0, "test")])
    krylov, _ = take_snapshot(curvature, keys, Needs(snapshot=True), max_steps=9)
    (noise,) = gradient_noise(curvature, krylov, keys)
    assert noise.trace == pytest.approx(float(second.trace() - average @ average), rel=1e-12)
