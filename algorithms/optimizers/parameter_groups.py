"""Parameter groups by name: which layers step with settings of their own, and where they are in the flat state."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, optim

__all__ = ["Columns", "ParameterGroup", "divide", "join"]

ParameterGroup = tuple[Mapping[str, Any], Sequence[int]]
"""The settings of its own that a group has, and the indices of its layers."""


def divide(groups: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[ParameterGroup]:
    """Divide layers among groups: each goes to the first that matches its name.

    Args:
        groups: Settings, with names of layers under `match`, where * stands for any characters.
        names: Names of the layers.

    Returns:
        The groups in order, and last the group of all other layers, which has no settings of its own.

    Example:
        >>> divide([{"match": ["*.bias"], "weight_decay": 0.0}], ["0.weight", "0.bias", "1.weight"])
        [({'weight_decay': 0.0}, [1]), ({}, [0, 2])]
    """
    taken: list[list[int]] = [[] for _ in range(len(groups) + 1)]
    for layer, name in enumerate(names):
        fits = (any(fnmatchcase(name, pattern) for pattern in group["match"]) for group in groups)
        taken[next((place for place, fit in enumerate(fits) if fit), -1)].append(layer)
    own = [{key: value for key, value in group.items() if key != "match"} for group in groups]
    return [*zip(own, taken[:-1], strict=True), ({}, taken[-1])]


def join(optimizers: Sequence[optim.Optimizer]) -> optim.Optimizer:
    """Join optimizers of one class that have not taken a step.

    Args:
        optimizers: Each has one group of parameters, with settings of its own.

    Returns:
        The first one, to which the groups of the others have been added.
    """
    first, *others = optimizers
    for other in others:
        group = dict(other.param_groups[0])
        if "param_names" in group:
            group["params"] = list(zip(group.pop("param_names"), group["params"], strict=True))
        first.add_param_group(group)
    return first


class Columns:
    """Each group's columns of the flat state [N, P], as one contiguous tensor: a single kernel steps a group.

    Torch's fused kernels take the memory of a tensor as contiguous, whatever its strides.

    Args:
        groups: Indices of the layers of each group.
        sizes: Number of columns of each layer.
    """

    def __init__(self, groups: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
        starts = [0, *accumulate(sizes)]
        self._runs: list[list[slice]] = []
        for layers in groups:
            runs: list[slice] = []
            for layer in layers:
                if runs and runs[-1].stop == starts[layer]:
                    runs[-1] = slice(runs[-1].start, starts[layer + 1])
                else:
                    runs.append(slice(starts[layer], starts[layer + 1]))
            self._runs.append(runs)
        self._widths = [[run.stop - run.start for run in runs] for runs in self._runs]
        places = sorted((run.start, g, r) for g, runs in enumerate(self._runs) for r, run in enumerate(runs))
        self._order = [(g, r) for _, g, r in places]

    def gather(self, flat: Tensor, into: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Copy the groups' columns.

        Args:
            flat: [N, P].
            into: Tensors that receive them; by default new ones.

        Returns:
            A tensor [N, Q] for each group of Q columns.
        """
        rooms: Sequence[Tensor | None] = into or [None for _ in self._runs]
        return [
            torch.cat([flat[:, run] for run in runs], dim=1, out=room)
            for runs, room in zip(self._runs, rooms, strict=True)
        ]

    def scatter(self, parts: Sequence[Tensor], flat: Tensor) -> None:
        """Copy the groups' columns back.

        Args:
            parts: As from `gather`.
            flat: Receives them, [N, P].
        """
        pieces = [torch.split(part, widths, dim=1) for part, widths in zip(parts, self._widths, strict=True)]
        torch.cat([pieces[g][r] for g, r in self._order], dim=1, out=flat)
