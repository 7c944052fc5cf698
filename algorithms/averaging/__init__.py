"""Averages of an agent's parameters over the steps: the weight of the newest point, a pure function of the step.

After step t the average becomes x̄ + w (x − x̄). As long as the weight is None there is no average, and the point itself
stands for it.
"""

from basinet.algorithms.averaging.averaging import AVERAGINGS
from basinet.algorithms.averaging.exponential_average import ema
from basinet.algorithms.averaging.tail_average import swa

__all__ = ["AVERAGINGS", "ema", "swa"]

AVERAGINGS.fill(__name__)
