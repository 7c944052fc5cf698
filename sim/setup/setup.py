"""What a run is made of: task, graph, weights, holdings and model, built and checked before anything runs."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn, optim

from basinet.algorithms import draws
from basinet.algorithms.attacks import NoAttack
from basinet.algorithms.optimizers import LocalOptimizer
from basinet.algorithms.optimizers.per_agent import PerAgentOptimizer
from basinet.algorithms.optimizers.tunings import tuned_for
from basinet.algorithms.strategies import Strategy
from basinet.sim.agents.attackers import make_attack
from basinet.sim.agents.state import StackedState, instantiate
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.config import DEFAULTS, KINDS, MOST, Config
from basinet.sim.experiment.mistakes import first_line, place_of, staying, user_code
from basinet.sim.models.modules import check_module, copy_model, materialize, move_model
from basinet.sim.setup.reached import layout_of
from basinet.sim.setup.room import check_memory, check_trajectory, parameters_of
from basinet.sim.setup.sharing import Shared
from basinet.sim.setup.trial import try_mixing, try_parts, writes_to_inputs
from basinet.sim.tasks import Task, is_data_set, supervised
from basinet.topologies import GraphSequence, check_graph, check_mixing_matrix, perron_vector

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """The parts of a run.

    Attributes:
        config: The run.
        task: Data, loss, metrics, in the run's floating type on the CPU.
        model: Makes the model of one agent, or is one.
        graph: Agents are its nodes, in its own order; the edges of all steps, where they change.
        sequence: Mixing matrices W [K, K] of the steps, over and over; a single one if the graph does not change.
        centroid_weights: Weights π of the agents in the centroid, [K]: the Perron vector of W, that of all W if it
            changes from step to step, or all the same where the columns of W sum to one.
        holdings: For each replica and agent the indices of the samples that it holds; empty where the task
            generates samples.
        num_steps: Steps of the run.
        evaluate_every: Steps between two evaluations.
        attack: What the attackers do.
        attackers: Who attacks, bool [R, K].
        push: Mixing matrices whose columns sum to one, like `sequence`, for a strategy that mixes with both kinds.
        clones_inputs: Whether the model writes into its inputs, so that it has to be given clones.
        num_parameters: P, how many are trained.
        remembered: Bytes that the optimizer remembers of an agent.
    """

    config: Config
    task: Task
    model: Callable[[], nn.Module] | nn.Module
    graph: nx.Graph
    sequence: tuple[csr_array, ...]
    centroid_weights: np.ndarray
    holdings: list[list[np.ndarray]]
    num_steps: int
    evaluate_every: int
    attack: NoAttack
    attackers: np.ndarray
    push: tuple[csr_array, ...] = ()
    clones_inputs: bool = False
    num_parameters: int = 0
    remembered: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of parameters and data."""
        found: torch.dtype = getattr(torch, self.config.runtime.dtype)
        return found

    @property
    def num_agents(self) -> int:
        """K."""
        return len(self.graph)

    @property
    def weights(self) -> csr_array:
        """The mixing matrix W [K, K]; where it changes from step to step, the mean over a period."""
        return _mean(self.sequence)

    @property
    def honest_weights(self) -> np.ndarray:
        """Weights π of the agents in the centroid of each replica, 0 for attackers, [R, K]."""
        pi = np.where(self.attackers, 0, self.centroid_weights)
        return pi / pi.sum(axis=1, keepdims=True) if self.attackers.any() else pi

    @property
    def model_component(self) -> Component:
        """The model's component: the experiment's, or the one that the task names."""
        return self.config.model or KINDS["model"].parse(self.task.model)

    @classmethod
    @staying()
    def build(cls, config: Config, shared: Shared | None = None, *, trial: bool = True) -> "Setup":
        """Build and check the parts of a run.

        Args:
            config: The run.
            shared: What it may have in common with runs that were built before.
            trial: Whether to try the parts on each other; without it what optimizers remember stays unknown.

        Returns:
            The parts.

        Raises:
            ExperimentError: Something asked for cannot be had; the message is one sentence.
        """
        share = shared or Shared()
        topology, policy, seed = config.topology, config.topology.policy, config.seed
        steps = share(
            "graphs",
            (topology.component, topology.agents, seed if topology.component.takes("seed") else None),
            lambda: _graphs(config),
        )
        graph = share("graph", (steps,), lambda: steps[0] if len(steps) == 1 else nx.compose_all(steps))
        num_agents = len(graph)
        strategy: Any = config.strategy.make()
        if getattr(strategy, "static", False) and len(steps) > 1:
            raise ExperimentError(
                f"strategy: {config.strategy.name} needs the same graph at every step, and"
                f" {topology.component.name} has {len(steps)} that take turns"
            )
        stochastic = getattr(strategy, "stochastic", "rows")
        columns = stochastic == "columns"
        sequence = share(
            "weights",
            (steps, policy, config.strategy if columns else None),  # which a refusal names
            lambda: tuple(_weights(config, step, columns=columns, connected=len(steps) == 1) for step in steps),
        )
        push: tuple[csr_array, ...] = ()
        if stochastic == "both":
            reverse = (steps, policy, config.strategy)
            push = share("push", reverse, lambda: tuple(_reverse_weights(config, step) for step in steps))
        component = config.task.component
        drawn = (seed if component.takes("seed") else None, num_agents if component.takes("num_agents") else None)
        task = share(
            "task",
            (component, *drawn, config.runtime.dtype),
            lambda: _task(config, num_agents),
        )
        model = share("model", (config.model or task.model, task, seed), lambda: _model(config, task))
        _check_runtime(config, num_agents)
        _check_batch(config, task)
        _check_memory(config, task, num_agents, parameters_of(config.model or KINDS["model"].parse(task.model), task))
        holdings: list[list[np.ndarray]] = []
        if task.draw is None:
            holdings = share(
                "holdings",
                (task, config.task.partition, num_agents, config.replicas, seed),
                lambda: _holdings(config, task, num_agents),
            )
        num_steps = config.steps or _steps(config, holdings)
        if config.task.augmentation is not None and len(task.input_shape) != 3:
            raise ExperimentError(
                f"task.augmentation: only images [C, H, W] can be augmented, not inputs of shape {task.input_shape}"
            )
        attack, attackers = share(
            "attack",
            (config.attack, config.strategy, task, num_agents, config.replicas, seed),
            lambda: make_attack(config, task, strategy, num_agents),
        )
        setup = cls(
            config=config,
            task=task,
            model=model,
            graph=graph,
            sequence=sequence,
            centroid_weights=share(
                "centroid", (sequence, columns), lambda: _centroid_weights(sequence, columns=columns)
            ),
            holdings=holdings,
            num_steps=num_steps,
            evaluate_every=min(config.evaluate_every or math.ceil(num_steps / 10), num_steps),
            attack=attack,
            attackers=attackers,
            push=push,
        )
        if not trial:
            trained = share("size", setup.tried, lambda: [p for p in setup.template().parameters() if p.requires_grad])
            return replace(setup, num_parameters=sum(p.numel() for p in trained))
        if share("writes", setup.tried, lambda: writes_to_inputs(setup)):
            setup = replace(setup, clones_inputs=True)
        size, remembered = share("trial", setup.tried, lambda: try_parts(setup))
        setup = replace(setup, num_parameters=size, remembered=remembered)
        share("mixing", (config.strategy, sequence), lambda: try_mixing(setup))
        _check_memory(config, task, num_agents, size, remembered)
        check_trajectory(setup)
        return setup

    @property
    def tried(self) -> list[Any]:
        """What decides whether the parts fit together: runs that agree in it, up to the values drawn, need one trial.

        These are all keys of the experiment but its seed, the graph and the analysis, which have trials of their own,
        who holds what, and what only says when something is done.
        """
        left_out = {"case", "strategy_keys", "seed", "topology", "task", "evaluate_every", "keep_every"}
        config, task = self.config, self.task
        keys = [key for key in type(config).model_fields if key not in left_out and not key.startswith("analysis")]
        values = [getattr(config, key) for key in keys]
        shapes = (task.input_shape, task.num_outputs, self.num_agents, self.num_steps)
        return [*values, config.task.component, config.task.augmentation, shapes]

    def state(self, model: nn.Module, num_agents: int, device: torch.device) -> StackedState:
        """Allocate the state of some agents, in the types of the run.

        Args:
            model: The model whose parameters are stacked.
            num_agents: How many agents.
            device: Where the state lives.

        Returns:
            A state of zeros.
        """
        runtime = self.config.runtime
        autocast = getattr(torch, runtime.autocast) if runtime.autocast else None
        return StackedState(model, num_agents, device, self.dtype, autocast)

    def local_optimizer(self, state: StackedState, keys: Tensor) -> LocalOptimizer:
        """Make the optimizers of some agents.

        Args:
            state: The agents' state.
            keys: See `optimizer_keys`.

        Returns:
            Optimizers of the parameters in the state.
        """
        kind, names = self.config.optimizer.target, list(state.shapes)
        return LocalOptimizer(self.optimizer, kind, state.parameters, state.split, keys, names)

    def optimizer_keys(self, replicas: Tensor, agents: Tensor) -> Tensor:
        """Derive the keys from which optimizers draw.

        Args:
            replicas: Replica of each row, int64 [N].
            agents: Agent of each row, int64 [N].

        Returns:
            int64 [N, 2]: the agent's own key, and one that all agents of its replica share.
        """
        own = draws.agent_keys(self.config.seed, "optimizer", replicas, agents)
        shared = draws.agent_keys(self.config.seed, "all optimizers", replicas, torch.zeros_like(agents))
        return torch.stack([own, shared], 1)

    def template(self) -> nn.Module:
        """Make the model that tells names, shapes and frozen values, the same wherever it is made.

        Returns:
            A model on the CPU, in the type in which its maker makes it.
        """
        model = self.plain_model()
        if self.clones_inputs:
            model.register_forward_pre_hook(_clones)
        return model

    def plain_model(self) -> nn.Module:
        """Make the same model as `template`, as the user has written it: without clones of its inputs.

        Returns:
            A model on the CPU, in the type in which its maker makes it.
        """
        return instantiate(self.model, draws.key(self.config.seed, "frozen values"))

    def start(self, replica: int, layout: Mapping[str, Any]) -> nn.Module:
        """Make the model that a replica starts from: the experiment's, or one with keyed initial values.

        Args:
            replica: Which replica.
            layout: See `layout`.

        Returns:
            A model on the CPU.
        """
        start, seed = self.config.start, self.config.seed
        if start is None:
            return instantiate(self.model, draws.key(seed, "initial values", replica))
        template = move_model(self.template(), "cpu", self.dtype)
        return start.place(template, layout, self.config.replicas, replica)

    def layout(self, template: nn.Module) -> dict[str, Any]:
        """Describe the model in plain values, so that a point of it can be told from one of another model.

        Args:
            template: The model, in the type in which its maker makes it.

        Returns:
            `model`: its description, empty for a ready module, which would be told apart by its values; and what
            `layout_of` tells.
        """
        component = self.model_component
        return {"model": {} if component.is_ready else component.describe(), **layout_of(template)}

    def strategy(self) -> Strategy:
        """Make the strategy.

        Returns:
            A strategy.
        """
        strategy: Strategy = self.config.strategy.make()
        return strategy

    def optimizer(
        self, parameters: Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]], **defaults: Any
    ) -> optim.Optimizer:
        """Make the optimizer of some parameters.

        Args:
            parameters: What it steps, with names or without.
            **defaults: Settings that the experiment may overrule: `fused` is taken where it does not choose among
                the implementations that torch has.

        Returns:
            An optimizer.

        Raises:
            ExperimentError: The optimizer refuses its settings.
        """
        component = self.config.optimizer
        target, settings = component.target, dict(component.settings)
        if "tuned" in settings and isinstance(target, type) and issubclass(target, PerAgentOptimizer):
            settings["tuned"] = tuned_for(settings["tuned"], self.num_steps)
        if {"foreach", "capturable", "differentiable"} & settings.keys():
            defaults.pop("fused", None)
        try:
            optimizer: optim.Optimizer = target(parameters, **(defaults | settings))
        except (TypeError, ValueError) as error:
            reason = f"{first_line(error)}{place_of(error)}"
            raise ExperimentError(f"optimizer: {component.name} refuses its settings: {reason}") from error
        return optimizer

    def rate_factor(self, step: int) -> float:
        """Evaluate the learning-rate schedule.

        Args:
            step: Step, from 0.

        Returns:
            The factor on the learning rate.

        Raises:
            ExperimentError: If the schedule returns no number.
        """
        schedule = self.config.schedule
        factor = schedule.make(t=step, num_steps=self.num_steps)
        try:
            return float(factor)
        except (TypeError, ValueError) as error:
            raise ExperimentError(f"schedule: {schedule.name} returns {factor!r}, where a number is wanted") from error


