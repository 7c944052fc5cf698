"""Curvature matrices against curvlinops', on networks where those are right: without LayerNorm, GroupNorm and SiLU."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from basinet.analysis.curvature.hessian import FisherOperator, GaussNewtonOperator, HessianOperator

MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 3, 2, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(27, 3)
    ),
}


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it uses what torch has deprecated


@pytest.fixture
def curvlinops() -> ModuleType:
    return pytest.importorskip("curvlinops", exc_type=ImportError)


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("kind", "peer"), [(HessianOperator, "Hessian"), (GaussNewtonOperator, "GGN"), (FisherOperator, "EF")]
)
def test_matrices_of_ragged_batches(curvlinops: ModuleType, name: str, kind: type, peer: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().double()
    data = torch.randn(23, 8, dtype=torch.float64), torch.randint(3, (23,))
    ours = kind(model, loss, data, chunk=10)
    batches = [tuple(part[start : start + 10] for part in data) for start in (0, 10, 20)]
    theirs = getattr(curvlinops, f"{peer}LinearOperator")(
        model, nn.CrossEntropyLoss(), list(model.parameters()), batches
    )
    eye = torch.eye(ours.shape[1], dtype=torch.float64)
    expected = (theirs @ eye).numpy()
    np.testing.assert_allclose(ours @ eye.numpy(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
