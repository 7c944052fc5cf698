"""Curvature matrices at one point, as scipy linear operators and as dense matrices."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from torch import Tensor, nn

from basinet.analysis.curvature.functional import Loss
from basinet.analysis.curvature.matrices import Curvature, Kind
from basinet.analysis.curvature.objective import Objective, Products
from basinet.sim.tasks.task import Batch

__all__ = [
    "CurvatureOperator",
    "FisherOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "Loss",
    "hessian_matrix",
    "square_operator",
    "tensor_products",
]

Array = NDArray[np.float64]


class CurvatureOperator(LinearOperator):  # type: ignore[misc]  # scipy has no types
    """A curvature matrix at one point: `HessianOperator`, `GaussNewtonOperator` or `FisherOperator`."""

    kind: Kind

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Batch,
        *,
        chunk: int | None = None,
        products: Products = "exact",
        batches: Sequence[Tensor] | None = None,
    ) -> None:
        objective = Objective(model, loss, data, chunk=chunk, products=products, batches=batches)
        self._place(Curvature(objective, objective.point, kind=self.kind))

    @classmethod
    def of(cls, curvature: Curvature) -> Self:
        """Wrap the curvature at a single point as an operator.

        Args:
            curvature: Curvature at one point, of this class's kind.

        Returns:
            The operator.

        Raises:
            ValueError: If the curvature has several points or is of another kind.
        """
        if curvature.num_points != 1 or curvature.kind != cls.kind:
            raise ValueError(
                f"{cls.__name__} needs the {cls.kind} at 1 point, got the {curvature.kind} at {curvature.num_points}."
            )
        operator = cls.__new__(cls)
        operator._place(curvature)
        return operator

    def _place(self, curvature: Curvature) -> None:
        self.curvature = curvature
        size = curvature.points.shape[1]
        LinearOperator.__init__(self, np.dtype(np.float64), (size, size))

    @property
    def num_products(self) -> int:
        """Number of matrix-vector products computed so far."""
        return self.curvature.num_products

    @property
    def point(self) -> Array:
        """The parameters θ, flat [P]."""
        return _array(self.curvature.points[0].clone())

    def at(self, point: Array) -> Self:
        """Return the same curvature at other parameters.

        Args:
            point: Parameters, flat [P].

        Returns:
            A new operator; this one and the model are unchanged.
        """
        return self.of(self.curvature.at(self._tensor(point).unsqueeze(0)))

    def loss(self) -> float:
        """Compute J at the point."""
        return float(self.curvature.losses(keep=True)[0])

    def gradient(self) -> Array:
        """Compute the gradient of J at the point, flat [P]."""
        return _array(self.curvature.gradients()[0])

    def agree(self, *numbers: Any) -> list[float]:
        """Broadcast numbers from the first of the workers that share the samples, so that all decide alike.

        Args:
            *numbers: Numbers that every worker has computed, up to rounding.

        Returns:
            The numbers of the first worker.
        """
        values = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
        return self.curvature.objective.share.agree(values.to(self.curvature.points.device)).tolist()

    def _matvec(self, v: NDArray[Any]) -> Array:
        return self._matmat(v.reshape(-1, 1))[:, 0]

    def _matmat(self, v: NDArray[Any]) -> Array:
        return _array(self.curvature.products(self._tensor(v.T).unsqueeze(1))[:, 0]).T

    def _adjoint(self) -> "CurvatureOperator":
        return self

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        like = self.curvature.points
        return torch.tensor(np.ascontiguousarray(values), dtype=like.dtype, device=like.device)


class HessianOperator(CurvatureOperator):
    r"""Hessian of the mean loss over a data set, as a matrix-free operator.

    $$
    J(θ) = \frac{1}{n} \sum_{i=1}^n ℓ(θ; x_i) = \sum_c \frac{n_c}{n} J_c(θ), \qquad
    H v = ∇²J(θ) v = ∇_θ ⟨∇J(θ), v⟩,
    $$

    where J_c is the mean loss of the n_c samples of chunk c: ragged chunks are weighted exactly. A product is
    computed by backpropagation through the gradient, for 1.4 times the cost of a gradient; see `Curvature`. Forward
    over reverse differentiation, as in `torch.func.hessian`, is wrong for affine normalisation layers.

    J is what `loss` returns: weight decay counts only if `loss` adds it. Coordinates are the trainable parameters
    in the order of `model.parameters()`; a shared parameter appears once, and one that the loss does not depend on
    has zeros. Frozen parameters are constants. Vectors are float64; products are computed in the dtype and on the
    device of the parameters, so float64 accuracy takes a float64 model. Parameters and buffers (BatchNorm's running
    statistics) are copied when the operator is made, and the model is never written to.

    Args:
        model: A model in evaluation mode, or one whose layers behave the same in both modes.
        loss: Maps the model and a batch to the mean loss of the batch.
        data: A nest of tensors [n, ...] that share their first dimension.
        chunk: Maximum number of samples differentiated at once; None for all. A single chunk keeps the graph of its
            gradient in memory; several rebuild theirs for each product, which doubles its cost.
        products: How products are computed; see `Objective`.
        batches: The samples of each batch that has a loss, if J is the mean over these; see `Objective`.

    Raises:
        ValueError: If a layer's mode makes the loss random or dependent on how samples are batched, if the
            parameters are not of one floating type on one device, or if data or chunk are empty.

    Example:
        The mean of (x θ)² / 2 has the Hessian mean(x²).

        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> x = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        >>> hessian = HessianOperator(model, lambda model, batch: (model(batch[0]) ** 2).mean() / 2, (x,))
        >>> (hessian @ np.ones(1)).round(9)
        array([4.66666667])
    """

    kind: Kind = "hessian"


class GaussNewtonOperator(CurvatureOperator):
    r"""Gauss-Newton matrix of the mean loss over a data set, as a matrix-free operator.

    $$
    G = \frac{1}{n} \sum_{i=1}^n F_iᵀ \, ∂²_f ℓ_i \, F_i, \qquad F_i = ∂ f(θ; x_i) / ∂θ ,
    $$

    the Hessian without the curvature of the model's outputs f; it is positive semidefinite if the loss is convex in the
    outputs. For softmax cross-entropy and squared error it is the Fisher matrix. The loss must depend on the model only
    through what its calls return, a nest of tensors: f are those of them that the loss depends on. Arguments and
    conventions are those of `HessianOperator`.

    Args:
        model: A model, as for `HessianOperator`.
        loss: Maps the model and a batch to the mean loss of the batch.
        data: A nest of tensors [n, ...] that share their first dimension.
        chunk: Maximum number of samples differentiated at once; None for all.
        products: How products are computed; see `Objective`.
        batches: The samples of each batch that has a loss, if J is the mean over these; see `Objective`.

    Example:
        For a linear model and the squared error it is the Hessian.

        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> x = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        >>> matrix = GaussNewtonOperator(model, lambda model, batch: (model(batch[0]) ** 2).mean() / 2, (x,))
        >>> (matrix @ np.ones(1)).round(9)
        array([4.66666667])
    """

    kind: Kind = "gauss_newton"


class FisherOperator(CurvatureOperator):
    r"""Empirical Fisher matrix, the second moment of the per-sample gradients, as a matrix-free operator.

    $$
    E = \frac{1}{n} \sum_{i=1}^n ∇ℓ(θ; x_i) ∇ℓ(θ; x_i)ᵀ .
    $$

    It uses the labels of the data, so it is not the Fisher matrix, which uses labels sampled from the model (Kunstner,
    Balles, Hennig: Limitations of the empirical Fisher approximation, NeurIPS 2019, arXiv:1905.12558): see
    `GaussNewtonOperator` for that one. Arguments and conventions are those of `HessianOperator`.

    Args:
        model: A model, as for `HessianOperator`.
        loss: Maps the model and a batch to the mean loss of the batch.
        data: A nest of tensors [n, ...] that share their first dimension.
        chunk: Maximum number of samples differentiated at once; None for all.
        products: How products are computed; see `Objective`.
        batches: The samples of each batch that has a loss, if J is the mean over these; see `Objective`.

    Example:
        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> _ = nn.init.ones_(model.weight)
        >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
        >>> matrix = FisherOperator(model, lambda model, batch: (model(batch[0]) ** 2).mean() / 2, (x,))
        >>> (matrix @ np.ones(1)).round(9)
        array([41.])
    """

    kind: Kind = "empirical_fisher"


def hessian_matrix(model: nn.Module, loss: Loss, data: Batch, *, chunk: int | None = None) -> Array:
    """Compute the dense Hessian of a small model from its products with the P unit vectors.

    Args:
        model: A model, as for `HessianOperator`.
        loss: Maps the model and a batch to the mean loss of the batch.
        data: A nest of tensors [n, ...] that share their first dimension.
        chunk: Maximum number of samples differentiated at once; None for all.

    Returns:
        The matrix [P, P], symmetric up to rounding.

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> x = torch.eye(2, dtype=torch.float64)
        >>> hessian_matrix(model, lambda model, batch: (model(batch[0]) ** 2).mean(), (x,))
        array([[1., 0.],
               [0., 1.]])
    """
    operator = HessianOperator(model, loss, data, chunk=chunk)
    return np.asarray(operator @ np.eye(operator.shape[0]))


def square_operator(operator: Any) -> LinearOperator:
    """Wrap a square matrix as a linear operator.

    Args:
        operator: A matrix or a `scipy.sparse.linalg.LinearOperator`, [P, P].

    Returns:
        The operator.

    Raises:
        ValueError: If it is not square.
    """
    operator = aslinearoperator(operator)
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"The operator must be square, got shape {operator.shape}.")
    return operator


def tensor_products(operator: Any) -> tuple[Callable[[Tensor], Tensor], int, torch.device]:
    """Return a symmetric operator as a function of tensors; a curvature matrix stays on its model's device.

    Args:
        operator: A matrix, a `scipy.sparse.linalg.LinearOperator` or a `CurvatureOperator`, [P, P].

    Returns:
        A function that multiplies a float64 vector, [1, P] to [1, P]; P; and the device of the vectors.
    """
    operator = square_operator(operator)
    size = operator.shape[1]
    if isinstance(operator, CurvatureOperator):
        return operator.curvature.products, size, operator.curvature.points.device

    def products(vectors: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(operator.matvec(vectors[0].numpy()), np.float64)).unsqueeze(0)

    return products, size, torch.device("cpu")


def _array(values: Tensor) -> Array:
    array: Array = values.to("cpu", torch.float64).numpy()
    return array
