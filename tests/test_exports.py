"""What packages promise in `__all__` is what one finds in them."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PACKAGES = (
    "basinet",
    "basinet.topologies",
    "basinet.topologies.networks",
    "basinet.algorithms",
    "basinet.algorithms.strategies",
    "basinet.algorithms.optimizers",
    "basinet.sim",
    "basinet.sim.models",
    "basinet.sim.tasks",
    "basinet.analysis",
    "basinet.analysis.plots",
    "basinet.analysis.theory",
    "basinet.analysis.studies",
    "basinet.launch",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_what_can_be_imported(package):
    module = importlib.import_module(package)
    promised = module.__all__
    assert len(set(promised)) == len(promised)
    for name in promised:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


def test_the_rooms_with_headline_names_import_neither_torch_nor_matplotlib():
    rooms = "basinet.algorithms, basinet.analysis.plots, basinet.launch, basinet.sim"
    code = f"import sys, {rooms}; print({{'torch', 'matplotlib'}} & {{*sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return model, nn.CrossEntropyLoss(), (torch.randn(11, 3), torch.randint(2, (11,)))


def dense(model, loss, x, y):
    names, parameters = zip(*model.named_parameters(), strict=True)
    sizes = [p.numel() for p in parameters]

    def value(flat):
        parts = [part.view(p.shape) for part, p in zip(flat.split(sizes), parameters, strict=True)]
        return loss(torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (x.double(),)), y)

    return torch.autograd.functional.hessian(value, nn.utils.parameters_to_vector(parameters).detach()).numpy()


@pytest.mark.parametrize("loaded", [False, True])
def test_the_curvature_suite_measures_a_plain_model(classifier, loaded):
    from basinet.analysis import hessian_operator, spectrum, top_eigenvalues, trace

    model, loss, data = classifier
    expected = dense(model, loss, *data)
    H = hessian_operator(model, loss, DataLoader(TensorDataset(*data), batch_size=4) if loaded else data)
    values = np.linalg.eigvalsh(expected)[::-1]
    np.testing.assert_allclose(H @ np.eye(len(expected)), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(top_eigenvalues(H, 3, tol=1e-9).values, values[:3], rtol=0, atol=1e-9)
    found = spectrum(H, top=2, bottom=1, tol=1e-9)
    np.testing.assert_allclose(found.top, values[:2], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.bottom, values[-1:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.trace.value, np.trace(expected), rtol=0, atol=1e-9)  # the basis is complete
    for method in ("xtrace", "hutch++", "hutchinson"):
        estimate = trace(H, method=method, num_products=30)
        assert abs(estimate.value - np.trace(expected)) <= 5 * estimate.error + 1e-9


def test_the_suite_has_the_gauss_newton_and_fisher_matrices(classifier):
    from basinet.analysis import fisher_operator, gauss_newton_operator

    model, loss, (x, y) = classifier
    gradients = []
    jacobians = []
    for sample, label in zip(x.double().split(1), y.split(1), strict=True):
        parameters = list(model.parameters())
        outputs = model(sample)[0]
        rows = [torch.autograd.grad(output, parameters, retain_graph=True) for output in outputs]
        jacobian = torch.stack([nn.utils.parameters_to_vector(row) for row in rows])
        p = outputs.softmax(0).detach()
        jacobians.append(jacobian.T @ (torch.diag(p) - p[:, None] * p) @ jacobian)
        gradients.append(nn.utils.parameters_to_vector(torch.autograd.grad(loss(outputs[None], label), parameters)))
    every = np.eye(len(gradients[0]))
    G, E = gauss_newton_operator(model, loss, (x, y)) @ every, fisher_operator(model, loss, (x, y)) @ every
    np.testing.assert_allclose(G, torch.stack(jacobians).mean(0), rtol=0, atol=1e-14)
    g = torch.stack(gradients)
    np.testing.assert_allclose(E, g.T @ g / len(g), rtol=0, atol=1e-14)


X, Y = torch.ones(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize("name", ["spectrum", "top_eigenvalues", "trace"])
def test_the_suite_refuses_matrices_that_are_not_square(name):
    import basinet.analysis

    with pytest.raises(ValueError, match="must be square"):
        getattr(basinet.analysis, name)(np.ones((2, 3)))


def test_the_trace_names_its_methods():
    from basinet.analysis import trace

    with pytest.raises(ValueError, match="method must be one of xtrace, hutch"):
        trace(np.eye(3), method="exact")


@pytest.mark.parametrize(
    ("loss", "data", "message"),
    [
        (nn.CrossEntropyLoss(), X, "data must be a batch"),
        (nn.CrossEntropyLoss(), (X, Y[:3]), "data must be a batch"),
        (nn.CrossEntropyLoss(), TensorDataset(X, Y), "wrap a Dataset in a DataLoader"),
        (nn.CrossEntropyLoss(), [{"inputs": X, "targets": Y[:3]}], "data must be a batch"),
        (nn.CrossEntropyLoss(), [], "at least one sample"),
        (nn.CrossEntropyLoss(reduction="sum"), [(X, Y), (X, Y)], "loss must be the mean"),
    ],
)
def test_the_suite_refuses_what_it_would_measure_wrongly(classifier, loss, data, message):
    from basinet.analysis import hessian_operator

    with pytest.raises(ValueError, match=message):
        hessian_operator(classifier[0], loss, data)
