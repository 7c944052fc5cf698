"""Laws of compute time: how long an agent takes for a step's gradient, by name."""

from basinet.sim.clock.laws.compute_law import LAWS, ComputeLaw, DrawnLaw, Independent
from basinet.sim.clock.laws.constant_time import Constant
from basinet.sim.clock.laws.device_table import Devices
from basinet.sim.clock.laws.exponential_time import Exponential
from basinet.sim.clock.laws.lognormal_time import Lognormal
from basinet.sim.clock.laws.markov_time import Markov
from basinet.sim.clock.laws.pareto_time import Pareto
from basinet.sim.clock.laws.time_trace import Trace
from basinet.sim.clock.laws.times_of_model import Flops, Measured
from basinet.sim.clock.laws.uniform_time import Uniform
from basinet.sim.clock.laws.weibull_time import Weibull

__all__ = [
    "LAWS",
    "ComputeLaw",
    "Constant",
    "Devices",
    "DrawnLaw",
    "Exponential",
    "Flops",
    "Independent",
    "Lognormal",
    "Markov",
    "Measured",
    "Pareto",
    "Trace",
    "Uniform",
    "Weibull",
]

LAWS.fill(__name__)
