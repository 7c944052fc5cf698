"""Curvature of a plain torch model and loss, without an experiment or agents."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, nll_loss

from basinet.analysis.curvature.hessian import (
    CurvatureOperator,
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
)
from basinet.analysis.curvature.objective import Products
from basinet.analysis.curvature.samples import Chunk
from basinet.sim.data.nests import leaves, map_nest
from basinet.sim.data.rows import length, take
from basinet.sim.experiment.mistakes import first_line
from basinet.sim.tasks.calls import called, targets_of
from basinet.sim.tasks.supervised import OwnLoss
from basinet.sim.tasks.task import Batch, MeanOver

__all__ = ["fisher_operator", "gauss_newton_operator", "hessian_operator"]

Criterion = Callable[[Any, Any], Tensor]
"""Maps the outputs of a batch and its targets to the mean loss, as `nn.CrossEntropyLoss()` does."""

Data = Batch | Iterable[Batch]
"""A batch, or a `DataLoader` or other iterable of batches; a batch is a nest of tensors such as (inputs, targets)."""

T = TypeVar("T", bound=CurvatureOperator)


def hessian_operator(
    model: nn.Module,
    loss: Criterion,
    data: Data,
    *,
    chunk: int | None = None,
    mean_over: MeanOver = "samples",
    products: Products = "exact",
) -> HessianOperator:
    """Return the Hessian of the mean loss over a data set as a linear operator.

    It is a scipy operator: `H @ v` multiplies, and `scipy.sparse.linalg.eigsh(H)` works. This package's
    `top_eigenvalues(H)`, `spectrum(H)` and `trace(H)` stop at a given accuracy. See `HessianOperator` for the
    conventions.

    Args:
        model: A model in evaluation mode. Its trainable parameters, in the order of `model.parameters()`, are the
            coordinates; it is never written to.
        loss: A loss of outputs and targets: the mean over the samples of a batch, which is checked. The outputs are
            whatever the model returns. The weighted means of `nn.CrossEntropyLoss` and `nn.NLLLoss`, with class weights
            and ignored labels, are over all that counts in the data, however these are batched.
        data: A batch: a tuple such as (inputs, targets), of which the model takes all parts but the last, or a mapping
            or dataclass, of which it takes the fields that its forward names and the loss the field targets, target,
            labels, label or y, or the whole batch if it has none. Or a `DataLoader` or other iterable of batches, of
            which one pass is read and kept. Tensors are moved to the device of the parameters, and floating ones to
            their dtype: a float64 model gives float64 accuracy.
        chunk: Maximum number of samples differentiated at once; by default the largest batch of a loader, or all
            samples of a single batch. It affects the result by rounding only.
        mean_over: "batch" if the loss is that of a whole batch and no mean over samples: the operator is that of the
            mean over the batches given.
        products: "differences" for products by differences of gradients, if autograd lacks the second derivative of
            the model: see `Objective`.

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
    return _operator(HessianOperator, model, loss, data, chunk, mean_over, products)


def gauss_newton_operator(
    model: nn.Module,
    loss: Criterion,
    data: Data,
    *,
    chunk: int | None = None,
    mean_over: MeanOver = "samples",
    products: Products = "exact",
) -> GaussNewtonOperator:
    """Return the Gauss-Newton matrix (for cross-entropy, the Fisher matrix) as a linear operator.

    Args:
        model: As for `hessian_operator`.
        loss: As for `hessian_operator`.
        data: As for `hessian_operator`.
        chunk: As for `hessian_operator`.
        mean_over: As for `hessian_operator`.
        products: As for `hessian_operator`.

    Returns:
        The operator, [P, P]; see `GaussNewtonOperator`.
    """
    return _operator(GaussNewtonOperator, model, loss, data, chunk, mean_over, products)


def fisher_operator(
    model: nn.Module, loss: Criterion, data: Data, *, chunk: int | None = None, products: Products = "exact"
) -> FisherOperator:
    """Return the empirical Fisher matrix, the second moment of the per-sample gradients, as a linear operator.

    Samples count in this moment as in the mean loss: with class weights and ignored labels, it is Σ w ∇ℓ ∇ℓᵀ / Σ w.

    Args:
        model: As for `hessian_operator`.
        loss: As for `hessian_operator`.
        data: As for `hessian_operator`.
        chunk: As for `hessian_operator`.
        products: As for `hessian_operator`.

    Returns:
        The operator, [P, P]; see `FisherOperator`.
    """
    return _operator(FisherOperator, model, loss, data, chunk, "samples", products)


def _operator(
    kind: type[T],
    model: nn.Module,
    loss: Criterion,
    data: Data,
    chunk: int | None,
    mean_over: MeanOver,
    products: Products,
) -> T:
    """Construct an operator from data in any of the accepted forms."""
    like = next((p for p in model.parameters() if p.requires_grad), torch.zeros(()))
    batches = _batches(data)
    try:
        joined = map_nest(lambda *parts: torch.cat(parts), *batches)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"data must yield batches that differ in their number of samples alone ({error}).") from error
    joined = map_nest(lambda t: t.to(like.device, like.dtype if t.is_floating_point() else None), joined)
    sizes = [length(batch) for batch in batches]

    def of_batch(model: nn.Module, batch: Batch) -> Tensor:
        targets = targets_of(batch, None)
        return loss(called(model, batch), batch if targets is None else targets)

    if mean_over == "batch":
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        rows = [torch.arange(start, end) for start, end in pairwise(ends)]
        return kind(model, of_batch, joined, chunk=chunk, batches=rows, products=products)
    if chunk is None and len(batches) > 1:
        chunk = max(sizes)
    if (weighted := _weighted(loss, joined)) is not None:
        return kind(model, weighted, joined, chunk=chunk, products=products)
    operator = kind(model, of_batch, joined, chunk=chunk, products=products)
    _check_mean(operator, chunk)
    return operator


