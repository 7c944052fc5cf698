"""Building the parts of a run: each is made and checked, and they are tried out together."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.sparse import csr_array
from torch import nn
from torch.nn.parameter import is_lazy

from basinet.algorithms import draws
from basinet.algorithms.strategies import EventDriven, StrategyTraits
from basinet.sim.agents.attackers import make_attack
from basinet.sim.agents.state import instantiate
from basinet.sim.clock.clock import clock_of
from basinet.sim.clock.conditions import network_on
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.clock.pass_cost import law_of
from basinet.sim.clock.rehearsed_flow import data_flow
from basinet.sim.data.rows import Stored, length, take
from basinet.sim.evaluation.asked_metrics import with_metrics
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.config import DEFAULTS, KINDS, MOST, Config
from basinet.sim.experiment.mistakes import count_of, staying, user_code
from basinet.sim.faults import NetworkLoss
from basinet.sim.faults.making import make_faults
from basinet.sim.models.modules import check_module, copy_model, materialize, move_model
from basinet.sim.setup.checks import check_batch, check_events, check_partition, check_runtime, check_size
from basinet.sim.setup.room import check_trajectory, parameters_of
from basinet.sim.setup.setup import Setup, mean_weights
from basinet.sim.setup.sharing import Shared
from basinet.sim.setup.spending import rows_in_steps, steps_by_bytes, steps_by_samples
from basinet.sim.setup.trainable import trainable
from basinet.sim.setup.trial import try_alone, try_mixing, try_parts, verb_of, writes_to_inputs
from basinet.sim.tasks import Task, is_data_set, supervised
from basinet.sim.tasks.kept import identities
from basinet.topologies import GraphSequence, check_graph, check_mixing_matrix, perron_vector

__all__ = ["build_setup", "model_without_data"]


@staying()
def build_setup(config: Config, shared: Shared | None = None, *, trial: bool = True) -> Setup:
    """Build and check the parts of a run.

    Args:
        config: The run.
        shared: Parts that it may share with runs built before.
        trial: Whether to try the parts out together; without it, the optimizer's memory remains unknown.

    Returns:
        The parts.

    Raises:
        ExperimentError: Something asked for is impossible; the message is one sentence.
    """
    share = shared or Shared()
    topology, policy, seed, of_data = config.topology, config.topology.policy, config.seed, config.data_seed
    steps = share(
        "graphs",
        (topology.component, topology.agents, of_data if topology.component.takes("seed") else None),
        lambda: _graphs(config),
    )
    graph = share("graph", (steps,), lambda: steps[0] if len(steps) == 1 else nx.compose_all(steps))
    num_agents = len(graph)
    strategy: Any = config.strategy.make()
    with user_code(config.strategy):
        traits = StrategyTraits.of(strategy)
    if traits.static and len(steps) > 1:
        raise ExperimentError(
            f"strategy: {config.strategy.name} needs the same graph at every step, but"
            f" {topology.component.name} alternates between {len(steps)}"
        )
    columns = traits.weights == "columns"
    sequence = share(
        "weights",
        (steps, policy, config.strategy if columns else None),  # the strategy is named in the error message
        lambda: tuple(_weights(config, step, columns=columns, connected=len(steps) == 1) for step in steps),
    )
    push: tuple[csr_array, ...] = ()
    if traits.weights == "both":
        reverse = (steps, policy, config.strategy)
        push = share("push", reverse, lambda: tuple(_reverse_weights(config, step) for step in steps))
    component = config.task.component
    drawn = (of_data if component.takes("seed") else None, num_agents if component.takes("num_agents") else None)
    task = share(
        "task",
        (component, *drawn, config.runtime.dtype),
        lambda: _task(config, num_agents),
    )
    if config.start is not None:
        config.start.check_made(identities(task.kept))
    if config.validation is not None:
        task = share("held out", (task, config.validation.share, of_data), lambda: _held_out(config, task))
    task = share("metrics", (task, config.metrics, config.metrics_on), lambda: with_metrics(task, config))
    if (count := config.evaluate_samples) is not None:
        if task.overrides("evaluate"):
            raise ExperimentError(
                f"evaluate_samples: {component.name} evaluates models in its own way; allowed is to leave it out"
            )
        task = share("evaluated", (task, count), lambda: replace(task, evaluated_samples=count))
    if task.mean_over == "batch" and task.measured_batch is None:
        size = config.batch_size
        task = share("batches", (task, size), lambda: replace(task, measured_batch=size))
    shape = (config.adapters, config.frozen, config.trained, config.start, config.replicas)
    model = share("model", (config.model or task.model, task, seed, shape), lambda: _model(config, task))
    check_runtime(config, num_agents)
    check_batch(config, task)
    check_size(config, task, num_agents, share("parameters", (model,), lambda: parameters_of(config, task)))
    holdings: list[list[np.ndarray]] = []
    if task.draw is None:
        holdings = share(
            "holdings",
            (task, config.task.partition, num_agents, config.replicas, seed),
            lambda: _holdings(config, task, num_agents),
        )
    num_steps = config.steps or _steps(config, holdings, num_agents)
    if config.task.augmentation is not None and len(task.input_shape) != 3:
        raise ExperimentError(
            f"task.augmentation: only images [C, H, W] can be augmented, not inputs of shape {task.input_shape}"
        )
    attack, attackers = share(
        "attack",
        (config.attack, config.strategy, task, num_agents, config.replicas, seed),
        lambda: make_attack(config, task, strategy, num_agents),
    )
    setup = Setup(
        config=config,
        task=task,
        model=model,
        graph=graph,
        sequence=sequence,
        centroid_weights=share("centroid", (sequence, columns), lambda: _centroid_weights(sequence, columns=columns)),
        holdings=holdings,
        num_steps=num_steps,
        evaluate_every=_evaluate_every(config, num_steps),
        attack=attack,
        attackers=attackers,
        push=push,
        faults=make_faults(config, strategy, sequence),
    )
    if isinstance(strategy, EventDriven):
        check_events(setup)
    if config.bytes is not None:
        setup = _until_sent(setup, share, trial=trial)
    if config.network is not None or config.compute is not None:
        setup = _timed(setup, share, trial=trial)
    loses = setup.network is not None and setup.network.loss is not None
    if not loses and any(isinstance(fault, NetworkLoss) for fault in setup.faults):
        raise ExperimentError("faults: network_loss needs a network that loses messages, such as network={loss: 1 %}")
    if not trial:
        return replace(setup, num_parameters=share("size", (model,), lambda: _num_parameters(setup)))
    setup, size, remembered = _tried(setup, share)
    about = share("start", (tuple(setup.tried), seed), lambda: _about_start(setup))
    setup = replace(setup, num_parameters=size, remembered=remembered, about_start=about)
    share("mixing", (config.strategy, sequence), lambda: try_mixing(setup))
    check_size(config, task, num_agents, size, remembered)
    check_trajectory(setup)
    return setup


def _num_parameters(setup: Setup) -> int:
    return sum(p.numel() for p in setup.template().parameters() if p.requires_grad)


def _tried(setup: Setup, share: Shared) -> tuple[Setup, int, int]:
    """Try the parts out together; return them, the number of trained parameters and an agent's remembered bytes."""
    alone = (verb_of(setup), *setup.tried_alone)
    if share("writes", alone, lambda: writes_to_inputs(setup)):
        setup = replace(setup, clones_inputs=True)
    share("alone", alone, lambda: try_alone(setup))
    size, remembered = share("trial", setup.tried, lambda: try_parts(setup))
    return setup, size, remembered


