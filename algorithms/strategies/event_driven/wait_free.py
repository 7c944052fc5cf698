"""Wait-free diffusion: agents combine with what they have received of their neighbours, and do not wait."""

from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated

from pydantic import Field

from basinet.algorithms.strategies.event_driven.events import Count, EventDriven, Events, Row
from basinet.algorithms.strategies.strategy import STRATEGIES

__all__ = ["WaitFreeDiffusion"]


@STRATEGIES.register("wait_free")
@dataclass(frozen=True)
class WaitFreeDiffusion(EventDriven):
    """Diffusion (ATC) in which agents do not wait: each combines with the newest that it has of its neighbours.

    When agent k has finished its gradient: ψ_k ← adapt(x_k, g_k(x_k)), which it sends; x_k ← Σ_l W[k, l] ψ_l with the
    newest ψ_l that has arrived; and it goes on. While a link is busy, the newest waits for it, and no older one.

    If the columns of W sum to one as well, it minimises the mean of the agents' losses, however fast these are: who
    steps more often also listens more often. With `bound` 0 it is diffusion.

    Args:
        bound: How many gradients an agent may be ahead of its neighbours: it waits until it has heard of that many
            fewer than its own from each, and uses nothing of those ahead of it. None for no bound.
        period: Gradients between the times at which an agent sends and combines.

    References:
        X. Wu, C. Liu, S. Magnússon, M. Johansson: Asynchronous distributed optimization with delay-free parameters,
        2023, arXiv:2312.06508. Q. Ho et al.: More effective distributed ML via a stale synchronous parallel parameter
        server, NIPS 2013 (the bound).
    """

    bound: Annotated[int, Field(ge=0)] | None = None
    period: Count = 1

    def begin(self, events: Events) -> None:
        """Begin with what all agents know: where the others start."""
        events.memory["mail"] = [{other: [(0, events.x[other])] for other, _ in heard} for heard in events.heard]

    def finish(self, k: int, events: Events) -> None:
        """ψ_k ← adapt(x_k, g_k(x_k)), sent to those who hear it."""
        events.x[k] = events.adapt(k)
        for other in events.hearers[k] if events.finished[k] % self.period == 0 else ():
            events.send(k, other, (events.finished[k], events.x[k]), newest=self.bound is None)

    def arrive(self, k: int, sender: int, message: tuple[int, Row], events: Events) -> None:
        """Keep ψ_l: the newest, or with a bound all that may be used yet."""
        mail = events.memory["mail"][k]
        mail[sender] = [message] if self.bound is None else sorted([*mail[sender], message], key=itemgetter(0))

    def lose(self, k: int, sender: int, message: tuple[int, Row], events: Events) -> None:
        """Keep what there is; with a bound, for which agents wait, send ψ_l again."""
        if self.bound is not None:
            events.send(sender, k, message)

    def combine(self, k: int, events: Events) -> bool:
        """x_k ← Σ_l W[k, l] ψ_l, unless it is not the time, or a neighbour is too far behind."""
        mail, own = events.memory["mail"][k], events.finished[k]
        if own % self.period:
            return True
        if self.bound is not None:
            for other, known in mail.items():
                mail[other] = [(age, psi) for age, psi in known if age <= own][-1:] + [m for m in known if m[0] > own]
            if any(known[0][0] < own - self.bound for known in mail.values()):
                return False
        used = [(weight, mail[other][0]) for other, weight in events.heard[k]]
        for other, (_, (version, _)) in zip(mail, used, strict=True):
            newest = events.finished[other]
            events.stale((newest if self.bound is None else min(newest, own)) - version)
        events.x[k] = events.mix(k, events.x[k], [(weight, psi) for weight, (_, psi) in used])
        return True
