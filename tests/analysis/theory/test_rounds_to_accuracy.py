"""How many steps an accuracy needs, against exact moments followed step by step."""

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array

from basinet.analysis.theory.rounds_to_accuracy import Problem, rounds_to_accuracy
from basinet.topologies import exponential, metropolis, one_peer_exponential, ring, star, torus, uniform

GRAPHS = {
    "ring": [metropolis(ring(8))],
    "torus": [metropolis(torus(9))],
    "directed": [uniform(exponential(8))],
    "sequence": [uniform(graph) for graph in one_peer_exponential(8)],
    "irregular": [metropolis(nx.barbell_graph(3, 1))],
    "asymmetric": [csr_array(metropolis(star(4)) @ np.roll(np.eye(4), 1, axis=0))],
}


def excess(rule, matrices, problem, rate, steps):
    """The mean excess risk of the agents after each step, relative to the start, which is 1 from the minimum."""
    agents = matrices[0].shape[0]
    centred = np.eye(agents) - 1 / agents
    shifts = problem.heterogeneity * agents / (agents - 1) * centred  # covariance of b, of mean square z per agent
    covariance, distance = np.zeros((2 * agents, 2 * agents)), np.ones(agents)
    covariance[agents:, agents:] = shifts
    found = []
    for step in range(steps):
        W = matrices[step % len(matrices)].toarray() if rule != "centralized" else np.full((agents, agents), 1 / agents)
        moved = W - rate * np.eye(agents) if rule == "consensus" else (1 - rate) * W
        gain = rate * (W if rule in ("atc", "centralized") else np.eye(agents))
        both = np.block([[moved, -gain], [np.zeros_like(W), np.eye(agents)]])
        covariance = both @ covariance @ both.T
        covariance[:agents, :agents] += problem.noise * gain @ gain.T
        distance = moved @ distance
        found.append((np.trace(covariance[:agents, :agents]) + distance @ distance) / agents)
    return np.array(found)


@pytest.mark.parametrize("rule", ["atc", "cta", "consensus", "centralized"])
@pytest.mark.parametrize("name", GRAPHS)
def test_so_many_steps_reach_the_accuracy(name, rule):
    """The noise is such that with large rates agents end farther away than they start."""
    matrices, problem = GRAPHS[name], Problem(noise=12.0, heterogeneity=0.5, accuracy=0.02)
    need = rounds_to_accuracy(rule, matrices, problem)
    steps = int(need.steps)
    exact = excess(rule, matrices, problem, need.rate, steps)
    # The formula takes the steady state for what is still growing, and its mean over a period.
    assert exact[-1] <= problem.accuracy * (1 + 1e-9 if len(matrices) == 1 else 1.02)
    if rule == "centralized":
        assert exact[-2] > problem.accuracy
    # A rate a tenth smaller or larger reaches it no sooner: that of the grid is the best one.
    for other in (0.85, 1.18):
        assert (excess(rule, matrices, problem, need.rate * other, int(0.8 * steps)) > problem.accuracy).all()


def test_without_noise_and_heterogeneity_one_step_suffices():
    for rule in ("atc", "cta", "centralized"):
        assert rounds_to_accuracy(rule, GRAPHS["ring"], Problem(noise=0, heterogeneity=0)).steps == 1


def test_agents_that_do_not_count_alike_are_not_covered():
    assert rounds_to_accuracy("atc", [csr_array([[0.5, 0.5], [0.1, 0.9]])], Problem()) is None


def test_graphs_that_never_mix_reach_no_accuracy():
    """Agents whose graph is not connected keep their own minima."""
    apart = [csr_array(np.kron(np.eye(2), np.full((2, 2), 0.5)))]
    assert rounds_to_accuracy("atc", apart, Problem(noise=0)).steps == np.inf
    assert rounds_to_accuracy("atc", apart * 2, Problem(noise=0)).steps == np.inf
