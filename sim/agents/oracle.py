"""The oracle: how the agents' stochastic gradients are computed."""

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn

from basinet.algorithms import draws
from basinet.algorithms.optimizers import LocalOptimizer
from basinet.sim.agents.divergence import DivergenceWatch
from basinet.sim.agents.gradients import Clipping, LossScaling, MicroBatches
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves, map_nest, rebuild
from basinet.sim.data.sampling import Sampler, make_sampler
from basinet.sim.data.spoilt_labels import SpoiltSampler
from basinet.sim.engines import Choice, Engine, EngineName, Verb, make_engine
from basinet.sim.setup.setup import Setup
from basinet.sim.tasks import Batch, Task

__all__ = ["Oracle"]

_CHOICES: WeakKeyDictionary[Any, dict[int, tuple[Task, dict[Hashable, Choice]]]] = WeakKeyDictionary()
"""Engines chosen for a model and a task that runs of a grid share, and a run that is resumed or goes on."""


class Oracle:
    """Computes the agents' gradients: draws batches, runs the engine, adds noise, clips, and watches the losses.

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
        clipping: Clips gradients; None if not asked for.
        scaling: Scales losses in half precision; None in other types.
        passes: Number of passes of a batch so far.
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
        self._task = task
        self._last: Batch | None = None
        self.passes = 0
        self._rows = placement.index(state.parameters.device)
        self._purposes: dict[str, Tensor] = {}
        self._unread_keys = torch.zeros_like(self._rows[0])
        verb: Verb = "losses" if optimizer.derivative_free else "gradients"
        config, num_agents, device = setup.config, len(placement.rows), state.parameters.device
        self.clipping = None if config.clipping is None else Clipping(config.clipping, num_agents, device)
        scales = state.autocast == torch.float16 and not optimizer.derivative_free
        self.scaling = LossScaling(num_agents, device) if scales else None
        if self.scaling is not None:
            state.loss_scale = self.scaling.scale
        count = config.accumulate or 1
        self._micro = MicroBatches(count, config.batch_size, task, state.gradients) if count > 1 else None
        _, choices = _CHOICES.setdefault(setup.model, {}).setdefault(id(setup.task), (setup.task, {}))
        parts = model, task, state, config.largest_part, threads, verb, choices
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

    def keys(self, purpose: str, step: int | Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return one key per agent for the random draws of a step, or one for each, and purpose, int64 [n]."""
        if purpose not in self._purposes:
            self._purposes[purpose] = draws.agent_keys(self._setup.config.seed, purpose, *self._rows)
        return draws.fold(self._purposes[purpose][rows], step)

    def _pass(self, batch: Batch, keys: Tensor) -> Tensor:
        """Run the engine on a batch, in parts if asked for; return the losses [N]."""
        self.passes += 1
        differentiate = not self._optimizer.derivative_free
        run = self.engine.gradients if differentiate else self.engine.losses
        return (
            run(batch, keys) if self._micro is None else self._micro.run(run, batch, keys, differentiate=differentiate)
        )

    def gradients(self, step: int, rate: Callable[[], float]) -> Tensor:
        """Draw each agent's batch and compute its gradient at its parameters.

        An optimizer that evaluates gradients itself does so here. All evaluations of a step share the batch, the draws
        inside the model and the gradient noise, and start from the same running statistics; the last one's are kept.

        Args:
            step: The step.
            rate: Computes the schedule's factor on the learning rate.

        Returns:
            [N, P], the state's gradients or the optimizer's version of them; for a derivative-free optimizer,
            coefficients [N, 1].
        """
        optimizer, state, noise = self._optimizer, self._state, self._setup.config.gradient_noise
        batch = self.batch(step)
        if self._task.weighs:
            self._last = batch
        # An engine without random draws does not read the keys.
        keys = self.keys("model", step) if self.engine.needs_keys else self._unread_keys
        noise_keys = self._unread_keys if noise is None else self.keys("gradient noise", step)
        buffers = {name: b.clone() for name, b in state.buffers.items()} if optimizer.evaluates else {}

        def evaluate() -> Tensor:
            for name, buffer in buffers.items():
                state.buffers[name].copy_(buffer)
            losses = self._pass(batch, keys)
            self.watch.add(losses, step + 1)
            if self.scaling is not None:
                self.scaling.unscale(state.gradients)
            if noise is not None:
                noise.disturb(state.gradients, noise_keys)
            if self.clipping is not None:
                self.clipping.clip(state.gradients)
            return losses

        if optimizer.evaluates:
            return optimizer.prepare(evaluate, state.gradients, rate())
        evaluate()
        return state.gradients

    def counts(self) -> Tensor | None:
        """Sum the weights in each agent's last batch, [N]; None if all samples and labels count alike."""
        if self._last is None:
            return None
        flat = self._task.counts(map_nest(lambda t: t.flatten(0, 1), self._last))
        return None if flat is None else flat.view(len(self._unread_keys), -1).sum(1)

    def full_gradients(self, step: int) -> Tensor:
        """Compute each agent's gradient over all of its data, [N, P], without augmentation or noise."""
        total = torch.zeros_like(self._state.parameters)
        keys = self.keys("model", step)
        for batch, share in self.sampler.sweep():
            self._pass(batch, keys)
            total.addcmul_(self._state.gradients, share[:, None].to(total))
        if self.scaling is not None:
            self.scaling.unscale(total)
        return total

    def state_dict(self) -> dict[str, Any]:
        """Collect what later gradients and evaluations depend on.

        Returns:
            `rows`: tensors [N] by name, and `computed`: the number of gradients since the last evaluation.
        """
        rows = {"first_bad": self.watch.found()}
        if self.clipping is not None:
            rows["clipped"] = self.clipping.clipped
        if self.scaling is not None:
            rows |= {"loss_scale": self.scaling.scale, "loss_scale_steady": self.scaling.steady}
        return {"rows": rows, "computed": 0 if self.clipping is None else self.clipping.computed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` collected.

        Args:
            state: The state of these agents; the rows may be among others.
        """
        rows = state["rows"]
        self.watch.first_bad.copy_(rows["first_bad"])
        if self.clipping is not None:
            self.clipping.clipped.copy_(rows["clipped"])
            self.clipping.computed = state["computed"]
        if self.scaling is not None:
            self.scaling.scale.copy_(rows["loss_scale"])
            self.scaling.steady.copy_(rows["loss_scale_steady"])

    def batch(self, step: int) -> Batch:
        """Draw the agents' batches, of the optimizer's own size if it has one, and augment their images."""
        batch = self.sampler.batch(step, self._optimizer.next_batch_size)
        augmentation = self._setup.config.task.augmentation
        if augmentation is None:
            return batch
        images, *others = leaves(batch)
        return rebuild(batch, (augmentation.make(images=images, keys=self.keys("augmentation", step)), *others))
