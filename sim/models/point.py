"""A point in a loss landscape."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from basinet.sim.models.model import MODELS


@MODELS.register("point")
class Point(nn.Module):
    """Outputs its parameters, whatever the input, so that a loss of the output is a function of a point.

    Args:
        num_outputs: Number of coordinates; the simulator supplies it.
        start: Initial position: one number for all coordinates, or one for each.

    Raises:
        ValueError: There are neither one nor `num_outputs` numbers.

    Example:
        >>> Point(2, start=[1.0, 3.0])(torch.zeros(1, 1)).tolist()
        [[1.0, 3.0]]
    """

    def __init__(self, num_outputs: int, *, start: float | Sequence[float] = 0.0) -> None:
        super().__init__()
        value = torch.tensor(start)
        if value.numel() not in (1, num_outputs):
            raise ValueError(
                f"point: start has {value.numel()} values for {num_outputs} coordinates;"
                f" give one number or {num_outputs}"
            )
        # On the meta device, clone() would import torch's compiler.
        self.value = nn.Parameter(value.expand(num_outputs).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Repeat the point for each sample.

        Args:
            x: Any inputs, [B, ...].

        Returns:
            Tensor [B, num_outputs].
        """
        return self.value.expand(x.shape[0], -1)
