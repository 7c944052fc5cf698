"""A block: the agents that one process hosts, and the verbs over which strategies are written."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist
from scipy.sparse import csr_array
from torch import Tensor

from basinet.algorithms import draws
from basinet.algorithms.strategies import Strategy
from basinet.sim.agents.attackers import Attackers, Broadcast, SpoiltSampler, no_average
from basinet.sim.agents.divergence import DivergenceWatch
from basinet.sim.agents.escape import EscapeWatch
from basinet.sim.agents.mixer import Mixer
from basinet.sim.agents.neighbors import Neighbors
from basinet.sim.agents.placement import Placement
from basinet.sim.data.sampling import make_sampler
from basinet.sim.engines import EngineName, Verb, make_engine
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.digest import digest
from basinet.sim.models.modules import copy_model, move_model
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Batch

__all__ = ["Block"]


def _is_like(x: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors can trade places in memory."""
    same = x.shape == other.shape and x.dtype == other.dtype and x.device == other.device
    return same and x.is_contiguous() and x._base is None


def _unchanging(strategy: Strategy) -> object:
    """Take down what a strategy holds: its content, or where that cannot be read, which objects it holds."""
    content, again = digest(strategy, code=False), digest(strategy, code=False)
    return content if content == again else {name: id(held) for name, held in vars(strategy).items()}


