"""Compute times of devices that a table describes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from basinet.algorithms import draws
from basinet.sim.clock.laws.compute_law import LAWS, ComputeLaw, Draw
from basinet.topologies.networks.network_files.network_source import Source, number_in

__all__ = ["Devices"]

_MOST = 1e9
"""Milliseconds per sample, which are eleven days."""


@LAWS.register("devices")
@dataclass(frozen=True, kw_only=True)
class Devices(ComputeLaw):
    r"""Devices of a table such as FedScale's: a gradient takes 3 · batch size · computation, in every step.

    Forwards is a third of it. What a device can send belongs to the network.

    Args:
        batch_size: Samples of a gradient.
        path: The file: a line for each device, of values separated by commas, and a first one that names the columns.
            `computation` is how many milliseconds a sample takes forwards; `id` and `communication` are not used.
        drawn: Whether each agent of each replica draws its device; by default, the first agent in the graph's order has
            the first one, and so on.

    References:
        Lai et al.: FedScale: Benchmarking model and system performance of federated learning at scale, ICML 2022,
        arXiv:2105.11367

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "devices.csv"
        ...     _ = file.write_text("id,computation,communication\n1,20,5000\n2,150,800\n")
        ...     times = Devices(path=str(file), batch_size=10).sampler(torch.zeros(1, 2, dtype=torch.int64))
        >>> times(0).tolist()  # 0.6 s and 4.5 s
        [[600000000.0, 4500000000.0]]
    """

    batch_size: int
    path: str
    drawn: bool = False

    def sampler(self, keys: Tensor) -> Draw:
        """Return a function from the step to how long agents compute; see `ComputeLaw.sampler`."""
        table, agents = Source("devices", self.path), keys.shape[-1]
        milliseconds = []
        for line, row in table.rows(["computation"], ["id", "communication"]):
            try:
                milliseconds.append(number_in(row["computation"], 0, _MOST))
            except ValueError as error:
                raise table.mistake(line, f"computation: {error}") from None
        if len(milliseconds) < (1 if self.drawn else agents):
            raise ValueError(
                f"devices: {self.path!r} has {len(milliseconds)} of them for {agents} agents; allowed are as many or"
                " more, or drawn: true with at least one"
            )
        chosen = draws.integers(keys, len(milliseconds), ()) if self.drawn else torch.arange(agents).expand(keys.shape)
        times = 3e6 * self.batch_size * torch.tensor(milliseconds, dtype=torch.float64)[chosen]
        return lambda step: times