def _until_sent(setup: Setup, share: Shared, *, trial: bool) -> Setup:
    """Return a run that ends when its budget of bytes is used up."""
    rehearsed = _tried(setup, share)[0] if trial else setup
    rows, cycle = share("rows", (*rehearsed.tried, setup.push != ()), lambda: rows_in_steps(rehearsed))
    num_steps = steps_by_bytes(setup, rows, cycle)
    return replace(setup, num_steps=num_steps, evaluate_every=_evaluate_every(setup.config, num_steps))


def _timed(setup: Setup, share: Shared, *, trial: bool) -> Setup:
    """Return a run whose steps have a simulated time."""
    config, graph = setup.config, setup.graph
    described = None if config.network is None else config.network.component
    setup = replace(setup, network=share("network", (described, graph), lambda: network_on(config, graph)))
    events = isinstance(setup.strategy(), EventDriven)
    rehearsed = _tried(setup, share)[0] if trial and not events else setup
    alone = (verb_of(setup), *setup.tried_alone, setup.config.batch_size, setup.config.compute)
    law = share("law", alone, lambda: law_of(rehearsed))
    setup = replace(setup, compute=law)
    if events:
        try_mixing(setup)
        EventClock(setup)  # raises what `clock_of` does
        return setup
    flow = share("flow", (*rehearsed.tried, setup.push != ()), lambda: data_flow(rehearsed))
    setup = replace(setup, flow=flow)
    clock_of(setup)  # raises if links are missing, or the law is not one for so many agents
    return setup


