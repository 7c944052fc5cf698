"""Losses and gradients of all engines against autograd, an agent at a time."""

import copy

import torch

from basinet.sim.agents.state import StackedState, load_vector
from basinet.sim.data.nests import map_nest
from basinet.sim.data.rows import take
from basinet.sim.engines import ENGINES

F64 = torch.float64


def check_engines(task, model, batch, agents):
    """Raise unless all engines find the losses and gradients of agents that differ in parameters and samples.

    Args:
        task: The task, whose objective is that of a batch.
        model: A model in float64, without anything random; its buffers are those of all agents.
        batch: As many samples for each agent, one after the other.
        agents: Number of agents.

    Returns:
        The gradients, [agents, parameters].
    """
    state = StackedState(model, agents, torch.device("cpu"), F64)
    state.fill(slice(None), model)
    noise = torch.randn(state.parameters.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    state.parameters += 0.1 * noise
    batch, keys = map_nest(lambda t: t.unflatten(0, (agents, -1)), batch), torch.arange(agents)
    wanted = []
    for n in range(agents):
        agent = load_vector(copy.deepcopy(model), state.parameters[n], dict(model.named_buffers()))
        loss = task.objective(agent, take(batch, n))
        gradients = torch.autograd.grad(loss, list(agent.parameters()), materialize_grads=True)
        wanted.append((loss.detach(), torch.cat([g.flatten() for g in gradients])))
    losses, gradients = (torch.stack(parts) for parts in zip(*wanted, strict=True))
    for engine, kind in ENGINES.items():
        runner = kind(model, task, state)
        torch.testing.assert_close(runner.losses(batch, keys), losses, rtol=1e-10, atol=1e-12, msg=engine)
        torch.testing.assert_close(runner.gradients(batch, keys), losses, rtol=1e-10, atol=1e-12, msg=engine)
        torch.testing.assert_close(state.gradients, gradients, rtol=1e-10, atol=1e-12, msg=engine)
    return gradients
