"""An engine recorded once as a CUDA graph and replayed at each step, which saves the kernel launches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from basinet.sim.agents.state import StackedState
from basinet.sim.data.nests import leaves, map_nest
from basinet.sim.engines.engine import Engine
from basinet.sim.tasks.task import Batch

__all__ = ["GraphedEngine"]


_MOST_GRAPHS = 8
"""Number of graphs kept at a time: parameters and gradients move among a few places."""


class GraphedEngine:
    """Replays the recorded passes of another engine.

    A graph reads and writes fixed memory, while the parameters move when they are mixed: there is one graph for each
    place they have been in, and for each batch size.

    Args:
        engine: The engine to record; it must not sync with the device.
        state: The agents' state, on a GPU.
    """

    def __init__(self, engine: Engine, state: StackedState) -> None:
        self.engine = engine
        self.state = state
        self.name = engine.name
        self.needs_keys = engine.needs_keys
        self.grain = 0
        self.graphs: dict[tuple[Any, ...], tuple[torch.cuda.CUDAGraph, Batch, Tensor, Tensor]] = {}

    def gradients(self, batch: Batch, keys: Tensor) -> Tensor:
        """Write each agent's gradient into the state, and return the losses; see `Engine`."""
        return self._replay("gradients", batch, keys)

    def losses(self, batch: Batch, keys: Tensor) -> Tensor:
        """Compute each agent's loss only; see `Engine`."""
        return self._replay("losses", batch, keys)

    def _replay(self, name: str, batch: Batch, keys: Tensor) -> Tensor:
        """Replay the engine's pass of this name, recording it first if there is no graph for this place."""
        place = (
            name,
            self.state.parameters.data_ptr(),
            self.state.gradients.data_ptr(),
            tuple(t.shape for t in leaves(batch)),
        )
        if place not in self.graphs:
            recorded = self._record(getattr(self.engine, name), batch, keys)
            if len(self.graphs) == _MOST_GRAPHS:
                self.graphs.clear()
            self.graphs[place] = recorded
        graph, held_batch, held_keys, losses = self.graphs[place]
        for held, given in zip((*leaves(held_batch), held_keys), (*leaves(batch), keys), strict=True):
            held.copy_(given, non_blocking=True)
        graph.replay()
        return losses.clone()

    def _record(
        self, run: Callable[[Batch, Tensor], Tensor], batch: Batch, keys: Tensor
    ) -> tuple[torch.cuda.CUDAGraph, Batch, Tensor, Tensor]:
        """Record a pass after some warm-up passes; running statistics are restored."""
        batch, keys = map_nest(torch.clone, batch), keys.clone()
        buffers = {name: b.clone() for name, b in self.state.buffers.items()}
        side = torch.cuda.Stream(keys.device)  # type: ignore[no-untyped-call]
        try:
            side.wait_stream(torch.cuda.current_stream(keys.device))
            with torch.cuda.stream(side):
                for _ in range(3):
                    run(batch, keys)
            torch.cuda.current_stream(keys.device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                losses = run(batch, keys)
        finally:
            torch.cuda.current_stream(keys.device).wait_stream(side)  # where a warm-up has failed
            for name, b in buffers.items():
                self.state.buffers[name].copy_(b)
        return graph, batch, keys, losses
