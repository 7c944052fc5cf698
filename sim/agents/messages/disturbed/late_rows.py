"""Late rows: what agents have sent is kept until it has arrived everywhere, or something newer has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.faults.outages import Outages

__all__ = ["Arriving", "LateRows", "SentRows"]


@dataclass(frozen=True)
class SentRows:
    """What was sent at once.

    Attributes:
        step: In which step.
        rows: By the agents here, [N, ...].
        others: By neighbours on other workers, [H, P].
    """

    step: int
    rows: Tensor
    others: Tensor


@dataclass(frozen=True)
class Arriving:
    """What arrives of the rows that agents have sent to all neighbours alike.

    Attributes:
        neighbors: The neighbours that are heard.
        sent: What was sent, the newest first.
        which: Which of it arrives from the neighbour in each slot, int64 [N, D]; None if there is only one.
    """

    neighbors: Neighbors
    sent: list[SentRows]
    which: Tensor | None

    def pieces(self, piece: int) -> Iterator[tuple[slice, Tensor]]:
        """Pass on what is heard, a few columns at a time.

        Args:
            piece: See `Neighbors.broadcast`.

        Yields:
            The columns, and what each agent receives in them from the neighbour in each slot, [N, D, w].
        """
        which = self.which
        used = [0] if which is None or not which.numel() else np.unique(which.cpu().numpy()).tolist()
        streams = [self.neighbors.broadcast(self.sent[n].rows, self.sent[n].others, piece) for n in used]
        for (columns, _, heard), *older in zip(*streams, strict=True):
            for place, (_, _, rows) in zip(used[1:], older, strict=True):
                heard = rows.where(torch.as_tensor(which == place)[:, :, None], heard)
            yield columns, heard


class LateRows:
    """Keeps what agents have sent, as long as it may be the newest that has arrived somewhere.

    Args:
        outages: How many steps messages take.

    Attributes:
        happen: Whether messages may be late.
        sent: What was sent, by message of a step, the newest first; nothing unless messages may be late.
    """

    def __init__(self, outages: Outages) -> None:
        self._outages = outages
        self.happen = outages.longest > 0
        self.sent: dict[str, list[SentRows]] = {}

    def send(self, kind: str, message: str, neighbors: Neighbors, step: int, rows: Tensor, others: Tensor) -> Arriving:
        """Send rows to all neighbours, and find what arrives.

        Args:
            kind: The kind of edges.
            message: The message's name within the step.
            neighbors: The neighbours that are heard.
            step: The step.
            rows: The rows, [N, P].
            others: Those of other workers, [H, P], see `Neighbors.others`.

        Returns:
            What arrives.
        """
        if not self.happen:
            return Arriving(neighbors, [SentRows(step, rows, others)], None)
        sent = self._keep(message, SentRows(step, rows.clone(), others.clone()))
        return Arriving(neighbors, sent, self._which(kind, neighbors, sent))

    def exchange(self, kind: str, message: str, neighbors: Neighbors, step: int, received: Tensor) -> Tensor:
        """Find what arrives of rows that agents have sent to each neighbour separately.

        Args:
            kind: The kind of edges.
            message: The message's name within the step.
            neighbors: The neighbours that are heard.
            step: The step.
            received: What is sent now, where it will be received, [N, D, ...].

        Returns:
            What is received instead.
        """
        if not self.happen:
            return received
        sent = self._keep(message, SentRows(step, received, received[:0]))
        which, rows = self._which(kind, neighbors, sent), torch.arange(len(received), device=received.device)
        slots = torch.arange(neighbors.size, device=received.device)
        return torch.stack([one.rows for one in sent])[which, rows[:, None], slots]

    @property
    def steps(self) -> dict[str, list[int]]:
        """The steps in which what is kept was sent, by message."""
        return {message: [one.step for one in sent] for message, sent in self.sent.items()}

    @property
    def rows(self) -> dict[str, Tensor]:
        """What is kept, [N, n, ...], by message."""
        return {message: torch.stack([one.rows for one in sent], 1) for message, sent in self.sent.items()}

    def load(
        self, steps: Mapping[str, Sequence[int]], rows: Mapping[str, Tensor], others: Callable[[Tensor], Tensor]
    ) -> None:
        """Restore what is kept.

        Args:
            steps: See `steps`.
            rows: See `rows`.
            others: See `Neighbors.others`.
        """
        for message, held in rows.items():
            sent = zip(steps[message], held.unbind(1), strict=True)
            self.sent[message] = [SentRows(step, one.clone(), others(one.flatten(1))) for step, one in sent]

    def _keep(self, message: str, new: SentRows) -> list[SentRows]:
        """Keep rows until what is older than the longest delay has something newer that is so, too."""
        sent = [new, *self.sent.get(message, ())]
        arrived = [one.step <= new.step - self._outages.longest for one in sent]
        self.sent[message] = sent[: arrived.index(True) + 1 if any(arrived) else None]
        return self.sent[message]

    def _which(self, kind: str, neighbors: Neighbors, sent: list[SentRows]) -> Tensor:
        """Find the newest that has arrived in each slot; at first, that is the oldest."""
        found = torch.full_like(neighbors.heard, len(sent) - 1, dtype=torch.int64)
        for place, one in reversed([*enumerate(sent[:-1])]):
            arrived = one.step + self._outages.delays(kind, one.step) <= sent[0].step
            found[neighbors.in_slots(arrived)] = place
        return found
