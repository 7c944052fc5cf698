"""Communication cost of a combine: degrees and bytes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from basinet.topologies.mixing_matrix import check_mixing_matrix

__all__ = ["Cost", "communication_cost"]


class Cost(NamedTuple):
    """What the agents send in one combine.

    Attributes:
        max_degree: Largest number of agents that an agent sends to.
        mean_degree: Mean number of agents that an agent sends to.
        max_bytes: Bytes that the busiest agent sends.
        mean_bytes: Bytes that an agent sends on average.
    """

    max_degree: int
    mean_degree: float
    max_bytes: int
    mean_bytes: float


def communication_cost(W: ArrayLike | csr_array, *, num_parameters: int, itemsize: int = 4) -> Cost:
    """Count what travels in one combine: an agent sends its parameters to each agent that gives them a weight.

    Where all wait for each other, the busiest agent sets the pace: of two topologies with the same number of edges, the
    more even one is faster.

    Args:
        W: Mixing matrix [K, K], dense or sparse; it need not be connected.
        num_parameters: Number of parameters P of the model.
        itemsize: Bytes of a parameter: 4 for float32.

    Returns:
        Degrees and bytes.

    Raises:
        ValueError: If ``num_parameters`` or ``itemsize`` is below one.

    Example:
        >>> communication_cost([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0.5, 0.5]], num_parameters=1000)
        Cost(max_degree=2, mean_degree=1.3333333333333333, max_bytes=8000, mean_bytes=5333.333333333333)
    """
    for name, value in [("num_parameters", num_parameters), ("itemsize", itemsize)]:
        if value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 1")
    entries = check_mixing_matrix(W, connected=False).tocoo()
    degree = np.bincount(entries.col[entries.row != entries.col], minlength=entries.shape[0])
    most, mean = int(degree.max()), float(degree.mean())
    size = num_parameters * itemsize
    return Cost(most, mean, most * size, mean * size)