def _clones(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.clone() for x in inputs)


def _graphs(config: Config) -> list[nx.Graph]:
    """Make the graph, or those of a period."""
    part = config.topology
    if part.component.is_ready:
        made = part.component.target
    else:
        if part.agents is None and part.component.needs("num_agents"):
            raise ExperimentError("topology.agents: a value is needed, such as 16")
        made = part.component.make(num_agents=part.agents, seed=draws.key(config.seed, "topology"))
    graphs = list(made) if isinstance(made, GraphSequence) else [made]
    try:
        check_graph(made.union() if isinstance(made, GraphSequence) else made)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"topology: {error}") from None
    if part.component.is_ready and part.agents not in (None, len(graphs[0])):
        raise ExperimentError(f"topology.agents: got {part.agents}, but the graph given has {len(graphs[0])} nodes")
    return graphs


def _mean(sequence: tuple[csr_array, ...]) -> csr_array:
    return sum(sequence[1:], sequence[0]) / len(sequence) if sequence[1:] else sequence[0]


def _centroid_weights(sequence: tuple[csr_array, ...], *, columns: bool) -> np.ndarray:
    """Find how much each agent counts in what the mixing conserves: π with π^T W = π^T for the W of every step."""
    agents = sequence[0].shape[0]
    if columns:
        return np.full(agents, 1 / agents)
    try:
        pi = perron_vector(_mean(sequence))
    except ValueError as error:
        raise ExperimentError(f"topology.policy: {error}") from None
    for step, weights in enumerate(sequence):
        if len(sequence) > 1 and abs(pi @ weights - pi).max() > 1e-8 * pi.max():
            raise ExperimentError(
                f"topology.policy: the weights of the sequence conserve no centroid, since agents count for one thing "
                f"in step {step} and for another in others; allowed are weights whose columns sum to one, such as "
                "metropolis makes on undirected graphs and sinkhorn on directed ones, or the strategy push_sum with "
                "the policy push"
            )
    return pi


