"""How many rows agents keep of messages that have not arrived."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_array, diags_array

from basinet.algorithms.strategies import Strategy, StrategyTraits
from basinet.sim.faults.fault import Fault, LinkFault
from basinet.sim.faults.link_delay import LinkDelay

__all__ = ["rows_kept"]


def rows_kept(
    faults: Iterable[Fault], strategy: Strategy, sequence: Sequence[csr_array], push: Sequence[csr_array]
) -> int:
    """Return how many rows an agent keeps at most of each message of a step.

    Args:
        faults: What goes wrong.
        strategy: The strategy.
        sequence: The mixing matrices of a period.
        push: Those whose columns sum to one, beside them.

    Returns:
        Those that it has sent, as far as they may be late; and one for each neighbour whose running sums may be lost.
    """
    faults = [*faults]
    longest = sum(fault.steps for fault in faults if isinstance(fault, LinkDelay))
    kept = longest + 1 if longest else 0
    columns = sequence if StrategyTraits.of(strategy).weights == "columns" else push
    if any(isinstance(fault, LinkFault) for fault in faults):
        kept += max((_neighbors(weights) for weights in columns), default=0)
    return kept


def _neighbors(weights: csr_array) -> int:
    """Return with how many others an agent exchanges messages at most, in either direction."""
    others = csr_array(weights - diags_array(weights.diagonal()) != 0)
    return int(np.diff(csr_array(others + others.T).indptr).max())
