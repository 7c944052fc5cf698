"""Making the faults of a run, and whether its strategy tolerates them."""

from collections.abc import Sequence
from typing import Any

import torch
from scipy.sparse import csr_array

from basinet.algorithms.strategies import EventDriven, Strategy, StrategyTraits
from basinet.algorithms.strategies.strategy import require_symmetric
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.mistakes import first_line, user_code
from basinet.sim.faults.fault import AgentFault, Fault, LinkFault
from basinet.sim.faults.link_delay import LinkDelay
from basinet.sim.faults.stalls import Stalls

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
    faults: list[Fault] = []
    for component in config.faults or ():
        fault = component.make()
        if not isinstance(fault, Fault):
            raise ExperimentError(f"faults: {component.name} does not return a basinet.sim.faults.Fault")
        problem = _problem(fault, strategy, sequence)
        if problem is not None:
            raise ExperimentError(f"faults: {component.name} {problem[0]}, but {config.strategy.name} {problem[1]}")
        _try(fault, component, config.replicas, sequence[0].shape[0])
        faults.append(fault)
    if config.compute is None and any(isinstance(fault, Stalls) for fault in faults):
        raise ExperimentError(
            "faults: stalls make gradients take longer, and the run does not say how long they take; give compute, such"
            " as {name: constant, mean: 20 ms}"
        )
    absent = any(isinstance(fault, AgentFault) for fault in faults)
    if absent and any(isinstance(fault, LinkDelay) for fault in faults):
        raise ExperimentError(
            "faults: got agents that are absent beside link_delay, and what they have not sent cannot be late; allowed"
            " is one of the two"
        )
    if config.bytes is not None and absent:
        raise ExperimentError(
            "bytes: agents that are absent send nothing, so that the step is not known at which these are sent; give"
            " steps, epochs or samples"
        )
    return tuple(faults)


def _try(fault: Fault, component: Component, replicas: int, agents: int) -> None:
    """Raise unless a fault says of each link or agent whether it fails."""
    keys = torch.arange(replicas * agents).view(replicas, agents)
    try:
        with user_code(component):
            if isinstance(fault, LinkFault):
                found = fault.on(torch.zeros(agents)).failures(keys)(0)
            elif isinstance(fault, AgentFault):
                found = fault.absences(keys)(0)
            elif isinstance(fault, Stalls):
                fault.added(keys)
                return
            else:
                return
    except ExperimentError:
        raise
    except (OSError, ValueError) as error:
        raise ExperimentError(f"faults: {component.name}: {first_line(error)}") from None
    if not (isinstance(found, torch.Tensor) and found.shape == keys.shape and found.dtype == torch.bool):
        raise ExperimentError(f"faults: {component.name} must return a bool tensor of the shape of its keys, [R, ...]")


def _problem(fault: Fault, strategy: Strategy, sequence: Sequence[csr_array]) -> tuple[str, str] | None:
    """Say what a fault does, and why the strategy does not tolerate it."""
    traits = StrategyTraits.of(strategy)
    if isinstance(fault, Stalls):
        return None
    if isinstance(strategy, EventDriven) and not isinstance(fault, LinkFault):
        return (
            "disturbs what all send in a step",
            "has no such steps; allowed are link_loss, bursts and stalls, or strategies that do, such as diffusion",
        )
    if traits.averages:
        return "disturbs neighbours", "averages over all agents; allowed are strategies that do not, such as diffusion"
    if traits.tolerates == "none":
        return "disturbs messages", "needs all of them; allowed are strategies that tolerate it, such as diffusion"
    if (
        isinstance(fault, AgentFault)
        and fault.rejoin != "own"
        and (traits.tolerates, traits.weights) != ("any", "rows")
    ):
        return "gives agents that return other parameters", "needs rejoin: own to keep the agents' sum"
    if isinstance(fault, LinkDelay) and (traits.tolerates, traits.weights) != ("any", "rows"):
        return (
            "delivers messages late",
            "keeps a sum over the agents, of which the newest counts; allowed are strategies that do not, such as"
            " diffusion",
        )
    if isinstance(fault, LinkDelay) and len(sequence) > 1:
        return "delivers messages late", "then needs the same graph at every step, along which they were sent"
    if isinstance(fault, LinkFault) and traits.weights != "rows" and len(sequence) > 1:
        return "loses messages", "then needs the same graph at every step, to send again what was lost"
    if traits.tolerates == "symmetric":
        if isinstance(fault, LinkFault) and not fault.symmetric:
            return "loses messages of which their senders do not know", "needs symmetric: true to keep the agents' sum"
        try:
            for weights in sequence:
                require_symmetric(weights)
        except ValueError as error:
            return "loses messages", f"then {error}"
    return None
