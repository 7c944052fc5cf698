"""Rounding of what agents send, drawn by (seed, fault, replica, agent, step, message)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.agents.personal import Personal
from basinet.sim.agents.placement import Placement
from basinet.sim.faults import Fault, LinkRounding

__all__ = ["SenderRounding"]


class SenderRounding:
    """Rounds rows as they are sent, but not those parts that agents keep to themselves.

    Args:
        faults: The faults, of which those that round matter.
        placement: The rows of this worker.
        personal: The parameters that agents do not share.
        seed: The experiment's seed.
        device: Device of the rows.
    """

    def __init__(
        self, faults: Sequence[Fault], placement: Placement, personal: Personal, seed: int, device: torch.device
    ) -> None:
        rows = placement.index(device)
        self._personal = personal
        self._faults = [
            (fault, draws.agent_keys(seed, f"fault {number}", *rows))
            for number, fault in enumerate(faults)
            if isinstance(fault, LinkRounding)
        ]

    def sent(self, x: Tensor, step: int, message: int, size: int) -> tuple[Tensor, int]:
        """Round rows.

        Args:
            x: A row of each agent, [N, w], or one for each of its neighbours, [N, D, w].
            step: The step.
            message: Number of the message within the step.
            size: Bytes of a row on the wire.

        Returns:
            What is sent, and its bytes; `x` itself if nothing is rounded.
        """
        if not (self._faults and x.is_floating_point()):
            return x, size
        parts = self._personal.shared(x)
        for fault, own in self._faults:
            keys = draws.fold(draws.fold(own, step), message)
            if x.ndim > 2:
                keys = draws.fold(keys[:, None], torch.arange(x.shape[1], device=x.device))
            mine = torch.cat([x[..., columns] for columns in parts], -1)
            told, short = fault.rounded(mine.flatten(0, -2), keys.flatten())
            x, size = x.clone(), min(size, short)
            start = 0
            for columns in parts:
                width = columns.stop - columns.start
                x[..., columns] = told.view(mine.shape)[..., start : start + width]
                start += width
        return x, size
