"""Making the faults of a run, and whether its strategy tolerates them."""

from collections.abc import Sequence
from typing import Any

from scipy.sparse import csr_array

from basinet.algorithms.strategies import StrategyTraits
from basinet.algorithms.strategies.strategy import require_symmetric
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.faults.fault import Fault, LinkFault

__all__ = ["make_faults"]


def make_faults(config: Config, strategy: Any, sequence: Sequence[csr_array]) -> tuple[Fault, ...]:
    """Make the faults of a run.

    Args:
        config: The run.
        strategy: Its strategy.
        sequence: Its mixing matrices.

    Returns:
        The faults.

    Raises:
        ExperimentError: The strategy does not tolerate one.
    """
    traits, faults = StrategyTraits.of(strategy), []
    for component in config.faults or ():
        fault = component.make()
        if not isinstance(fault, Fault):
            raise ExperimentError(f"faults: {component.name} does not return a basinet.sim.faults.Fault")
        problem = _problem(fault, traits, sequence)
        if problem is not None:
            raise ExperimentError(f"faults: {component.name} {problem[0]}, but {config.strategy.name} {problem[1]}")
        faults.append(fault)
    return tuple(faults)


def _problem(fault: Fault, traits: StrategyTraits, sequence: Sequence[csr_array]) -> tuple[str, str] | None:
    """Say what a fault does, and why the strategy does not tolerate it."""
    if traits.averages:
        return "disturbs messages between neighbours", "averages over all agents"
    if traits.tolerates == "none":
        return "disturbs messages", "loses its way for good when one does not arrive"
    if isinstance(fault, LinkFault) and traits.tolerates == "symmetric":
        if not fault.symmetric:
            return "loses messages of which their senders do not know", "needs symmetric: true to keep the agents' sum"
        try:
            for weights in sequence:
                require_symmetric(weights)
        except ValueError as error:
            return "loses messages", f"then {error}"
    return None
