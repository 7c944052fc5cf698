"""Curvature: products of many agents against loops, and how many products eigenvalues and traces need.

The network and the data are the digits MLP 64-64-10 (tanh) after 400 steps of AdamW on 1,437 samples, and a CNN of
a million parameters on the same images. Comparisons with curvlinops are skipped where it is not installed.
"""

import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.algorithms import draws
from basinet.analysis.curvature.hessian import HessianOperator
from basinet.analysis.curvature.matrices import Curvature
from basinet.analysis.curvature.objective import Objective
from basinet.analysis.curvature.spectral import spectra
from basinet.analysis.curvature.top_eigenvalues import top_eigenvalues
from basinet.analysis.curvature.trace import hutchinson
from basinet.sim.tasks.vision.digits import digits
from tests.benchmarks.harness import Row, Step, in_turn

AGENTS, OWN = 16, 64
RUNS = 20
PROBES = 12

Batch = tuple[Tensor, ...]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy."""
    return cross_entropy(model(batch[0]), batch[1])


def _trained(model: nn.Module, data: Batch, steps: int, batch: int | None = None) -> nn.Module:
    """Train a model by AdamW, on all samples or on batches in turn."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2 if batch is None else 1e-3)
    for step in range(steps):
        rows = slice(None) if batch is None else slice(step * batch % len(data[0]), step * batch % len(data[0]) + batch)
        optimizer.zero_grad()
        loss(model, tuple(part[rows] for part in data)).backward()
        optimizer.step()
    return model.eval()


def _mlp(dtype: torch.dtype) -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    inputs, labels = digits().train
    data = inputs.flatten(1).to(dtype), labels
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)).to(dtype)
    return _trained(model, data, 400), data


def _cnn() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.GELU()]
    head = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128 * 16, 440), nn.GELU(), nn.Linear(440, 10)]
    images, labels = digits().train
    model = _trained(nn.Sequential(*layers, *head), (images, labels), 60, batch=64)
    return model, (images[:64], labels[:64])


def _loop(models: list[nn.Module], batches: list[Batch], vectors: Tensor) -> Step:
    """Multiply one model after the other, by double backward with a fresh graph."""
    parameters = [list(model.parameters()) for model in models]

    def step() -> None:
        for model, own, batch, vector in zip(models, parameters, batches, vectors, strict=True):
            slopes = torch.autograd.grad(loss(model, batch), own, create_graph=True)
            value = torch.cat([slope.flatten() for slope in slopes]) @ vector
            torch.autograd.grad(value, own)

    return step