class Block:
    """The agents of one worker: their state, data, engine, optimizer and neighbours.

    Args:
        setup: The parts of the run.
        placement: Which rows of the whole state live here.
        device: Where they live.
        engine: Name of the engine, or "auto".
        threads: How many threads may be used.

    Attributes:
        x: The agents' parameters [N, P].
        num_agents: K, how many agents a replica has, here and elsewhere.
        step: How many steps have been taken.
        template: The model, on the device and in the floating type of the run; its values are no agent's.
        layout: What the model is, see `Setup.layout`.
        centroid_weights: Weight of each agent in the centroid of its replica, float64 [N] on the CPU.
        memory: What the strategy remembers of each agent, tensors [N, ...] by name.
        bytes_sent: What all agents of a replica together have sent so far.
        watch: Knows which agents' losses have left the finite numbers.
        escape: Knows which replicas have left the place where they started; None if nobody asked.
        engine_choice: Which engine runs, and why.
        threads: How many threads the work is worth.
    """

    def __init__(
        self, setup: Setup, placement: Placement, device: torch.device, engine: EngineName = "auto", threads: int = 1
    ) -> None:
        config = setup.config
        dtype = setup.dtype
        self.setup = setup
        self.placement = placement
        self.task = setup.task.to(device, dtype)
        self.num_agents = placement.agents
        self.step = 0
        replicas = torch.from_numpy(placement.row_replicas).to(device)
        agents = torch.from_numpy(placement.row_agents).to(device)

        template = setup.template()
        self.layout = setup.layout(template)
        self.template = template = move_model(template, device, dtype)
        self.state = setup.state(template, len(placement.rows), device)
        self.x = self.state.parameters
        self.personal = self.state.columns(config.personal)
        self.shared_size = self.x.shape[1] - sum(columns.stop - columns.start for columns in self.personal)
        self._initialize()
        self.rows = replicas, agents
        pi = setup.honest_weights[placement.row_replicas, placement.row_agents]
        self.centroid_weights = torch.from_numpy(pi)
        self.optimizer = setup.local_optimizer(self.state, setup.optimizer_keys(replicas, agents))
        verb: Verb = "losses" if self.optimizer.derivative_free else "gradients"
        self.engine, why, self.threads = make_engine(
            engine, template, self.task, self.state, config.batch_size, threads, verb
        )
        if placement.workers > 1 and engine == "auto":
            # Each worker has tried for itself; all take what the first one chose.
            choice: list[Any] = [self.engine.name, why]
            dist.broadcast_object_list(choice)
            if choice[0] != self.engine.name:
                self.engine, _, self.threads = make_engine(
                    choice[0], template, self.task, self.state, config.batch_size, threads, verb
                )
            why = choice[1]
        self.engine_choice = f"{self.engine.name} ({why})"
        pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

        def mixers(sequence: tuple[csr_array, ...], *, differences: bool = True) -> list[Mixer]:
            pi = setup.honest_weights
            return [Mixer(weights, placement, self.x, pi, pool, differences=differences) for weights in sequence]

        self.mixers = mixers(setup.sequence)
        self.mixer = self.mixers[0]
        self.push_mixers = mixers(setup.push)
        # Second moments and variances must not become negative.
        self.follow_mixers = mixers(setup.sequence, differences=False) if "mix" in self._policies() else []
        self.sampler = make_sampler(
            config.sampling,
            self.task,
            [setup.holdings[r][k] for r, k in zip(replicas.tolist(), agents.tolist(), strict=True)]
            if setup.holdings
            else [],
            agents,
            draws.agent_keys(config.seed, "batch", replicas, agents),
            config.batch_size,
            dtype,
        )
        attack = setup.attack
        self.attackers = Attackers(attack, setup.attackers, placement, config.seed) if attack.lies else None
        if attack.spoils_labels:
            attacks = torch.from_numpy(setup.attackers).to(device)[replicas, agents]
            self.sampler = SpoiltSampler(self.sampler, attacks, max(2, self.task.num_outputs))
        self.purposes: dict[str, Tensor] = {}
        self.known_neighbors: dict[int, Neighbors] = {}
        self.unread_keys = torch.zeros_like(agents)
        self.strategy = setup.strategy()
        self.strategy_settings = _unchanging(self.strategy)
        self.memory: dict[str, Tensor] = {}
        # Where mixed rows are written: over the gradients if these are used up, else to a tensor of its own.
        self.gradients_used_up = True
        self.scratch: Tensor | None = None
        self.bytes_sent = 0
        self.watch = DivergenceWatch(len(placement.rows), self.x)
        self.escape: EscapeWatch | None = None
        if config.escape is not None:
            start, buffers, model = self.mixer.centroid(self.x), self.centroid_buffers(), copy_model(template)
            self.escape = EscapeWatch(
                config.escape.component, config.escape.every, start, buffers, model.eval(), self.task
            )

    def _initialize(self) -> None:
        """Start all agents of a replica at one point: that of the experiment, or a keyed draw of the model's values."""
        rows = self.placement.row_replicas
        for replica in sorted(set(rows.tolist())):
            first, last = int((rows < replica).sum()), int((rows <= replica).sum())
            self.state.fill(slice(first, last), self.setup.start(replica, self.layout))

    def gradients(self) -> Tensor:
        """Draw each agent's batch and compute its gradient at x.

        An optimizer that evaluates by itself does so here. Every evaluation of a step has the same batch and the same
        draws inside the model, of the same noise if there is any, and starts from the same running statistics; those of
        the last one stay.

        Returns:
            [N, P]; good until they are given to `adapt`, or until the next call. Of a derivative-free optimizer, its
            coefficients [N, 1], which `adapt` wants back.
        """
        self.gradients_used_up = self.optimizer.derivative_free
        batch = self._batch()
        # An engine that draws nothing does not read them.
        keys = self.keys("model") if self.engine.needs_keys else self.unread_keys
        run = self.engine.losses if self.optimizer.derivative_free else self.engine.gradients
        noise = self.setup.config.gradient_noise
        noise_keys = self.unread_keys if noise is None else self.keys("gradient noise")
        evaluates = self.optimizer.evaluates
        buffers = {name: b.clone() for name, b in self.state.buffers.items()} if evaluates else {}

        def evaluate() -> Tensor:
            for name, buffer in buffers.items():
                self.state.buffers[name].copy_(buffer)
            losses = run(batch, keys)
            self.watch.add(losses, self.step + 1)
            if noise is not None:
                noise.disturb(self.state.gradients, noise_keys)
            return losses

        if evaluates:
            return self.optimizer.prepare(evaluate, self.state.gradients, self.setup.rate_factor(self.step))
        evaluate()
        return self.state.gradients

    def full_gradients(self) -> Tensor:
        """Compute each agent's gradient over all of its data at x, as it is: nothing is augmented, or made noisy.

        Returns:
            [N, P].
        """
        total = torch.zeros_like(self.x)
        self.gradients_used_up = True
        keys = self.keys("model")
        for batch, share in self.sampler.sweep():
            self.engine.gradients(batch, keys)
            total.addcmul_(self.state.gradients, share[:, None].to(total))
        return total

    def _batch(self) -> Batch:
        """Draw the agents' batches, of the size that their optimizer may ask for, and augment their images."""
        batch = self.sampler.batch(self.step, self.optimizer.next_batch_size)
        augmentation = self.setup.config.task.augmentation
        if augmentation is None:
            return batch
        return augmentation.make(images=batch[0], keys=self.keys("augmentation")), *batch[1:]

    def adapt(self, gradients: Tensor, active: Tensor | None = None) -> None:
        """Let each agent's optimizer step from x: x ← adapt(x, g).

        Args:
            gradients: [N, P], or the coefficients of a derivative-free optimizer; what `gradients` returned is used up.
            active: Which agents step, bool [N]; the others keep x and what their optimizer remembers.
        """
        if any(gradients is held for held in self.memory.values()) and not self.optimizer.keeps_gradients:
            gradients = gradients.clone()
        self.optimizer.step(gradients, self.setup.rate_factor(self.step), active)
        self.gradients_used_up |= gradients is self.state.gradients

    def layers(self, x: Tensor) -> list[Tensor]:
        """Take rows apart into the model's layers.

        Args:
            x: [N, P], laid out like the parameters.

        Returns:
            Views [N, *shape] of them, in the model's order.
        """
        return self.state.split(x)

    def keys(self, purpose: str) -> Tensor:
        """Give the agents' keys for random draws of this step.

        Args:
            purpose: What the draws are for.

        Returns:
            int64 [N].
        """
        if purpose not in self.purposes:
            self.purposes[purpose] = draws.agent_keys(self.setup.config.seed, purpose, *self.rows)
        return draws.fold(self.purposes[purpose], self.step)

    def combine(self, x: Tensor, sent: int | None = None, *, truly: bool = False) -> None:
        """Mix rows with the neighbours' in place: x_k ← Σ_l W[k, l] x_l.

        Each agent sends its row to each of its neighbours. The mixed rows are written elsewhere, and `x` moves there
        where it can: views of it that were taken before stay behind.

        Args:
            x: [N, ...] of any width.
            sent: Bytes that a row takes as it travels; by default those of its numbers.
            truly: Whether attackers tell the truth here: numbers of the protocol itself.
        """
        error = None if truly else self._error(self.setup.sequence, x)
        self._mix(self.mixers[self.step % len(self.mixers)], x, sent, error)

    def push(self, x: Tensor) -> None:
        """Mix rows in place with weights whose columns sum to one: x_k ← Σ_l C[k, l] x_l; like `combine` else.

        What optimizers remember does not go along.

        Args:
            x: [N, ...] of any width.
        """
        self._mix(self.push_mixers[self.step % len(self.push_mixers)], x, None, self._error(self.setup.push, x))

    def _error(self, sequence: Sequence[csr_array], x: Tensor) -> Tensor | None:
        """Compute by how much attackers falsify what rows [N, ...] are mixed to."""
        if self.attackers is None:
            return None
        flat = x.reshape(len(x), -1).to(self.x)
        return self.attackers.error(self._neighbors(sequence), flat, self.step).view(x.shape)

    def _mix(self, mixer: Mixer, x: Tensor, sent: int | None, error: Tensor | None = None) -> None:
        kept = self._own(x)
        if any(x is own for own in (self.x, *self.memory.values())) and _is_like(x, self.x):
            mixed = self.state.gradients
            if not self.gradients_used_up:
                mixed = self.scratch = torch.empty_like(self.x) if self.scratch is None else self.scratch
            mixer.combine(x, mixed)
            self.state.exchange(x, mixed)
        else:
            flat = x.reshape(len(x), -1).to(self.x).contiguous()
            result = torch.empty_like(flat)
            mixer.combine(flat, result)
            if _is_like(x, result) and x is not self.state.gradients:
                x.data = result
            else:
                x.copy_(result.view(x.shape))
        if error is not None:
            x += error
        self._put_back(x, kept)
        self.bytes_sent += mixer.num_messages * (self._size(x) if sent is None else sent)
        if x is self.x and mixer in self.mixers:
            self._follow(lambda held: self._mix(self.follow_mixers[self.step % len(self.mixers)], held, None))

    @property
    def neighbors(self) -> Neighbors:
        """The agents' neighbours one by one, at this step."""
        return self._neighbors(self.setup.sequence)

    def _neighbors(self, sequence: Sequence[csr_array]) -> Neighbors:
        weights = sequence[self.step % len(sequence)]
        if id(weights) not in self.known_neighbors:
            self.known_neighbors[id(weights)] = Neighbors(weights, self.placement, self.x)
        return self.known_neighbors[id(weights)]

    def exchange(self, messages: Tensor, sent: int | None = None) -> Tensor:
        """Give each neighbour a row, and get one from each.

        Args:
            messages: [N, D, ...], for the neighbour in each slot of `neighbors`; of personal parameters an agent gets
                back its own.
            sent: Bytes that a row takes as it travels; by default those of its numbers.

        Returns:
            [N, D, ...], from the neighbour in each slot; 0 where an agent hears nobody.
        """
        self.bytes_sent += self.neighbors.num_messages * (self._size(messages, 2) if sent is None else sent)
        received = self.neighbors.exchange(messages)
        if self.attackers is not None:
            self.attackers.falsify_all(self.neighbors, messages, received, self.step)
        self._put_back(received, self._own(messages))
        return received

    def broadcast(self, x: Tensor) -> Broadcast:
        """Give all neighbours the same row, and go through what comes from each a few columns at a time.

        Args:
            x: [N, P].

        Returns:
            Pairs of columns and of what comes in them, [N, D, w]: the same as often as one goes through them. Columns
            of `x` that have been gone through may be overwritten, the last time.
        """
        self.bytes_sent += self.neighbors.num_messages * self._size(x)
        return Broadcast(self.neighbors, x, self.attackers, self.step, self.personal)

    def _own(self, x: Tensor) -> list[Tensor]:
        """Take down what belongs to personal parameters, where the last axis counts parameters."""
        whole = x.ndim > 1 and x.shape[-1] == self.x.shape[1]
        return [x[..., columns].clone() for columns in self.personal] if whole else []

    def _put_back(self, x: Tensor, kept: list[Tensor]) -> None:
        for columns, own in zip(self.personal if kept else [], kept, strict=True):
            x[..., columns] = own

    def _size(self, rows: Tensor, axes: int = 1) -> int:
        """Bytes of a row as it travels, behind so many axes: what is personal does not."""
        shape = rows.shape[axes:]
        numbers = self.shared_size if shape == self.x.shape[1:] else math.prod(shape)
        return numbers * rows.element_size()

    def _policies(self) -> tuple[str, str]:
        return self.setup.config.optimizer_state, self.setup.config.buffers

    def _follow(self, verb: Callable[[Tensor], None]) -> None:
        """Let optimizer state and running statistics go the way of the parameters, as the experiment says."""
        optimizer_state, buffers = self._policies()
        followers: list[Tensor] = []
        if optimizer_state == "reset":
            for tensor in self.optimizer.rows():
                tensor.zero_()
        elif optimizer_state == "mix":
            followers += self.optimizer.rows()
        if buffers == "mix":
            followers += [b for b in self.state.buffers.values() if b.is_floating_point()]
        for tensor in followers:
            flat = tensor.reshape(len(tensor), -1).to(self.x.dtype, copy=True)
            verb(flat)
            tensor.copy_(flat.view(tensor.shape))

    def average(self, x: Tensor) -> None:
        """Replace each row in place by the mean over all agents of its replica.

        Each agent sends its row to a server, which sends the mean back.

        Args:
            x: [N, P].

        Raises:
            ExperimentError: Attackers lie to their neighbours, of whom a server is none.
        """
        if self.attackers is not None:
            raise ExperimentError(no_average(self.setup.config))
        kept = self._own(x)
        self.mixer.average(x)
        self._put_back(x, kept)
        self.bytes_sent += 2 * self.placement.agents * self._size(x)
        if x is self.x:
            self._follow(self.average)

    def advance(self, until: int) -> None:
        """Take steps.

        Args:
            until: The step to stop at.
        """
        while self.step < until:
            self.strategy.step(self)
            self.step += 1
            if self.escape is not None and self.step % self.escape.every == 0:
                self.escape.look(self.mixer.centroid(self.x), self.centroid_buffers(), self.step)
        self._check_strategy()

    def centroid_buffers(self) -> dict[str, Tensor]:
        """Average running statistics over the agents of each replica, and counters, to the nearest integer.

        Returns:
            Buffers by name, [R, ...].
        """
        mean = self.mixer.centroid
        return {
            name: mean(b) if b.is_floating_point() else mean(b.double()).round().to(b.dtype)
            for name, b in self.state.buffers.items()
        }

    def _check_strategy(self) -> None:
        """Refuse a strategy whose state no checkpoint would hold."""
        name = self.setup.config.strategy.name
        if _unchanging(self.strategy) != self.strategy_settings:
            raise ExperimentError(
                f"strategy: {name} changes attributes of its own as it runs; what it remembers of the agents belongs"
                " in block.memory, which checkpoints hold"
            )
        for key, value in self.memory.items():
            if not isinstance(value, Tensor) or value.shape[:1] != self.x.shape[:1]:
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ExperimentError(
                    f"strategy: {name} keeps memory['{key}'] of shape {shape}; allowed are tensors [N, ...]"
                    f" with a row for each of the {len(self.x)} agents here"
                )

    def state_dict(self) -> dict[str, Any]:
        """Collect everything that the next step depends on.

        Returns:
            Nested plain values; tensors and lists that belong to agents are under "rows" and lead with their axis.
        """
        optimizer = self.optimizer.state_dict()
        return {
            "step": self.step,
            "bytes_sent": self.bytes_sent,
            "engine": self.engine.name,
            "layout": self.layout,
            "optimizer": optimizer["shared"],
            "escape_steps": None if self.escape is None else self.escape.steps,
            "rows": {
                "parameters": self.x,
                "centroid_weights": self.centroid_weights,
                "buffers": self.state.buffers,
                "memory": self.memory,
                "optimizer": optimizer["rows"],
                "first_bad": self.watch.found(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` collected, on these rows.

        Args:
            state: The state of these agents.
        """
        self.step = state["step"]
        self.bytes_sent = state["bytes_sent"]
        rows = state["rows"]
        self.x.copy_(rows["parameters"])
        for name, buffer in self.state.buffers.items():
            buffer.copy_(rows["buffers"][name])
        self.memory.update((name, value.to(self.x.device, copy=True)) for name, value in rows["memory"].items())
        self.optimizer.load_state_dict({"rows": rows["optimizer"], "shared": state["optimizer"]})
        self.watch.first_bad.copy_(rows["first_bad"])
        if self.escape is not None:
            self.escape.steps.copy_(state["escape_steps"])