def _weights(config: Config, graph: nx.Graph, *, columns: bool, connected: bool) -> csr_array:
    """Make the mixing matrix; its rows sum to one, or its columns."""
    own = graph.graph.get("policy", "push" if columns else DEFAULTS["topology.policy"])
    policy = config.topology.policy or KINDS["policy"].parse(own)
    weights = policy.make(graph=graph)
    try:
        if columns:
            return csr_array(check_mixing_matrix(csr_array(weights).T, _reversed(graph), connected=connected).T)
        return check_mixing_matrix(weights, graph, connected=connected)
    except (TypeError, ValueError) as error:
        reason = (
            f"{error} (transposed, since {config.strategy.name} wants columns that sum to one)" if columns else error
        )
        raise ExperimentError(f"topology.policy: {reason}") from None


def _reverse_weights(config: Config, graph: nx.Graph) -> csr_array:
    """Make a mixing matrix whose columns sum to one: the policy's for the reversed graph, transposed."""
    if graph.is_directed() and config.topology.policy is not None and config.topology.policy.is_ready:
        raise ExperimentError(
            f"topology.policy: {config.strategy.name} mixes along the edges and against them, and a matrix that is"
            " given has weights for one direction alone; allowed are policies by name"
        )
    return csr_array(_weights(config, _reversed(graph), columns=False, connected=False).T)