def _curvlinops(models: list[nn.Module], batches: list[Batch], vectors: Tensor) -> Step:
    """Multiply one model after the other, by the single-vector products of curvlinops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from curvlinops import HessianLinearOperator

    operators = [
        HessianLinearOperator(
            model, nn.CrossEntropyLoss(), list(model.parameters()), [batch], check_deterministic=False
        )
        for model, batch in zip(models, batches, strict=True)
    ]

    def step() -> None:
        for operator, vector in zip(operators, vectors, strict=True):
            operator @ vector

    return step


def _row(work: str, base: str, target: tuple[str, float] | None, ours: Step, theirs: Step, inverse: bool) -> Row:
    times = in_turn(ours, theirs)
    row = Row("curvature", work, target, base=base)
    row.ours_ms, row.base_ms = (median(1e3 * t[i].cpu for t in times) for i in (0, 1))
    row.ours_wall_ms = median(1e3 * own.wall for own, _ in times)
    row.ratios = [base.cpu / own.cpu if inverse else own.cpu / base.cpu for own, base in times]
    return row


def products() -> Iterator[Row]:
    """Measure products of 16 agents with 64 samples each, and of one model with all samples."""
    model, data = _mlp(torch.float32)
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    points = start + 0.01 * torch.randn(AGENTS, len(start))
    holdings = [list(range(OWN * agent, OWN * (agent + 1))) for agent in range(AGENTS)]
    curvature = Curvature(Objective(model, loss, data, holdings=holdings), points)
    vectors = torch.randn_like(points)
    models = []
    for point in points:
        models.append(nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)))
        nn.utils.vector_to_parameters(point.clone(), models[-1].parameters())
    batches = [tuple(part[held] for part in data) for held in holdings]

    def ours() -> Tensor:
        return curvature.products(vectors)

    peers: dict[str, tuple[Callable[..., Step], float]] = {
        "a loop of double backwards": (_loop, 2.5),
        "a loop of curvlinops' products": (_curvlinops, 15.0),
    }
    for name, (make, target) in peers.items():
        work = f"{name} over ours, {AGENTS} agents, MLP 64-64-10, {OWN} samples each"
        try:
            theirs = make(models, batches, vectors)
        except ImportError as missing:
            yield Row("curvature", work, more={"skipped": "not installed", "reason": str(missing)})
            continue
        yield _row(work, name, (">=", target), ours, theirs, inverse=True)
    cases = {"MLP 64-64-10, 1,437 samples": (model, data), "CNN of a million parameters, 64 samples": _cnn()}
    for name, (one, batch) in cases.items():
        operator = HessianOperator(one, loss, batch)
        vector = np.random.default_rng(0).standard_normal(operator.shape[1])
        own = list(one.parameters())

        def gradient(one: nn.Module = one, batch: Batch = batch, own: list[Any] = own) -> object:
            return torch.autograd.grad(loss(one, batch), own)

        def product(operator: HessianOperator = operator, vector: Any = vector) -> object:
            return operator @ vector

        yield _row(f"a product over a gradient, {name}", "a gradient", ("<=", 1.6), product, gradient, inverse=False)


def eigenvalues(count: int = 10, tol: float = 1e-3) -> Iterator[Row]:
    """Count the products that the ten largest eigenvalues of the CNN need, against those of scipy's eigsh."""
    operator = HessianOperator(*_of(_cnn()))
    exact = top_eigenvalues(operator, num_eigenvalues=count, tol=1e-6).values
    found = top_eigenvalues(operator, num_eigenvalues=count, tol=tol)
    before = operator.num_products
    start = np.random.default_rng(0).standard_normal(operator.shape[1])
    theirs = eigsh(operator, k=count, which="LA", tol=tol, v0=start, return_eigenvectors=False)[::-1]
    row = Row("curvature", "products for ten eigenvalues to 1e-3 over eigsh's, CNN", ("<=", 1.0), base="eigsh")
    row.ratios = [found.num_products / (operator.num_products - before)]
    errors = [float(np.max(np.abs(values - exact) / exact)) for values in (found.values, theirs)]
    row.note = f"{found.num_products} products; errors {errors[0]:.0e}, {errors[1]:.0e}"
    yield row


def _of(case: tuple[nn.Module, Batch]) -> tuple[Any, Any, Any]:
    return case[0], loss, case[1]


def traces() -> Iterator[Row]:
    """Measure the error of the trace from twelve products beyond the eigenvalues', and that of plain probes."""
    model, data = _mlp(torch.float64)
    operator = HessianOperator(model, loss, data)
    matrix = operator @ np.eye(operator.shape[1])
    exact = float(np.trace(matrix))
    dense = torch.from_numpy(matrix)
    keys = torch.arange(RUNS)
    _, found = spectra(
        lambda v: v @ dense, draws.fold(keys, 0), len(matrix), top=10, num_probes=PROBES, max_probes=PROBES
    )
    values = [spectrum.trace.value for spectrum in found]
    plain = [hutchinson(LinearOperator(matrix.shape, lambda v: matrix @ v, dtype=float), num_products=PROBES, seed=seed)
             for seed in range(RUNS)]  # fmt: skip
    for name, estimates, target in (
        (f"relative error of the trace, {PROBES} products beyond the eigenvalues'", values, ("<=", 0.02)),
        (f"relative error of the trace, {PROBES} products of plain probes", [e.value for e in plain], None),
    ):
        row = Row("curvature", f"{name}, root mean square of {RUNS}", target)
        row.ratios = [float(np.sqrt(np.mean((np.array(estimates) / exact - 1) ** 2)))]
        yield row
