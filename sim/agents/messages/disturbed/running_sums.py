"""Running sums: no share of what agents send is lost for good."""

import torch
from torch import Tensor

from basinet.sim.agents.messages.neighbors import Neighbors
from basinet.sim.faults.outages import Outage

__all__ = ["RunningSums"]


class RunningSums:
    """What has been sent and has not arrived yet, for weights that sum to one over what an agent sends.

    An agent sends the sum of all rows that it has sent along an edge so far, and its neighbour takes the difference
    from the last sum that it got: what a lost message carried arrives with the next one, and the sum over all agents
    and edges is kept. The difference, which does not grow as the sums do, is what is computed here.

    Attributes:
        late: Rows that have not arrived, by message of a step: sums [N, D, w], where they will be received.

    References:
        C. N. Hadjicostis, N. H. Vaidya, A. D. Domínguez-García: Robust distributed average consensus via exchange of
        running sums, IEEE TAC 61 (2016), arXiv:1504.08193.
    """

    def __init__(self) -> None:
        self.late: dict[str, Tensor] = {}

    def deliver(
        self, message: str, neighbors: Neighbors, outage: Outage | None, x: Tensor, piece: int
    ) -> Tensor | None:
        """Find what arrives late with a message, and keep what is lost of it.

        Args:
            message: Its name within the step.
            neighbors: All neighbours of the agents.
            outage: What does not arrive.
            x: The rows that are sent, [N, w].
            piece: See `Neighbors.broadcast`.

        Returns:
            Σ_l W[k, l] y_l over the rows y_l that arrive late, [N, w]; None if nothing has been lost so far.
        """
        fails = None if outage is None else outage.lost & ~outage.unsent
        if message not in self.late:
            if fails is None or not fails.any():
                return None
            self.late[message] = x.new_zeros(len(x), neighbors.size, x.shape[1])
        late = self.late[message]
        arrives = neighbors.heard if outage is None else neighbors.heard & ~neighbors.in_slots(outage.lost)
        found = torch.einsum("nd,ndw->nw", neighbors.weights.where(arrives, 0), late)
        late[arrives] = 0
        if fails is not None and fails.any():
            lost = neighbors.in_slots(fails)
            for columns, _, heard in neighbors.broadcast(x, neighbors.others(x), piece):
                late[:, :, columns] += heard.where(lost[:, :, None], 0)
        return found
