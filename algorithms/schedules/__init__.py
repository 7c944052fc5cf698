"""Learning-rate schedules: the factor on the learning rate at each step, a pure function of the step."""

from basinet.algorithms.schedules.constant_rate import constant
from basinet.algorithms.schedules.cosine_decay import cosine
from basinet.algorithms.schedules.schedule import SCHEDULES
from basinet.algorithms.schedules.step_decay import step

__all__ = ["SCHEDULES", "constant", "cosine", "step"]

SCHEDULES.fill(__name__)