def _reversed(graph: nx.Graph) -> nx.Graph:
    return graph.reverse(copy=False) if graph.is_directed() else graph


def _task(config: Config, num_agents: int) -> Task:
    component = config.task.component
    made = component.make(seed=draws.key(config.seed, "task"), num_agents=num_agents)
    with user_code(component):
        task = made if isinstance(made, Task) else _user_data(made)
        task.check()
        return task.to("cpu", getattr(torch, config.runtime.dtype))


def _user_data(given: Any) -> Task:
    """Make a task of a user's data set, or of a pair (training set, test set)."""
    pair = isinstance(given, tuple) and len(given) == 2 and all(is_data_set(part) for part in given)
    return supervised(*given) if pair else supervised(given)


def _model(config: Config, task: Task) -> Callable[[], nn.Module] | nn.Module:
    component = config.model or KINDS["model"].parse(task.model)

    def make() -> nn.Module:
        made = component.make(input_shape=task.input_shape, num_outputs=task.num_outputs)
        if not isinstance(made, nn.Module):
            raise ExperimentError(f"model: {component.name} makes a {type(made).__name__}, not a torch.nn.Module")
        with user_code(component):
            try:
                check_module(made)
                made = copy_model(made)  # the user may go on using it, or parts of it
            except ValueError as error:
                raise ExperimentError(f"model: {component.name} cannot be trained: {error}") from error
            return move_model(materialize(made, task.train[0][:2]), "cpu")

    # One that is ready has its values.
    return instantiate(make, draws.key(config.seed, "initial values")) if component.is_ready else make


