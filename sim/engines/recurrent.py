"""Recurrent layers for all agents at once: each step of time is one computation for all agents and samples.

torch cannot map its own recurrent functions over agents.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from basinet.sim.engines.batched import Form
from basinet.sim.engines.recording import Operation, Value

__all__ = ["RECURRENT"]

State = tuple[Tensor, ...]
"""What a cell hands on, each [N, B, hidden]: the output, and for an LSTM what it remembers."""

Cell = Callable[[Tensor, Tensor, State], State]
"""Maps what comes from the input and from the last output, [N, B, gates · hidden] each, and the state to the next."""


def _lstm(x: Tensor, h: Tensor, state: State) -> State:
    gates, cell = (x + h).chunk(4, -1), state[1]
    cell = gates[1].sigmoid() * cell + gates[0].sigmoid() * gates[2].tanh()
    return gates[3].sigmoid() * cell.tanh(), cell


def _gru(x: Tensor, h: Tensor, state: State) -> State:
    (x_reset, x_keep, x_new), (h_reset, h_keep, h_new) = x.chunk(3, -1), h.chunk(3, -1)
    new = (x_new + (x_reset + h_reset).sigmoid() * h_new).tanh()
    return (torch.lerp(new, state[0], (x_keep + h_keep).sigmoid()),)


def _rnn(activation: Callable[[Tensor], Tensor], x: Tensor, h: Tensor, state: State) -> State:
    return (activation(x + h),)


def _recurrent(cell: Cell, states: int, operation: Operation) -> Form | None:
    """Return the form of an operation of torch's signature: input, initial states, weights, settings."""
    args, kwargs = operation.arguments(operation.leaves)
    if kwargs or len(args) != 9 or not isinstance(args[0], Value) or len(args[0].shape) != 3:
        return None  # packed sequences have another signature
    _, _, weights, biased, layers, dropout, training, both_ways, _ = args
    if len(weights) != layers * (1 + both_ways) * (4 if biased else 2) or (dropout and training and layers > 1):
        return None

    def form(leaves: list[Any]) -> Any:
        x, initial, weights, biased, layers, _, _, both_ways, batch_first = operation.arguments(leaves)[0]
        x = x if batch_first else x.transpose(1, 2)
        initial = [initial] if isinstance(initial, Tensor) else initial
        # What is the same for all agents lacks their axis.
        initial = [h if h.ndim == 4 else h.expand(len(x), *h.shape) for h in initial]
        count, last = 4 if biased else 2, []
        for layer in range(layers):
            outputs = []
            for way in range(1 + both_ways):
                number = layer * (1 + both_ways) + way
                own = weights[number * count : (number + 1) * count]
                found, state = _layer(cell, x, tuple(h[:, number] for h in initial), own, backward=way == 1)
                outputs.append(found)
                last.append(state)
            x = torch.cat(outputs, -1)
        ends = [torch.stack([state[i] for state in last], 1) for i in range(states)]
        return x if batch_first else x.transpose(1, 2), *ends

    return form


def _layer(cell: Cell, x: Tensor, state: State, weights: list[Tensor], *, backward: bool) -> tuple[Tensor, State]:
    """Run one layer in one direction over x [N, B, time, in]: return [N, B, time, hidden] and the last state."""
    biases = [bias.unsqueeze(-2) for bias in weights[2:]] or [x.new_zeros(()), x.new_zeros(())]
    inner = (x.flatten(1, 2) @ weights[0].mT + biases[0]).view(*x.shape[:3], -1)
    recurrent = weights[1].mT
    outputs = []
    times = inner.unbind(2)
    for now in reversed(times) if backward else times:
        state = cell(now, state[0] @ recurrent + biases[1], state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backward else outputs, 2), state


RECURRENT: dict[Callable[..., Any], Callable[[Operation], Form | None]] = {
    torch.lstm: partial(_recurrent, _lstm, 2),
    torch.gru: partial(_recurrent, _gru, 1),
    torch.rnn_tanh: partial(_recurrent, partial(_rnn, torch.tanh), 1),
    torch.rnn_relu: partial(_recurrent, partial(_rnn, torch.relu), 1),
}
"""Makes the form of an operation by its function; None where it does not fit."""
