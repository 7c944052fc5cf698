"""Numbers of the graphs on which runs communicate."""

from contextlib import suppress
from functools import cache

from basinet.sim.run.files import Damaged
from basinet.sim.run.folder import Run
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import read_table

__all__ = ["GRAPH", "graph_numbers"]

GRAPH = {
    "spectral_gap": Quantity("spectral gap"),
    "degree": Quantity("mean degree"),
}
"""Quantities of the graphs on which runs communicate, which are computed only if they are asked for."""


def graph_numbers(run: Run) -> dict[str, float]:
    """Compute the spectral gap and the mean degree of the graph of a run.

    Args:
        run: The run.

    Returns:
        The numbers by name; none if the run has no readable mixing matrix.
    """
    try:
        rows = read_table(run.path / "topology.csv")
        entries = tuple((int(row["receiver"]), int(row["sender"]), float(row["weight"])) for row in rows)
    except (Damaged, ValueError, KeyError):
        return {}
    return _of_weights(entries) if entries else {}


@cache
def _of_weights(entries: tuple[tuple[int, int, float], ...]) -> dict[str, float]:
    from scipy.sparse import csr_array

    from basinet.topologies.spectra.spectrum import spectral_gap  # imports networkx, which takes long

    receivers, senders, weights = zip(*entries, strict=True)
    agents = 1 + max(*receivers, *senders)
    found = {"degree": sum(to != of for to, of in zip(receivers, senders, strict=True)) / agents}
    with suppress(ValueError, RuntimeError):  # of one-way traffic, W is no mixing matrix
        found["spectral_gap"] = spectral_gap(csr_array((weights, (receivers, senders)), shape=(agents, agents)))
    return found
