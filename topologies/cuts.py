"""Cuts: which agents each worker hosts, so that few rows travel between workers.

In a step an agent's row travels once to each other worker that hosts an agent which gives it a weight. With a net for
each agent, that holds it and all who hear it, the rows that travel are Σ (λ − 1), λ being the number of parts that a
net touches: the connectivity of a hypergraph partition.

References:
    Çatalyürek, Aykanat, Hypergraph-partitioning-based decomposition for parallel sparse-matrix vector multiplication,
    IEEE Transactions on Parallel and Distributed Systems, 1999 (doi:10.1109/71.780863).
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, eye_array
from scipy.sparse.csgraph import connected_components, depth_first_order, reverse_cuthill_mckee
from scipy.sparse.linalg import eigsh

from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.refined_cuts import refine

__all__ = ["Partitioner", "arrange", "crossing_rows", "crossings"]

Partitioner = Literal["auto", "none", "metis"]

_SPECTRAL = 2000
"""Most agents whose eigenvectors are computed: beyond, an expander would take seconds."""

_DENSE = 200
"""Up to so many agents, dense eigenvectors are the faster ones."""


def crossings(sequence: Sequence[csr_array], part: np.ndarray, parts: int) -> np.ndarray:
    """Count the rows that travel from part to part.

    Args:
        sequence: Mixing matrices [K, K] of the steps of a period, one or more.
        part: Part of each agent, int [K].
        parts: Number of parts.

    Returns:
        Rows that each part (row) sends to each other one (column) in a whole period, int64 [parts, parts].

    Example:
        >>> path = csr_array([[0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0.5, 0.5]])
        >>> crossings([path], np.array([0, 0, 1]), 2)
        array([[0, 1],
               [1, 0]])
    """
    return _crossings(_nets(sequence), part, parts)


def crossing_rows(sequence: Sequence[csr_array], part: np.ndarray) -> int:
    """Count the rows that travel between parts in a whole period.

    Args:
        sequence: Mixing matrices [K, K] of the steps of a period, one or more.
        part: Part of each agent, int [K].

    Returns:
        The number of pairs of an agent and another part that hears it.
    """
    return int(crossings(sequence, part, int(part.max(initial=0)) + 1).sum())


def arrange(
    sequence: Sequence[csr_array],
    sizes: Sequence[int],
    groups: Sequence[int] | None = None,
    partitioner: Partitioner = "auto",
) -> np.ndarray:
    """Split agents into parts of given sizes, between which few rows travel.

    The graph's own order, that of a depth-first search, reverse Cuthill–McKee's, two spectral ones and recursive
    spectral bisection are tried; the best is refined by moves in the manner of Fiduccia and Mattheyses.

    Args:
        sequence: Mixing matrices [K, K] of the steps of a period, one or more.
        sizes: Number of agents of each part; they sum to K.
        groups: Group of each part, such as its machine: the agents are split among groups first. None for a single one.
        partitioner: "auto" as above, "metis" for that of METIS, "none" for the graph's own order.

    Returns:
        Part of each agent, int64 [K]; the same on every call.

    References:
        Fiduccia, Mattheyses, A linear-time heuristic for improving network partitions, DAC 1982
        (doi:10.1109/DAC.1982.1585498). Karypis, Kumar, A fast and high quality multilevel scheme for partitioning
        irregular graphs, SIAM Journal on Scientific Computing, 1998 (doi:10.1137/S1064827595287997).
    """
    return _arrange(_nets(sequence), np.asarray(sizes), groups, partitioner)


def _arrange(nets: csr_array, sizes: np.ndarray, groups: Sequence[int] | None, partitioner: Partitioner) -> np.ndarray:
    agents = nets.shape[1]
    by_group = np.zeros(len(sizes), dtype=np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    totals = np.bincount(by_group, weights=sizes).astype(np.int64)
    if partitioner == "none" or (sizes > 0).sum() < 2:
        return _cut(np.arange(agents), sizes)
    if len(totals) == 1:
        return _arrange_flat(nets, sizes, partitioner)
    part = np.empty(agents, dtype=np.int64)
    of_group = _arrange_flat(nets, totals, partitioner)
    for group in range(len(totals)):
        inside, places = of_group == group, np.flatnonzero(by_group == group)
        theirs = nets[np.tile(inside, nets.shape[0] // agents)][:, inside]
        part[inside] = places[_arrange(theirs, sizes[places], None, partitioner)]
    return part


def _arrange_flat(nets: csr_array, sizes: np.ndarray, partitioner: Partitioner) -> np.ndarray:
    links = _links(nets)
    candidates = [_cut(np.arange(links.shape[0]), sizes)]
    if partitioner == "metis":
        candidates.append(_metis(links, sizes))
    else:
        candidates += [_cut(order, sizes) for order in _orders(links)]
        if len(sizes) > 2 and links.shape[0] <= _SPECTRAL:
            candidates.append(_bisect(links, sizes))
    best = min(candidates, key=lambda part: int(_crossings(nets, part, len(sizes)).sum()))
    return refine(nets, best, sizes)


def _crossings(nets: csr_array, part: np.ndarray, parts: int) -> np.ndarray:
    ones, agents = np.ones(nets.shape[0], dtype=np.int64), len(part)
    member = csr_array((ones[:agents], (np.arange(agents), part)), shape=(agents, parts))
    sender = csr_array((ones, (np.tile(part, len(ones) // agents), np.arange(len(ones)))), shape=(parts, len(ones)))
    reached = nets @ member
    reached.data[:] = 1
    total = (sender @ reached).toarray()
    np.fill_diagonal(total, 0)
    return np.asarray(total)


def _nets(sequence: Sequence[csr_array]) -> csr_array:
    """Return the net of each agent at each step: itself and all who hear it, int64 [T·K, K]."""
    agents = sequence[0].shape[0]
    own = np.arange(agents)
    rows, columns = [], []
    for step, W in enumerate(sequence):
        receivers, senders, _ = edges_of(W)
        rows.append(step * agents + np.concatenate([senders, own]))
        columns.append(np.concatenate([receivers, own]))
    row, column = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.ones(len(row), dtype=np.int64), (row, column)), shape=(len(sequence) * agents, agents))


def _links(nets: csr_array) -> csr_array:
    """Return between which agents rows travel in either direction and how often, without loops, float64 [K, K]."""
    agents = nets.shape[1]
    entries = nets.tocoo()
    sender, receiver = entries.row % agents, entries.col
    links = csr_array(coo_array((np.ones(len(sender)), (sender, receiver)), shape=(agents, agents)))
    links = csr_array(links + links.T)
    links.setdiag(0)
    links.eliminate_zeros()
    return links


def _cut(order: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Cut an order of the agents into successive parts."""
    part = np.empty(len(order), dtype=np.int64)
    part[order] = np.repeat(np.arange(len(sizes)), sizes)
    return part