def _evaluate_every(config: Config, num_steps: int) -> int:
    return min(config.evaluate_every or math.ceil(num_steps / 10), num_steps)


def _about_start(setup: Setup) -> str:
    """Describe how much the model takes of the start, and what not."""
    start = setup.config.start
    if start is None or not start.is_read:
        return ""
    model = setup.template()
    return start.summary(move_model(model, "cpu", setup.dtype), setup.layout(model))


def _graphs(config: Config) -> list[nx.Graph]:
    """Build the graph, or the graphs of a period."""
    part = config.topology
    if part.component.is_ready:
        made = part.component.target
    else:
        if part.agents is None and part.component.needs("num_agents"):
            raise ExperimentError("topology.agents: a value is needed, such as 16")
        made = part.component.make(num_agents=part.agents, seed=draws.key(config.data_seed, "topology"))
    graphs = list(made) if isinstance(made, GraphSequence) else [made]
    try:
        check_graph(made.union() if isinstance(made, GraphSequence) else made)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"topology: {error}") from None
    if part.component.is_ready and part.agents not in (None, len(graphs[0])):
        raise ExperimentError(f"topology.agents: got {part.agents}, but the graph given has {len(graphs[0])} nodes")
    return graphs


def _centroid_weights(sequence: tuple[csr_array, ...], *, columns: bool) -> np.ndarray:
    """Compute the weights of the average that mixing conserves: π with π^T W = π^T for the W of every step."""
    agents = sequence[0].shape[0]
    if columns:
        return np.full(agents, 1 / agents)
    try:
        pi = perron_vector(mean_weights(sequence))
    except ValueError as error:
        raise ExperimentError(f"topology.policy: {error}") from None
    for step, weights in enumerate(sequence):
        if len(sequence) > 1 and abs(pi @ weights - pi).max() > 1e-8 * pi.max():
            raise ExperimentError(
                "topology.policy: the weights of the sequence conserve no centroid, since agents count differently at"
                f" step {step} than at others; allowed are weights whose columns sum to one, such as metropolis makes"
                " on undirected graphs and sinkhorn on directed ones, or the strategy push_sum with the policy push"
            )
    return pi


def _weights(config: Config, graph: nx.Graph, *, columns: bool, connected: bool) -> csr_array:
    """Compute the mixing matrix, with rows or columns that sum to one."""
    own = graph.graph.get("policy", "push" if columns else DEFAULTS["topology.policy"])
    policy = config.topology.policy or KINDS["policy"].parse(own)
    weights = policy.make(graph=graph)
    try:
        if columns:
            return csr_array(check_mixing_matrix(csr_array(weights).T, _reversed(graph), connected=connected).T)
        return check_mixing_matrix(weights, graph, connected=connected)
    except (TypeError, ValueError) as error:
        reason = (
            f"{error} (transposed, since {config.strategy.name} needs columns that sum to one)" if columns else error
        )
        raise ExperimentError(f"topology.policy: {reason}") from None


def _reverse_weights(config: Config, graph: nx.Graph) -> csr_array:
    """Compute a mixing matrix whose columns sum to one: the policy's for the reversed graph, transposed."""
    if graph.is_directed() and config.topology.policy is not None and config.topology.policy.is_ready:
        raise ExperimentError(
            f"topology.policy: {config.strategy.name} mixes along the edges and against them, and a given matrix only"
            " has weights for one direction; allowed are policies by name"
        )
    return csr_array(_weights(config, _reversed(graph), columns=False, connected=False).T)


def _reversed(graph: nx.Graph) -> nx.Graph:
    return graph.reverse(copy=False) if graph.is_directed() else graph


def _task(config: Config, num_agents: int) -> Task:
    component = config.task.component
    made = component.make(seed=draws.key(config.data_seed, "task"), num_agents=num_agents)
    with user_code(component):
        task = made if isinstance(made, Task) else _user_data(made)
        task.check()
        return task.to("cpu", getattr(torch, config.runtime.dtype))


def _held_out(config: Config, task: Task) -> Task:
    """Hold training samples out, which take the place of the test data."""
    assert config.validation is not None
    try:
        return task.hold_out(config.validation.share, config.data_seed)
    except ValueError as error:
        raise ExperimentError(f"validation: {config.task.component.name}: {error}") from error


def _user_data(given: Any) -> Task:
    """Build a task from a user's data set, or from a pair (training set, test set)."""
    pair = isinstance(given, tuple) and len(given) == 2 and all(is_data_set(part) for part in given)
    return supervised(*given) if pair else supervised(given)


