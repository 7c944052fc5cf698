"""Learning-rate schedules: the factor on the learning rate at each step.

A schedule is a pure function of the step, and if it has a parameter `evaluations`, of what has been measured so far.
"""

from basinet.algorithms.schedules.constant_rate import constant
from basinet.algorithms.schedules.cosine_decay import cosine
from basinet.algorithms.schedules.cosine_restarts import cosine_restarts
from basinet.algorithms.schedules.inverse_sqrt import inverse_sqrt
from basinet.algorithms.schedules.linear_decay import linear
from basinet.algorithms.schedules.one_cycle import one_cycle
from basinet.algorithms.schedules.plateau import plateau
from basinet.algorithms.schedules.polynomial_decay import polynomial
from basinet.algorithms.schedules.schedule import SCHEDULES
from basinet.algorithms.schedules.step_decay import step

__all__ = [
    "SCHEDULES",
    "constant",
    "cosine",
    "cosine_restarts",
    "inverse_sqrt",
    "linear",
    "one_cycle",
    "plateau",
    "polynomial",
    "step",
]

SCHEDULES.fill(__name__)
