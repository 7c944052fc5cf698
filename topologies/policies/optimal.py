"""The symmetric weights that mix fastest: one for all edges, or one for each."""

import importlib

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from basinet.topologies.mixing_matrix import POLICIES, check_graph, neighborhoods, with_diagonal
from basinet.topologies.requirements import require_undirected
from basinet.topologies.spectra.connectivity import algebraic_connectivity, largest_laplacian_eigenvalue

__all__ = ["best_constant", "fastest"]

FASTEST_AGENTS = 100


@POLICIES.register()
def best_constant(graph: nx.Graph) -> csr_array:
    """Every edge has the same weight, the one that mixes fastest: ``W = I - 2 / (λ_2 + λ_K) L``.

    The eigenvalues are those of the graph's Laplacian L. The mixing rate is then
    ``(λ_K - λ_2) / (λ_K + λ_2)``, and -λ_min as well, so that consensus tolerates small step
    sizes only. On graphs with very uneven degrees such weights would be negative on the diagonal.

    Args:
        graph: Undirected connected graph.

    Returns:
        Mixing matrix [K, K], symmetric.

    Raises:
        ValueError: If an agent's own weight would be negative.

    Example:
        >>> best_constant(nx.cycle_graph(4)).toarray()[0].round(3)
        array([0.333, 0.333, 0.   , 0.333])

    References:
        L. Xiao, S. Boyd: Fast linear iterations for distributed averaging, Syst. Control Lett. 53 (2004),
        doi:10.1016/j.sysconle.2004.02.022.
    """
    hears = neighborhoods(graph)
    require_undirected(graph, "best_constant")
    check_graph(graph)
    if len(graph) == 1:
        return csr_array([[1.0]])
    step = 2 / (algebraic_connectivity(graph) + largest_laplacian_eigenvalue(graph))
    kept = 1 - step * hears.sum(axis=1)
    k = int(kept.argmin())
    if kept[k] < -1e-9:
        raise ValueError(
            f"the policy best_constant gives agent {list(graph)[k]!r} the weight {kept[k]:.3g} for its own value, but "
            "no weight may be negative; use fastest, or laplacian with a smaller step"
        )
    return with_diagonal(step * hears, np.maximum(kept, 0))


@POLICIES.register()
def fastest(graph: nx.Graph) -> csr_array:
    """The symmetric weights that mix fastest, with the smallest ``max_{k≥2} |λ_k|``.

    They solve a semidefinite programme with one weight per edge, ``minimise s with -s I ≤ W - 1 1^T / K ≤ s I``, W
    symmetric with non-negative entries and rows that sum to one. It takes seconds on 50 agents, and a minute or two on
    100.

    Args:
        graph: Undirected connected graph, of at most 100 agents.

    Returns:
        Mixing matrix [K, K], symmetric.

    Raises:
        ImportError: If cvxpy is not installed.
        ValueError: If the graph has more than 100 agents.

    References:
        S. Boyd, P. Diaconis, L. Xiao: Fastest mixing Markov chain on a graph, SIAM Rev. 46 (2004),
        doi:10.1137/S0036144503423264.
    """
    require_undirected(graph, "fastest")
    check_graph(graph)
    K = len(graph)
    if K > FASTEST_AGENTS:
        raise ValueError(
            f"the policy fastest has {K} agents, but is solved for at most {FASTEST_AGENTS}; use metropolis"
        )
    try:
        cp = importlib.import_module("cvxpy")
    except ImportError as error:
        raise ImportError("the policy fastest needs cvxpy: install basinet[convex]") from error
    upper = neighborhoods(graph).tocoo()
    ends = np.column_stack([upper.row, upper.col])[upper.row < upper.col]
    if not len(ends):
        return csr_array([[1.0]])
    incidence = np.zeros((K, len(ends)))
    incidence[ends[:, 0], range(len(ends))], incidence[ends[:, 1], range(len(ends))] = 1, -1
    weight, rate = cp.Variable(len(ends), nonneg=True), cp.Variable()
    rest = np.eye(K) - 1 / K - incidence @ cp.diag(weight) @ incidence.T
    within = [rest << rate * np.eye(K), rest >> -rate * np.eye(K), np.abs(incidence) @ weight <= 1]
    cp.Problem(cp.Minimize(rate), within).solve(solver=cp.CLARABEL)
    # The solver meets the bounds only up to its tolerance.
    solution = np.maximum(weight.value, 0)
    solution /= max(1.0, float((np.abs(incidence) @ solution).max()))
    both = (np.tile(solution, 2), (np.concatenate([ends[:, 0], ends[:, 1]]), np.concatenate([ends[:, 1], ends[:, 0]])))
    W = csr_array(both, shape=(K, K))
    return with_diagonal(W, np.maximum(1 - W.sum(axis=1), 0))