def model_without_data(config: Config, recorded: Mapping[str, Any]) -> nn.Module | None:
    """Make the model of a run without its data.

    Args:
        config: The run, with the start None.
        recorded: Name of the task's own model, and the `arguments` that the task has given to the maker.

    Returns:
        The model, as `Setup.plain_model` makes it; None if its layers learn their sizes from data.

    Raises:
        ExperimentError: It cannot be made.
    """
    component = config.model or KINDS["model"].parse(recorded["name"])
    given = {name: _tuples(value) for name, value in recorded["arguments"].items()}

    def make() -> nn.Module:
        made = move_model(_made(component, config, given), "cpu")
        return made if _learns_sizes(made) else trainable(config, made)

    model = instantiate(make, draws.key(config.seed, "frozen values"))
    return None if _learns_sizes(model) else model


def _tuples(value: Any) -> Any:
    """Return an argument as it was before JSON made lists of tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _learns_sizes(model: nn.Module) -> bool:
    return any(map(is_lazy, (*model.parameters(), *model.buffers())))


def _made(component: Component, config: Config, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a model, whose lazy layers are still without values."""
    made = component.make(**arguments, seed=config.seed)
    if not isinstance(made, nn.Module):
        raise ExperimentError(f"model: {component.name} makes a {type(made).__name__}, not a torch.nn.Module")
    with user_code(component):
        try:
            check_module(made)
            return copy_model(made)  # the user may continue to use it, or parts of it
        except ValueError as error:
            raise ExperimentError(f"model: {component.name} cannot be trained: {error}") from error


def _model(config: Config, task: Task) -> Callable[[], nn.Module] | nn.Module:
    component = config.model or KINDS["model"].parse(task.model)

    def make() -> nn.Module:
        made = _made(component, config, task.model_arguments)
        with user_code(component):
            return move_model(materialize(made, task.outputs, take(task.train, slice(0, 2))), "cpu")

    if component.is_ready:  # it has its values, which only adapters are drawn beside
        made = instantiate(make, draws.key(config.seed, "initial values"))
        return trainable(config, made) if config.adapters is None else lambda: trainable(config, copy_model(made))
    return lambda: trainable(config, make())


def _holdings(config: Config, task: Task, num_agents: int) -> list[list[np.ndarray]]:
    counts = None if isinstance(task.train, Stored) else task.counts(task.train)
    partition = config.task.partition
    num_samples = length(task.train)
    streamed = isinstance(task.train, Stored) and task.train.window is not None
    if streamed and partition.name not in ("in_turns", "shared"):
        raise ExperimentError(
            f"task.partition: got {partition.name}, but the samples are a stream, which all agents read in its order;"
            " allowed are in_turns, shared, or a cache, in which samples have an index"
        )
    holdings = []
    for replica in range(config.replicas):
        rng = np.random.default_rng(draws.key(config.seed, "partition", replica))
        # A copy, since the user's partition may write into it.
        labels = num_samples if task.labels is None else task.labels.numpy().copy()
        parts = partition.make(labels=labels, columns=task.columns, num_agents=num_agents, rng=rng)
        with user_code(partition):  # the code of a generator runs when it is iterated over
            parts = list(parts) if isinstance(parts, Iterator) else parts
        arrays = check_partition(parts, partition.name, num_agents, num_samples)
        for agent, part in enumerate(arrays):
            if len(part) < task.least_batch:
                raise ExperimentError(
                    f"task.partition: {partition.name} gives agent {agent} {count_of(len(part), 'sample')}, but the"
                    f" loss of {config.task.component.name} compares the samples of a batch; allowed are at least"
                    f" {task.least_batch} for each agent"
                )
            if counts is not None and not counts[part].any():
                raise ExperimentError(
                    f"task.partition: {partition.name} gives agent {agent} no sample with a label that counts"
                )
        holdings.append(arrays)
    return holdings


def _steps(config: Config, holdings: list[list[np.ndarray]], num_agents: int) -> int:
    """Return the number of steps, if the experiment does not say it; of a budget of bytes, one to begin with."""
    if config.samples is not None:
        return steps_by_samples(config.samples, config.batch_size, num_agents)
    if config.epochs is None:
        return 1000
    if not holdings:
        raise ExperimentError("epochs: the task generates fresh samples and has no epochs; give steps")
    mean_size = np.mean([len(h) for h in holdings[0]])
    steps = config.epochs * float(mean_size) / config.batch_size
    if steps > MOST:
        raise ExperimentError(f"epochs: got {config.epochs:g}, which are {steps:.3g} steps; allowed are {MOST:g}")
    return max(1, round(steps))
