"""The oracle: how the agents' stochastic gradients are computed."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.algorithms.optimizers import LocalOptimizer
from basinet.sim.agents.divergence import DivergenceWatch
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves, rebuild
from basinet.sim.data.sampling import Sampler, make_sampler
from basinet.sim.data.spoilt_labels import SpoiltSampler
from basinet.sim.engines import Engine, EngineName, Verb, make_engine
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Batch, Task

__all__ = ["Oracle"]


class Oracle:
    """Computes the agents' gradients: draws batches, runs the engine, adds noise, and watches the losses.

    Args:
        setup: The parts of the run.
        placement: Which rows of the full state live here.
        model: The model, on the device.
        task: The task, on the device.
        state: The agents' state.
        optimizer: The agents' optimizers.
        engine: Name of the engine, or "auto".
        threads: How many threads may be used.

    Attributes:
        sampler: Draws the batches.
        engine: Runs the forward and backward passes.
        engine_choice: The engine's name, and why it was chosen.
        threads: Number of threads that pay off.
        watch: Records which agents' losses have become non-finite.
    """

    def __init__(
        self,
        setup: Setup,
        placement: Placement,
        model: nn.Module,
        task: Task,
        state: StackedState,
        optimizer: LocalOptimizer,
        engine: EngineName,
        threads: int,
    ) -> None:
        self._setup = setup
        self._state = state
        self._optimizer = optimizer
        self._rows = placement.index(state.parameters.device)
        self._purposes: dict[str, Tensor] = {}
        self._unread_keys = torch.zeros_like(self._rows[0])
        verb: Verb = "losses" if optimizer.derivative_free else "gradients"
        parts = model, task, state, setup.config.batch_size, threads, verb
        self.engine: Engine
        self.engine, why, self.threads = make_engine(engine, *parts)
        if placement.workers > 1 and engine == "auto":
            # Each worker has run its own trial; all take the first worker's choice.
            choice: list[Any] = [self.engine.name, why]
            dist.broadcast_object_list(choice)
            if choice[0] != self.engine.name:
                self.engine, _, self.threads = make_engine(choice[0], *parts)
            why = choice[1]
        self.engine_choice = f"{self.engine.name} ({why})"
        self.sampler = self._make_sampler(task)
        self.watch = DivergenceWatch(len(placement.rows), state.parameters)

    def _make_sampler(self, task: Task) -> Sampler:
        setup, (replicas, agents) = self._setup, self._rows
        config, holdings = setup.config, setup.holdings
        sampler = make_sampler(
            config.sampling,
            task,
            [holdings[r][k] for r, k in zip(replicas.tolist(), agents.tolist(), strict=True)] if holdings else [],
            agents,
            draws.agent_keys(config.seed, "batch", replicas, agents),
            config.batch_size,
            setup.dtype,
            readers=config.runtime.readers,
            prefetch=config.runtime.prefetch,
        )
        if not setup.attack.spoils_labels:
            return sampler
        attacks = torch.from_numpy(setup.attackers).to(agents.device)[replicas, agents]
        return SpoiltSampler(sampler, attacks, task)

    def keys(self, purpose: str, step: int) -> Tensor:
        """Return one key per agent for the random draws of a step and purpose, int64 [N]."""
        if purpose not in self._purposes:
            self._purposes[purpose] = draws.agent_keys(self._setup.config.seed, purpose, *self._rows)
        return draws.fold(self._purposes[purpose], step)

    def gradients(self, step: int) -> Tensor:
        """Draw each agent's batch and compute its gradient at its parameters.

        An optimizer that evaluates gradients itself does so here. All evaluations of a step share the batch, the draws
        inside the model and the gradient noise, and start from the same running statistics; the last one's are kept.

        Args:
            step: The step.

        Returns:
            [N, P], the state's gradients or the optimizer's version of them; for a derivative-free optimizer,
            coefficients [N, 1].
        """
        optimizer, state, noise = self._optimizer, self._state, self._setup.config.gradient_noise
        batch = self.batch(step)
        # An engine without random draws does not read the keys.
        keys = self.keys("model", step) if self.engine.needs_keys else self._unread_keys
        run = self.engine.losses if optimizer.derivative_free else self.engine.gradients
        noise_keys = self._unread_keys if noise is None else self.keys("gradient noise", step)
        buffers = {name: b.clone() for name, b in state.buffers.items()} if optimizer.evaluates else {}

        def evaluate() -> Tensor:
            for name, buffer in buffers.items():
                state.buffers[name].copy_(buffer)
            losses = run(batch, keys)
            self.watch.add(losses, step + 1)
            if noise is not None:
                noise.disturb(state.gradients, noise_keys)
            return losses

        if optimizer.evaluates:
            return optimizer.prepare(evaluate, state.gradients, self._setup.rate_factor(step))
        evaluate()
        return state.gradients

    def full_gradients(self, step: int) -> Tensor:
        """Compute each agent's gradient over all of its data, [N, P], without augmentation or noise."""
        total = torch.zeros_like(self._state.parameters)
        keys = self.keys("model", step)
        for batch, share in self.sampler.sweep():
            self.engine.gradients(batch, keys)
            total.addcmul_(self._state.gradients, share[:, None].to(total))
        return total

    def batch(self, step: int) -> Batch:
        """Draw the agents' batches, of the optimizer's own size if it has one, and augment their images."""
        batch = self.sampler.batch(step, self._optimizer.next_batch_size)
        augmentation = self._setup.config.task.augmentation
        if augmentation is None:
            return batch
        images, *others = leaves(batch)
        return rebuild(batch, (augmentation.make(images=images, keys=self.keys("augmentation", step)), *others))
