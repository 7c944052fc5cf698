"""Losses where agents send at times of their own: what is used instead, what is sent again, and what is kept."""

import networkx as nx
import numpy as np
import pytest
import torch

from basinet.algorithms.strategies import ADPSGD, WaitFreeDiffusion
from basinet.sim.agents.placement import Placement
from basinet.sim.agents.worker import Worker
from basinet.sim.clock import event_pass
from basinet.sim.clock.event_pass import EventPass
from basinet.sim.clock.message_lines import MessageLines
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.faults import LinkFault, LinkLoss, LossBursts, NetworkLoss
from basinet.sim.faults.message_losses import MessageLosses
from basinet.sim.faults.outages import Outages
from basinet.topologies import metropolis
from basinet.topologies.networks import uniform_links
from tests.sim.clock.test_event_pass import SECOND, Numbers, heard_of


def events_of(strategy, graph, compute, faults, network=None):
    heard = heard_of(metropolis(graph))
    pairs = [*strategy.links(heard)]
    losses = MessageLosses(faults, pairs, seed=3)
    return EventPass(strategy, heard, MessageLines(network, pairs, 100), compute, 0, losses)


def test_each_message_of_a_link_has_the_state_of_its_number():
    """That of the synchronous step, for each direction, in whatever order they are asked for."""
    weights, faults = metropolis(nx.path_graph(3)), [LossBursts(loss=0.4, burst=3.0, symmetric=False)]
    outages = Outages(faults, {"graph": [weights]}, agents=3, replicas=2, seed=5)
    links = [(1, 0), (0, 1), (2, 1), (1, 2)]  # by receivers, as edges are
    wanted = np.zeros((30, 4), dtype=bool)
    for step in range(30):
        if (outage := outages.at("graph", step)) is not None:
            wanted[step] = outage.lost[1]
    losses = MessageLosses(faults, links, replica=1, seed=5)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 30))
    found = [[] for _ in links]
    for place in order:
        found[place].append(losses.lost(*links[place]))
    assert (wanted == np.array(found).T).all() and 0.2 < wanted.mean() < 0.6


def test_messages_are_lost_as_the_network_says():
    network, links = uniform_links(nx.path_graph(2), latency="1 ms", loss="30 %"), [(0, 1), (1, 0)]
    both = [MessageLosses([f], links, network=network, seed=5) for f in (NetworkLoss(), LinkLoss(probability=0.3))]
    found, wanted = ([own.lost(*link) for _ in range(100) for link in links] for own in both)
    assert found == wanted and 0.15 < np.mean(found) < 0.45


def test_what_is_used_instead_is_as_old_as_losses_in_a_row():
    """P(age = s) = (1 − p) p^s, where all compute equally long and messages take no time."""
    p, ages = 0.3, []
    events = events_of(WaitFreeDiffusion(), nx.cycle_graph(20), lambda _: [1000] * 20, [LinkLoss(probability=p)])
    events.stale = ages.append
    events.step(20 * 120)
    later, n = np.array(ages[40 * 20 :]), 20 * 2 * 100
    for s in range(4):
        share = (1 - p) * p**s
        # Ages that follow each other on a link are not independent; four standard errors of independent ones, doubled.
        assert np.mean(later == s) == pytest.approx(share, abs=8 * (share * (1 - share) / n) ** 0.5)
    assert events.lost / events.sent == pytest.approx(p, abs=4.5 * (p * (1 - p) / events.sent) ** 0.5)


def test_gossip_keeps_the_mean_and_contracts_by_the_questions_that_arrive():
    """On a complete graph by 1 − (1 − p) / (K − 1), as only some averages happen."""
    k, p, rng = 8, 0.4, np.random.default_rng(0)
    times = rng.exponential(SECOND, (1000, k)).astype(int).tolist()
    events = events_of(ADPSGD("all"), nx.complete_graph(k), times.__getitem__, [LinkLoss(probability=p)])
    numbers, factors = Numbers(events, [0] * k, [0] * k, 0), []
    for done in range(1, 1500):
        numbers.known.update(zip(events.x, rng.normal(size=k), strict=True))
        rows = [numbers.known[row] for row in events.x]
        after = numbers.advance(done)
        assert np.mean(after) == pytest.approx(np.mean(rows), abs=1e-12)
        factors.append(np.var(after) / np.var(rows))
    assert np.mean(factors) == pytest.approx(1 - (1 - p) / (k - 1), abs=4 * np.std(factors) / len(factors) ** 0.5)


@pytest.mark.parametrize("strategy", [WaitFreeDiffusion(bound=1), ADPSGD()])
def test_agents_that_wait_go_on(strategy):
    """What they wait for is sent again; the mean of gossip without gradients is kept over a network that takes time."""
    graph, rng = nx.cycle_graph(6), np.random.default_rng(1)
    times = rng.exponential(SECOND, (400, 6)).astype(int).tolist()
    network = uniform_links(graph, latency="200 ms", bandwidth="1 kB/s")
    events = events_of(strategy, graph, times.__getitem__, [LinkLoss(probability=0.5)], network)
    start = [float(n**2) for n in range(6)]
    numbers = Numbers(events, start, [0] * 6, 0)
    x = np.array(numbers.advance(600))
    assert events.lost > 30 and x.max() - x.min() < 0.05
    if isinstance(strategy, ADPSGD):
        assert x.mean() == pytest.approx(55 / 6, abs=0.05)
    else:
        assert max(events.finished) - min(events.finished) <= 2 * 3


class Always(LinkFault):
    """Nothing ever arrives."""

    def failures(self, keys):
        return lambda step: torch.ones(keys.shape, dtype=torch.bool)


def test_nothing_ever_arrives(monkeypatch):
    """Who does not wait is alone; who does would wait for ever."""
    alone = events_of(WaitFreeDiffusion(), nx.cycle_graph(4), lambda _: [1000] * 4, [Always()])
    alone.step(400)
    assert alone.lost == alone.sent == 800 and alone.ages[2] == 100
    monkeypatch.setattr(event_pass, "_IN_VAIN", 1000)
    waiting = events_of(WaitFreeDiffusion(bound=0), nx.cycle_graph(4), lambda _: [1000] * 4, [Always()])
    with pytest.raises(ExperimentError, match=r"^faults: 1,000 messages are lost one after another, and no gradient"):
        waiting.step(8)


@pytest.mark.parametrize("strategy", ["wait_free", {"name": "ad_psgd", "active": "all"}])
def test_evaluations_say_what_was_lost_and_a_resumed_run_goes_on(strategy, make_setup):
    keys = {"task": "quadratic", "model": {"name": "point", "start": 2.0}, "topology": {"name": "ring", "agents": 5}}
    faults = [{"name": "bursts", "loss": 0.3, "burst": 2.0}, {"name": "stalls", "agents": [1], "at": 2, "time": "9 ms"}]
    setup = make_setup(
        **keys, strategy=strategy, compute={"name": "exponential", "mean": "1 ms"}, faults=faults, trial=False
    )
    whole, resumed = (Worker(setup, Placement.split(2, 5), "stacked") for _ in range(2))
    whole.advance(4)
    resumed.load(whole.state())
    for worker in (whole, resumed):
        worker.advance(30)
    assert torch.equal(whole.block.x, resumed.block.x)
    rows = whole.measure()[0]
    assert rows == resumed.measure()[0]
    assert rows[0]["lost_messages"] != rows[1]["lost_messages"] and "lost_messages" in setup.quantities
    assert all(0.1 < row["lost_messages"] < 0.5 for row in rows)