def _is_batch(data: Data) -> bool:
    """Return whether data are a batch, and not several; a tuple or list is one if a part of it is a tensor."""
    if isinstance(data, tuple | list):
        return hasattr(data, "_fields") or any(isinstance(part, Tensor) for part in data)
    return isinstance(data, Mapping) or is_dataclass(data)


def _batches(data: Data) -> list[Batch]:
    """List the batches of a data set, each a nest of tensors with equally many samples."""
    batches = [data] if _is_batch(data) else list(data)
    batches = [tuple(batch) if isinstance(batch, list) else batch for batch in batches]
    for batch in batches:
        found = leaves(batch)
        if not _is_batch(batch) or any(t.ndim == 0 for t in found) or len({len(t) for t in found}) != 1:
            raise ValueError(
                "data must be a batch, such as a pair (inputs, targets) of tensors with equally many samples, or yield"
                " such batches; wrap a Dataset in a DataLoader."
            )
    if not batches:
        raise ValueError("data must hold at least one sample.")
    return batches


def _weighted(loss: Criterion, data: Batch) -> Callable[[nn.Module, Batch], Tensor] | None:
    """Return a weighted mean of torch's as the objective of a task that knows what counts; None for other losses."""
    if loss is cross_entropy or loss is nll_loss:
        loss = nn.CrossEntropyLoss() if loss is cross_entropy else nn.NLLLoss()
    targets = targets_of(data, None)
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or not isinstance(targets, Tensor):
        return None
    if type(loss) not in (nn.CrossEntropyLoss, nn.NLLLoss):  # a subclass may compute something else
        return None
    ignored, smoothing = loss.ignore_index, getattr(loss, "label_smoothing", 0.0)
    weight = None if loss.weight is None else loss.weight.to(targets.device)
    counts_alike = targets.is_floating_point() or (weight is None and not (targets == ignored).any())
    # Smoothing makes labels of weight 0 count, for the other classes.
    fits = weight is None or bool((weight > 0 if smoothing else weight >= 0).all())
    if loss.reduction != "mean" or counts_alike or not fits:
        return None
    function = partial(cross_entropy, label_smoothing=smoothing) if type(loss) is nn.CrossEntropyLoss else nll_loss

    def weights(batch: Batch) -> Tensor:
        labels = targets_of(batch, None)
        counted: Tensor = labels != ignored
        return counted if weight is None else weight[labels.where(counted, 0)] * counted

    def losses(outputs: Any, batch: Batch) -> Tensor:
        of_classes, scale = None if weight is None else weight.to(outputs), weights(batch).to(outputs)
        values = function(outputs, targets_of(batch, None), of_classes, ignore_index=ignored, reduction="none")
        return values / scale.where(scale > 0, 1)

    task = OwnLoss(train=data, num_outputs=1, classification=False, loss_function=losses, weights_function=weights)
    return task.objective


def _check_mean(operator: CurvatureOperator, chunk: int | None) -> None:
    """Raise unless the loss of any batch is the mean of its samples' losses, as combining chunks requires."""
    curvature = operator.curvature
    objective, data = curvature.objective, curvature.objective.samples.data
    eps = objective.eps

    def loss(part: Chunk) -> float:
        with torch.no_grad():
            return float(objective.losses(curvature.points, curvature.buffers, part))

    way_out = "" if operator.kind == "empirical_fisher" else ", or mean_over='batch' be given"
    needed = (
        "loss must be the mean over the samples of a batch, as with reduction='mean' (weights and ignored labels are"
        f" known of nn.CrossEntropyLoss and nn.NLLLoss themselves){way_out}"
    )
    # The order is random, since samples that lie together often count alike.
    order = torch.randperm(length(data), generator=torch.Generator().manual_seed(0)).to(objective.device)
    for rows in order.tensor_split(max(1, len(order) // max(2, chunk or len(order)))):
        batch, size = take(data, rows), len(rows)
        whole = loss(Chunk(batch))
        shares = curvature.points.new_full((1, size), 1 / size)
        try:
            with warnings.catch_warnings(action="ignore"):  # about shapes that only a single sample has
                mean = loss(Chunk(map_nest(lambda t: t[None], batch), weights=shares))
        except (IndexError, RuntimeError, ValueError) as error:
            raise ValueError(f"{needed}; of a single sample it fails ({first_line(error)}).") from error
        if not abs(whole - mean) <= eps**0.5 * (abs(whole) + abs(mean)) + eps:
            raise ValueError(
                f"{needed}; of {size} samples it is {whole:.6g}, and the mean of the losses of each alone {mean:.6g}."
            )
