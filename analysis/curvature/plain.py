"""Curvature of a plain torch model and loss, without an experiment or agents."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from basinet.analysis.curvature.hessian import (
    CurvatureOperator,
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
)
from basinet.analysis.curvature.samples import Chunk
from basinet.sim.tasks.task import Batch

__all__ = ["fisher_operator", "gauss_newton_operator", "hessian_operator"]

Criterion = Callable[[Any, Tensor], Tensor]
"""Maps the outputs of a batch and its targets to the mean loss, as `nn.CrossEntropyLoss()` does."""

Data = Iterable[Any]
"""A pair (inputs, targets) of tensors, or a `DataLoader` or other iterable of such pairs."""

T = TypeVar("T", bound=CurvatureOperator)


def hessian_operator(model: nn.Module, loss: Criterion, data: Data, *, chunk: int | None = None) -> HessianOperator:
    """Return the Hessian of the mean loss over a data set as a linear operator.

    It is a scipy operator: `H @ v` multiplies, and `scipy.sparse.linalg.eigsh(H)` works. This package's
    `top_eigenvalues(H)`, `spectrum(H)` and `trace(H)` stop at a given accuracy. See `HessianOperator` for the
    conventions.

    Args:
        model: A model in evaluation mode. Its trainable parameters, in the order of `model.parameters()`, are the
            coordinates; it is never written to.
        loss: A loss of outputs and targets, such as `nn.CrossEntropyLoss()`: the mean over the samples of a batch.
        data: A pair (inputs, targets) of tensors, or a `DataLoader`, of which one pass is read and kept. Tensors are
            moved to the device of the parameters, and floating ones to their dtype: a float64 model gives float64
            accuracy.
        chunk: Maximum number of samples differentiated at once; by default the largest batch of a loader, or all
            samples of a pair of tensors.

    Returns:
        The operator, [P, P].

    Raises:
        ValueError: If the data are not such tensors, if the loss is not a mean, or as for `HessianOperator`.

    Example:
        The mean of (x θ − y)² has the Hessian 2 mean(x xᵀ).

        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> model, x = nn.Linear(2, 1, bias=False).double(), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> loader = DataLoader(TensorDataset(x, torch.zeros(2, 1)), batch_size=1)
        >>> H = hessian_operator(model, nn.MSELoss(), loader)
        >>> (H @ [1.0, 1.0]).round(9)
        array([1., 9.])
    """
    return _operator(HessianOperator, model, loss, data, chunk)


def gauss_newton_operator(
    model: nn.Module, loss: Criterion, data: Data, *, chunk: int | None = None
) -> GaussNewtonOperator:
    """Return the Gauss-Newton matrix (for cross-entropy, the Fisher matrix) as a linear operator.

    Args:
        model: As for `hessian_operator`.
        loss: As for `hessian_operator`.
        data: As for `hessian_operator`.
        chunk: As for `hessian_operator`.

    Returns:
        The operator, [P, P]; see `GaussNewtonOperator`.
    """
    return _operator(GaussNewtonOperator, model, loss, data, chunk)


def fisher_operator(model: nn.Module, loss: Criterion, data: Data, *, chunk: int | None = None) -> FisherOperator:
    """Return the empirical Fisher matrix, the second moment of the per-sample gradients, as a linear operator.

    Args:
        model: As for `hessian_operator`.
        loss: As for `hessian_operator`.
        data: As for `hessian_operator`.
        chunk: As for `hessian_operator`.

    Returns:
        The operator, [P, P]; see `FisherOperator`.
    """
    return _operator(FisherOperator, model, loss, data, chunk)


def _operator(kind: type[T], model: nn.Module, loss: Criterion, data: Data, chunk: int | None) -> T:
    """Construct an operator from data in any of the accepted forms."""
    like = next((p for p in model.parameters() if p.requires_grad), torch.zeros(()))
    batches = _batches(data)
    tensors = tuple(
        torch.cat(column).to(like.device, like.dtype if column[0].is_floating_point() else None)
        for column in zip(*batches, strict=True)
    )
    if chunk is None and len(batches) > 1:
        chunk = max(len(inputs) for inputs, _ in batches)
    operator = kind(model, lambda model, batch: loss(model(batch[0]), batch[1]), tensors, chunk=chunk)
    if chunk is not None and len(tensors[0]) > 1:
        _check_mean(operator, tensors)
    return operator


def _batches(data: Data) -> list[Batch]:
    """List the batches of a data set, each a pair of tensors with equally many samples."""
    found = list(data)
    batches = [tuple(found)] if found and all(isinstance(part, Tensor) for part in found) else found
    for batch in batches:
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)
        if not pair or any(t.ndim == 0 for t in batch) or len(batch[0]) != len(batch[1]):
            raise ValueError(
                "data must be a pair (inputs, targets) of tensors with equally many samples, or yield such batches; "
                "wrap a Dataset in a DataLoader."
            )
    if not batches:
        raise ValueError("data must hold at least one sample.")
    return [tuple(batch) for batch in batches]


def _check_mean(operator: CurvatureOperator, data: Batch) -> None:
    """Raise unless the loss of two samples is the mean of their losses, as combining chunks requires."""
    objective = operator.curvature.objective

    def loss(rows: slice) -> float:
        with torch.no_grad():
            chunk = Chunk(tuple(t[rows] for t in data))
            return float(objective.losses(operator.curvature.points, operator.curvature.buffers, chunk))

    both, one, other = loss(slice(2)), loss(slice(1)), loss(slice(1, 2))
    if abs(both - (one + other) / 2) > torch.finfo(objective.dtype).eps ** 0.5 * (abs(one) + abs(other)):
        raise ValueError(
            f"loss must be the mean over the samples of a batch, as with reduction='mean'; for two samples it is "
            f"{both:.6g}, for each alone {one:.6g} and {other:.6g}."
        )
