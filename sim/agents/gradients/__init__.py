"""What happens to the agents' gradients between the engine and the strategy."""

from basinet.sim.agents.gradients.accumulation import MicroBatches
from basinet.sim.agents.gradients.clipping import Clipping
from basinet.sim.agents.gradients.loss_scaling import LossScaling

__all__ = ["Clipping", "LossScaling", "MicroBatches"]
