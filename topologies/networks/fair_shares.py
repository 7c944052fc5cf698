"""Max-min fair shares of links that several messages pass at once."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["fair_shares"]

_EQUAL = 1 + 1e-12
"""Shares within rounding of each other are the same."""


def fair_shares(
    resources: csr_array, capacity: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the max-min fair rates of flows: no flow can have more without another, that has no more than it, losing.

    Progressive filling: a resource that offers its flows (capacity left) / (flows left), and to none of them more than
    another resource does, freezes them at that rate. All such resources are frozen at once, so that the number of
    rounds is that of the levels of rates which depend on each other.

    Args:
        resources: Which flows pass which resource [M, n], ones and zeros.
        capacity: Capacities of the resources [M], bytes per second.
        limits: The flows' own limits [n], bytes per second, which may be infinite.

    Returns:
        Rates [n], bytes per second; infinite for a flow that nothing limits.

    Example:
        >>> sends_A, sends_B, receives_C, receives_D = [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]
        >>> passes = csr_array([sends_A, sends_B, receives_C, receives_D])
        >>> fair_shares(passes, np.ones(4), np.full(3, np.inf))
        array([0.5, 0.5, 0.5])

    References:
        D. Bertsekas, R. Gallager: Data Networks, 2nd edition, Prentice Hall 1992, section 6.5.2.
    """
    links, flows = resources.tocoo().coords
    finite = np.isfinite(capacity[links])
    links, flows = links[finite], flows[finite]
    rates = np.array(limits, dtype=np.float64)
    left = np.array(capacity, dtype=np.float64)
    while flows.size:
        count = np.bincount(links, minlength=left.size)
        offer = np.full(left.size, np.inf)
        np.divide(left, count, out=offer, where=count > 0)
        least = np.array(limits, dtype=np.float64)
        np.minimum.at(least, flows, offer[links])
        # A resource is a bottleneck if it offers each of its flows the least.
        bound = np.ones(left.size, dtype=bool)
        bound[links[offer[links] > least[flows] * _EQUAL]] = False
        frozen = least >= limits / _EQUAL
        frozen[flows[bound[links]]] = True
        rates[flows] = np.where(frozen[flows], least[flows], rates[flows])
        going = ~frozen[flows]
        np.subtract.at(left, links[~going], least[flows[~going]])
        np.maximum(left, 0, out=left)
        links, flows = links[going], flows[going]
    return rates