def _holdings(config: Config, task: Task, num_agents: int) -> list[list[np.ndarray]]:
    counts = task.counts(task.train[-1])
    partition = config.task.partition
    num_samples = len(task.train[0])
    holdings = []
    for replica in range(config.replicas):
        rng = np.random.default_rng(draws.key(config.seed, "partition", replica))
        # A copy, since a partition of the user's own may write into it.
        labels = num_samples if task.labels is None else task.labels.numpy().copy()
        parts = partition.make(labels=labels, num_agents=num_agents, rng=rng)
        with user_code(partition):  # a generator runs as it is read
            parts = list(parts) if isinstance(parts, Iterator) else parts
        arrays = _check_partition(parts, partition.name, num_agents, num_samples)
        for agent, part in enumerate(arrays):
            if counts is not None and not counts[part].any():
                raise ExperimentError(
                    f"task.partition: {partition.name} gives agent {agent} no sample with a label that counts"
                )
        holdings.append(arrays)
    return holdings


def _check_partition(parts: Any, name: str, num_agents: int, num_samples: int) -> list[np.ndarray]:
    """Check what a partition returned: those of the user's own may return anything."""
    try:
        arrays = [np.asarray(part) for part in parts]
    except (TypeError, ValueError):
        arrays = []
    if len(arrays) != num_agents:
        raise ExperimentError(f"task.partition: {name} must return {num_agents} index arrays, one an agent")
    for agent, part in enumerate(arrays):
        if part.ndim != 1 or part.dtype.kind not in "iu":
            raise ExperimentError(f"task.partition: {name} gives agent {agent} no index array [n] of integers")
        if len(part) == 0 or part.min() < 0 or part.max() >= num_samples:
            raise ExperimentError(
                f"task.partition: {name} gives agent {agent} {len(part)} indices; allowed are one or more, from 0 to"
                f" {num_samples - 1}"
            )
    return arrays


def _steps(config: Config, holdings: list[list[np.ndarray]]) -> int:
    if config.epochs is None:
        return 1000
    if not holdings:
        raise ExperimentError("epochs: the task generates fresh samples and has no epochs; give steps")
    mean_size = np.mean([len(h) for h in holdings[0]])
    steps = config.epochs * float(mean_size) / config.batch_size
    if steps > MOST:
        raise ExperimentError(f"epochs: got {config.epochs:g}, which are {steps:.3g} steps; allowed are {MOST:g}")
    return max(1, round(steps))


def _check_batch(config: Config, task: Task) -> None:
    samples = len(task.train[0])
    # Few samples are no mistake of who gives no batch size.
    if task.draw is None and config.batch_size > max(samples, Config.model_fields["batch_size"].default):
        raise ExperimentError(
            f"batch_size: got {config.batch_size}, but the task has {samples} training samples; allowed are at most as"
            " many"
        )


def _check_memory(config: Config, task: Task, num_agents: int, parameters: int, remembered: int = 0) -> None:
    samples, sizes = len(task.train[0]), [t[:1].nbytes for t in task.train]
    check_memory(
        config.runtime,
        replicas=config.replicas,
        agents=num_agents,
        parameters=parameters,
        remembered=remembered,
        batch=config.batch_size * sum(sizes),
        held=8 * samples if task.draw is None and not config.task.partition.is_own else 0,
    )


def _check_runtime(config: Config, num_agents: int) -> None:
    rows = config.replicas * num_agents
    if config.runtime.actors > rows:
        raise ExperimentError(
            f"runtime.actors: got {config.runtime.actors}; allowed are at most {rows}, one an agent of each replica"
        )
    device = config.runtime.device
    try:
        kind = torch.device("cpu" if device == "auto" else device).type
    except RuntimeError:
        raise ExperimentError(f"runtime.device: got '{device}'; allowed are auto, cpu, cuda, cuda:1, …") from None
    if kind == "cuda" and not torch.cuda.is_available() and config.runtime.name == "inline":
        raise ExperimentError(f"runtime.device: got '{device}', but torch finds no GPU here; allowed are auto, cpu")
