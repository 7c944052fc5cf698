"""Keyed chains of two states, whose state at a step depends on no other call."""

import torch
from torch import Tensor

from basinet.algorithms import draws

__all__ = ["TwoStates"]


class TwoStates:
    """Stationary Markov chains of two states, one for each key.

    At each step a state is drawn anew with a probability p + r, else kept, where p and r are the probabilities to enter
    the second state and to leave it. A state is thus a function of the draws back to the last one that was anew.

    Args:
        keys: Keys of the chains, int64 [...].
        share: Probability p / (p + r) of the second state.
        anew: p + r, in (0, 1].

    Example:
        >>> chain = TwoStates(torch.arange(1000), share=0.5, anew=0.01)
        >>> bool((chain.at(7) == chain.at(8)).float().mean() > 0.95)
        True
    """

    def __init__(self, keys: Tensor, *, share: float, anew: float) -> None:
        self._keys, self._second, self._anew = keys, share * anew, anew
        self._known: tuple[int, Tensor] | None = None

    def at(self, step: int) -> Tensor:
        """Return which chains are in the second state at a step.

        Args:
            step: The step.

        Returns:
            bool [...].
        """
        if self._known is not None and self._known[0] == step:
            return self._known[1]
        if self._known is None or self._known[0] != step - 1:
            before = torch.zeros_like(self._keys, dtype=torch.bool).flatten()
            left, keys, n = torch.arange(len(before)), self._keys.flatten(), step - 1
            while len(left):
                u = draws.uniform(draws.fold(keys[left], n), ())
                before[left] = u < self._second
                left, n = left[u >= self._anew], n - 1
            self._known = step - 1, before.view_as(self._keys)
        u = draws.uniform(draws.fold(self._keys, step), ())
        self._known = step, torch.where(u < self._anew, u < self._second, self._known[1])
        return self._known[1]
