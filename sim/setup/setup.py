"""The parts of a run: task, graph, weights, partition and model, as built by `build_setup`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn, optim

from basinet.algorithms import draws
from basinet.algorithms.attacks import NoAttack
from basinet.algorithms.optimizers import LocalOptimizer, OptimizerTraits
from basinet.algorithms.optimizers.tunings import tuned_settings
from basinet.algorithms.strategies import Strategy, StrategyTraits
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState, instantiate
from basinet.sim.clock.data_flow import DataFlow
from basinet.sim.clock.laws import ComputeLaw
from basinet.sim.data.nests import map_nest
from basinet.sim.evaluation.measuring import quantities_of
from basinet.sim.experiment.component import Component, ExperimentError
from basinet.sim.experiment.config import KINDS, Config
from basinet.sim.experiment.mistakes import first_line, place_of
from basinet.sim.experiment.optimizer_groups import RATE_FACTOR, divide_parameters
from basinet.sim.faults import Fault
from basinet.sim.models.freezing import frozen_parameters
from basinet.sim.models.loading import load_values
from basinet.sim.models.modules import copy_model, move_model
from basinet.sim.run.checkpoints.checkpoint_files import load_frozen
from basinet.sim.run.folder import RunFolder
from basinet.sim.run.quantity import QUANTITIES, Direction, Quantity
from basinet.sim.setup.reached import Reached, layout_of
from basinet.sim.setup.start import NotFound
from basinet.sim.tasks import Task
from basinet.sim.tasks.kept import identities
from basinet.topologies.cuts import arrange
from basinet.topologies.networks import Network

__all__ = ["Setup", "mean_weights"]


@dataclass(frozen=True)
class Setup:
    """The parts of a run.

    Attributes:
        config: The run.
        task: Data, loss and metrics, in the run's floating type on the CPU.
        model: Builds the model of one agent, or is one.
        graph: A graph whose nodes are the agents; it has the edges of all steps, if they change.
        sequence: Mixing matrices W [K, K] of the steps, repeated periodically; a single one if the graph is fixed.
        centroid_weights: Weights π of the agents in the centroid, [K]: the common Perron vector of all W, or uniform if
            the columns of W sum to one.
        holdings: For each replica and agent, the indices of the samples that it holds; empty if the task generates
            samples.
        num_steps: Number of steps.
        evaluate_every: Steps between two evaluations.
        attack: The attack.
        attackers: Whether each agent attacks, bool [R, K].
        push: Mixing matrices whose columns sum to one, like `sequence`, for strategies that use both kinds.
        clones_inputs: Whether the model writes into its inputs and has to be given clones.
        num_parameters: P, the number of trained parameters.
        remembered: Bytes of an agent's optimizer state and averages, and of frozen values of its own.
        about_start: How much the model takes of the start, and what not.
        frozen: Values of the frozen parameters, if they are read from a run's folder.
        network: What messages between agents take in simulated time.
        compute: Law of the time that a gradient takes in simulated time; None for no time.
        flow: What the strategy's steps wait for; None if their time is not simulated.
        faults: What goes wrong in the simulated network.
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
    about_start: str = ""
    frozen: Mapping[str, Tensor] | None = None
    network: Network | None = None
    compute: ComputeLaw | None = None
    flow: DataFlow | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of parameters and data."""
        found: torch.dtype = getattr(torch, self.config.runtime.dtype)
        return found

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What an evaluation measures, by name: the metrics, the main one first, then what every run measures."""
        return quantities_of(self.task) | QUANTITIES

    def direction(self, metric: str) -> Direction | None:
        """Return which values of a number that an evaluation measures are better; None if neither are."""
        known = self.quantities.get(metric)
        return None if known is None else known.direction

    @property
    def num_agents(self) -> int:
        """K."""
        return len(self.graph)

    @property
    def weights(self) -> csr_array:
        """The mixing matrix W [K, K]; if it changes from step to step, the mean over a period."""
        return mean_weights(self.sequence)

    @property
    def honest_weights(self) -> np.ndarray:
        """Weights π of the agents in the centroid of each replica, 0 for attackers, [R, K]."""
        pi = np.where(self.attackers, 0, self.centroid_weights)
        return pi / pi.sum(axis=1, keepdims=True) if self.attackers.any() else pi

    @property
    def model_component(self) -> Component:
        """The model's component: the experiment's, or the one that the task names."""
        return self.config.model or KINDS["model"].parse(self.task.model)

    @property
    def tried(self) -> list[Any]:
        """What decides whether the parts fit together: runs that agree in it, up to random draws, share one trial.

        These are all keys of the experiment except its seed, the graph and the analysis (which have trials of their
        own), the partition, simulated time, and keys that only set when something is done.
        """
        left_out = {"case", "strategy_keys", "tuned", "seed", "topology", "task", "evaluate_every", "keep_every"}
        left_out |= {"network", "compute"}
        config, task = self.config, self.task
        keys = [key for key in type(config).model_fields if key not in left_out and not key.startswith("analysis")]
        values = [getattr(config, key) for key in keys]
        shapes = (*task.model_arguments.values(), self.num_agents, self.num_steps)
        return [*values, config.task.component, config.task.augmentation, shapes]

    @property
    def tried_alone(self) -> list[Any]:
        """What decides whether the model can be trained on the data, whatever strategy and optimizer do with it."""
        config, task = self.config, self.task
        keys = ("adapters", "frozen", "trained", "start", "replicas", "runtime", "metrics", "metrics_on", "validation")
        sizes = (min(2, config.part_size), task.measured_batch, config.evaluate_samples)
        parts = (config.task.component, config.task.augmentation, self.model_component)
        return [*(getattr(config, key) for key in keys), *parts, *sizes, tuple(task.model_arguments.values())]

    @property
    def exchanges(self) -> tuple[csr_array, ...]:
        """Matrices along whose entries the strategy sends rows; none if it only sums over all agents."""
        uses_graph = StrategyTraits.of(self.strategy()).uses_graph
        return (*self.sequence, *self.push) if uses_graph else ()

    def placement(self, groups: Sequence[object] = (None,)) -> Placement:
        """Split the agents of all replicas among workers, so that few rows travel between them.

        Rounding may decide it, so that one process does it for all workers.

        Args:
            groups: For each worker, at most R·K, the machine that it is on: within a machine, more may travel.

        Returns:
            A placement, of the first worker.
        """
        matrices, runtime = self.exchanges, self.config.runtime

        def split(sizes: list[int], machines: list[int]) -> np.ndarray:
            return arrange(matrices, sizes, machines, runtime.partitioner)

        shares = runtime.shares if len(groups) > 1 else None
        return Placement.of_groups(self.config.replicas, self.num_agents, groups, split if matrices else None, shares)

    def state(self, model: nn.Module, num_agents: int, device: torch.device) -> StackedState:
        """Allocate the state of some agents, in the types of the run.

        Args:
            model: The model whose parameters are stacked.
            num_agents: Number of agents.
            device: Where the state lives.

        Returns:
            A state filled with zeros.
        """
        runtime = self.config.runtime
        autocast = getattr(torch, runtime.autocast) if runtime.autocast else None
        return StackedState(model, num_agents, device, self.dtype, autocast)

    def local_optimizer(self, state: StackedState, keys: Tensor) -> LocalOptimizer:
        """Build the optimizers of some agents.

        Args:
            state: The agents' state.
            keys: See `optimizer_keys`.

        Returns:
            The optimizers of the parameters in the state.

        Raises:
            ExperimentError: A group of parameters is empty.
        """
        kind, names = self.config.optimizer.target, list(state.shapes)
        groups = divide_parameters(self.config.optimizer, state.names)
        return LocalOptimizer(self.optimizer, kind, state.parameters, state.split, keys, names, groups)

    def optimizer_keys(self, replicas: Tensor, agents: Tensor) -> Tensor:
        """Derive the keys for the optimizers' random draws.

        Args:
            replicas: Replica of each row, int64 [N].
            agents: Agent of each row, int64 [N].

        Returns:
            int64 [N, 2]: the agent's own key, and one shared by all agents of its replica.
        """
        own = draws.agent_keys(self.config.seed, "optimizer", replicas, agents)
        shared = draws.agent_keys(self.config.seed, "all optimizers", replicas, torch.zeros_like(agents))
        return torch.stack([own, shared], 1)

    def template(self) -> nn.Module:
        """Build the model that defines names, shapes and frozen values, identically on every process.

        Returns:
            A model on the CPU, in the floating type in which it is built.
        """
        model = self.plain_model()
        if self.clones_inputs:
            model.register_forward_pre_hook(_clones, with_kwargs=True)
        return model

    def plain_model(self) -> nn.Module:
        """Build the same model as `template`, as written by the user: without cloned inputs.

        Returns:
            A model on the CPU, in the floating type in which it is built, or in which it starts if that is given. It
            holds the frozen values that all replicas share, unless their source is gone.
        """
        model = instantiate(self.model, draws.key(self.config.seed, "frozen values"))
        start, values = self.config.start, self.frozen
        if not frozen_parameters(model) or (start is None and values is None):
            return model
        layout = self.layout(model)
        move_model(model, "cpu", self.dtype)
        if values is None and start is not None:
            with suppress(NotFound):
                values = start.frozen(copy_model(model), layout, self.config.replicas)
        load_values(model, values or {})
        return model

    def expected(self) -> Reached:
        """Return points of the run's model as they will be, up to their values, to check what may start from them."""
        model = self.template()
        layout = self.layout(model)
        move_model(model, "cpu", self.dtype)
        values = [p.detach().flatten() for p in model.parameters() if p.requires_grad]
        count = self.config.replicas
        buffers = {name: b.expand(count, *b.shape) for name, b in model.named_buffers()}
        parameters = torch.cat(values).expand(count, -1)
        return Reached(parameters, buffers, layout, self.dtype, frozen_parameters(model), identities(self.task.kept))

    def with_frozen(self, folder: Path) -> "Setup":
        """Return the parts of a run with the frozen parameters in its folder, whose source may be gone.

        Args:
            folder: The run's folder.

        Returns:
            The parts.
        """
        return replace(self, frozen=load_frozen(RunFolder(folder).frozen))

    def start(self, replica: int, layout: Mapping[str, Any]) -> nn.Module:
        """Build the model from which a replica starts: the experiment's, or one with keyed initial values.

        Args:
            replica: The replica's number.
            layout: See `layout`.

        Returns:
            A model on the CPU.
        """
        start, seed = self.config.start, self.config.seed
        if start is None:
            return instantiate(self.model, draws.key(seed, "initial values", replica))
        model = instantiate(self.model, draws.key(seed, "initial values", replica))
        return start.place(move_model(model, "cpu", self.dtype), layout, self.config.replicas, replica)

    def layout(self, template: nn.Module) -> dict[str, Any]:
        """Describe the model in plain values, so that its points can be distinguished from another model's.

        Args:
            template: The model, in the floating type in which it is built.

        Returns:
            `model`: its description, empty for a ready-made module, which would be identified by its values; and the
            entries of `layout_of`.
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
        self,
        parameters: Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]],
        *,
        group: Mapping[str, Any] | None = None,
        **defaults: Any,
    ) -> optim.Optimizer:
        """Build the optimizer of some parameters.

        Args:
            parameters: The parameters, with or without names.
            group: Settings of their own.
            **defaults: Settings that the experiment may override: `fused` is used unless the experiment chooses one of
                torch's implementations.

        Returns:
            An optimizer.

        Raises:
            ExperimentError: The optimizer rejects its settings, or has no groups with these.
        """
        component = self.config.optimizer
        target, settings, own = component.target, dict(component.settings), dict(group or {})
        factor = own.pop(RATE_FACTOR, 1.0)
        for key in ("groups", "layer_decay"):
            settings.pop(key, None)
        if {"foreach", "capturable", "differentiable"} & settings.keys():
            defaults.pop("fused", None)
        tuning = OptimizerTraits.of(target).tuning
        try:
            if tuning is not None:
                settings = tuned_settings(tuning, settings, self.num_steps)
            optimizer: optim.Optimizer = target(parameters, **(defaults | settings | own))
        except (TypeError, ValueError) as error:
            reason = f"{first_line(error)}{place_of(error)}"
            raise ExperimentError(f"optimizer: {component.name} refuses its settings: {reason}") from error
        known = optimizer.param_groups[0]
        if factor != 1:
            known["lr"] *= factor
        common = next((key for key in own if key not in known), None)
        if common is not None:
            allowed = ", ".join(key for key in known if key in optimizer.defaults)
            raise ExperimentError(
                f"optimizer.groups: {component.name} has one '{common}' for all parameters; allowed: {allowed}"
            )
        return optimizer

    def rate_factor(self, step: int, evaluations: Mapping[str, Sequence[float]] | None = None) -> float:
        """Evaluate the learning-rate schedule.

        Args:
            step: Step, from 0.
            evaluations: Values of each metric at the evaluations so far; those of which larger ones are better are
                negated.

        Returns:
            The factor on the learning rate.

        Raises:
            ExperimentError: The schedule does not return a number.
        """
        schedule = self.config.schedule
        factor = schedule.make(t=step, num_steps=self.num_steps, evaluations=evaluations or {})
        try:
            return float(factor)
        except (TypeError, ValueError) as error:
            raise ExperimentError(f"schedule: {schedule.name} returns {factor!r}, where a number is wanted") from error

    @property
    def rates_depend_on_evaluations(self) -> bool:
        """Whether the schedule needs the evaluations so far."""
        return self.config.schedule.takes("evaluations")


def _clones(model: nn.Module, by_position: tuple[Any, ...], by_name: dict[str, Any]) -> tuple[Any, Any]:
    return map_nest(torch.clone, by_position), map_nest(torch.clone, by_name)


def mean_weights(sequence: Sequence[csr_array]) -> csr_array:
    """Average the mixing matrices of a period.

    Args:
        sequence: The matrices of the steps.

    Returns:
        Their mean; a single matrix is returned as it is.
    """
    return sum(sequence[1:], sequence[0]) / len(sequence) if sequence[1:] else sequence[0]
