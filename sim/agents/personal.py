"""Personal parameters: each agent keeps its own, neither sent nor mixed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from basinet.algorithms.strategies import StrategyTraits
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.models.patterns import first_names, matched, trained_names

__all__ = ["Personal", "check_personal", "check_remembered"]


class Personal:
    """The columns of the personal parameters.

    Args:
        patterns: Names of parameters, where * stands for any characters.
        shapes: Shape of each trained parameter by name, in column order.

    Attributes:
        columns: Slices of [N, P].

    Raises:
        ValueError: A pattern matches no parameter, or all parameters are personal.
    """

    def __init__(self, patterns: Sequence[str], shapes: Mapping[str, torch.Size]) -> None:
        mine = set(matched(patterns, shapes))
        chosen = [name in mine for name in shapes]
        if all(chosen):
            raise ValueError(
                "all parameters are chosen, so that nothing is left to mix; for isolated agents, leave this setting out"
            )
        ends: list[int] = np.cumsum([shape.numel() for shape in shapes.values()]).tolist()
        starts = [0, *ends[:-1]]
        self.columns = [slice(a, b) for a, b, is_chosen in zip(starts, ends, chosen, strict=True) if is_chosen]
        bounds = [0, *(bound for columns in self.columns for bound in (columns.start, columns.stop)), ends[-1]]
        self._shared = [slice(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if a < b]
        self._size = ends[-1]

    def shared(self, rows: Tensor) -> list[slice]:
        """Return the columns of rows [..., w] that are sent: all of them unless these are rows of parameters."""
        return self._shared if rows.ndim > 1 and rows.shape[-1] == self._size else [slice(0, rows.shape[-1])]

    def keep(self, received: Tensor, own: Tensor, columns: slice | None = None) -> None:
        """Replace the personal columns of received rows by the agents' own, in place.

        Args:
            received: Rows [..., P], or some of their columns; rows of another width have no personal columns.
            own: The agents' own rows, in the same shape.
            columns: The columns given; by default, all of them.
        """
        if not self.columns:
            return
        if columns is None:
            if received.ndim < 2 or received.shape[-1] != self._size:
                return
            columns = slice(0, self._size)
        for mine in self.columns:
            first, last = max(mine.start, columns.start), min(mine.stop, columns.stop)
            if first < last:
                place = slice(first - columns.start, last - columns.start)
                received[..., place] = own[..., place]

    def row_bytes(self, rows: Tensor, axes: int = 1) -> int:
        """Return the bytes of one row on the wire, after `axes` leading axes; personal parameters are not sent."""
        shape = rows.shape[axes:]
        size = math.prod(shape) * rows.element_size()
        if self.columns and shape[-1:] == (self._size,):
            return size // self._size * sum(columns.stop - columns.start for columns in self._shared)
        return size


def check_personal(config: Config, model: nn.Module, traits: StrategyTraits) -> None:
    """Raise if personal parameters do not exist, or the strategy, escape or trajectory cannot be combined with them."""
    if not config.personal:
        return
    try:
        shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        Personal(first_names(config.personal, trained_names(model)), shapes)
    except ValueError as error:
        raise ExperimentError(f"personal: {error}") from None
    if config.escape is not None:
        raise ExperimentError("escape: agents with personal parameters have no common centroid that could escape")
    if config.trajectory is not None:
        raise ExperimentError("trajectory: agents with personal parameters have no common centroid to record")
    if traits.mixes_all:
        raise ExperimentError(f"personal: {config.strategy.name} cannot leave some parameters out")


def check_remembered(config: Config, remembered: Sequence[Tensor], size: int) -> None:
    """Raise if optimizer rows that follow the P parameters do not hold one number for each of them."""
    if config.personal and any(rows[0].numel() != size for rows in remembered):
        raise ExperimentError(
            f"optimizer_state: got {config.optimizer_state}, but {config.optimizer.name} does not keep one number per"
            " parameter, in their order, so that the part of the personal ones cannot be separated; allowed is keep"
        )
