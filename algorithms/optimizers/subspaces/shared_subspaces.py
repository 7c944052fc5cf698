"""Subspaces shared by the agents' optimizers, whose coordinates are exchanged instead of whole matrices."""

from torch import Tensor

from basinet.algorithms.optimizers.local import LocalOptimizer
from basinet.algorithms.optimizers.subspaces.subspace_steps import SubspaceOptimizer

__all__ = ["SharedSubspaces"]


class SharedSubspaces:
    """Coordinates of the agents' rows in subspaces that all agents draw with the same keys.

    Args:
        optimizer: The agents' optimizers.

    Raises:
        TypeError: Their subspaces are not always the same.
    """

    def __init__(self, optimizer: LocalOptimizer) -> None:
        found = optimizer.optimizers[0]
        if not isinstance(found, SubspaceOptimizer) or not found.in_common:
            raise TypeError("its agents step in different subspaces; those of golore with shared: true share them")
        self._optimizer = found
        self._split = optimizer.split

    @property
    def refresh_due(self) -> bool:
        """Whether the next step draws other subspaces."""
        return self._optimizer.refresh_due

    def refresh(self) -> None:
        """Draw the subspaces of the next step, if that is due."""
        self._optimizer.refresh()

    def project(self, rows: Tensor) -> Tensor:
        """Compute coordinates.

        Args:
            rows: [N, P].

        Returns:
            Pᵀ x of each row, [N, Q].
        """
        return self._optimizer.project(self._split(rows))

    def lift(self, coordinates: Tensor, rows: Tensor) -> None:
        """Write the rows with the given coordinates.

        Args:
            coordinates: y, [N, Q].
            rows: Receives P y, [N, P].
        """
        for layer, lifted in zip(self._split(rows), self._optimizer.lift(coordinates), strict=True):
            layer.copy_(lifted)