def _orders(links: csr_array) -> Iterator[np.ndarray]:
    """Order the agents such that neighbours are near each other."""
    _, component = connected_components(links, directed=False)
    starts = np.unique(component, return_index=True)[1]
    searches = [depth_first_order(links, start, directed=False, return_predecessors=False) for start in starts]
    yield np.concatenate(searches)
    yield reverse_cuthill_mckee(links, symmetric_mode=True).astype(np.int64)
    if 3 < links.shape[0] <= _SPECTRAL:
        second, third = _slowest(links, 2)
        yield np.argsort(second, kind="stable")
        yield np.argsort(np.arctan2(third, second), kind="stable")  # goes around rings


def _slowest(links: csr_array, count: int) -> np.ndarray:
    """Return eigenvectors of the Laplacian for its smallest eigenvalues but the first, [count, K]."""
    laplacian = diags_array(np.asarray(links.sum(axis=1)).ravel()) - links
    agents = links.shape[0]
    if agents <= _DENSE:
        found = np.linalg.eigh(laplacian.toarray())[1]
    else:
        shifted = csr_array(laplacian + 1e-6 * eye_array(agents)).tocsc()
        values, vectors = eigsh(shifted, k=count + 1, sigma=0, v0=np.cos(np.arange(agents)))
        found = vectors[:, np.argsort(values)]
    vectors = found[:, 1 : count + 1].T
    # An eigenvector's sign is arbitrary, and differences below rounding are no order.
    signs = np.sign(vectors[np.arange(count), abs(vectors).argmax(axis=1)])
    return np.asarray((signs[:, None] * vectors).round(9))


def _bisect(links: csr_array, sizes: np.ndarray) -> np.ndarray:
    """Halve by the Fiedler vector, and each half again."""
    if len(sizes) == 1 or links.shape[0] < 3:
        return _cut(np.arange(links.shape[0]), sizes)
    order = np.argsort(_slowest(links, 1)[0], kind="stable")
    half = len(sizes) // 2
    first = int(sizes[:half].sum())
    part = np.empty(len(order), dtype=np.int64)
    for agents, below, its in ((order[:first], 0, sizes[:half]), (order[first:], half, sizes[half:])):
        part[agents] = below + _bisect(links[agents][:, agents], its)
    return part


def _metis(links: csr_array, sizes: np.ndarray) -> np.ndarray:
    """Split by METIS, which minimises the rows that travel, and correct the sizes, which it meets nearly."""
    import pymetis

    options = pymetis.Options(objtype=pymetis.ObjType.VOL, seed=0, ufactor=1)
    some = np.flatnonzero(sizes)
    _, found = pymetis.part_graph(
        len(some),
        pymetis.CSRAdjacency(links.indptr.astype(np.int64), links.indices.astype(np.int64)),
        tpwgts=(sizes[some] / sizes.sum()).tolist(),
        recursive=False,
        options=options,
    )
    part: np.ndarray = some[np.asarray(found)]
    counts = np.bincount(part, minlength=len(sizes))
    spilt = np.concatenate([np.flatnonzero(part == at)[size:] for at, size in enumerate(sizes)])
    part[spilt] = np.repeat(np.arange(len(sizes)), np.maximum(sizes - counts, 0))
    return part
