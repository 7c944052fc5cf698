"""Events of asynchronous agents: the times of hand-worked and of closed-form cases, and the numbers of small ones."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from basinet.algorithms.strategies import ADPSGD, AsyncServer, Gossip, WaitFreeDiffusion
from basinet.sim.clock.clock import Clock
from basinet.sim.clock.event_clock import EventClock
from basinet.sim.clock.event_pass import EventPass
from basinet.sim.clock.message_lines import MessageLines
from basinet.sim.clock.row_operations import Adapt, Gradient, Step
from basinet.topologies import metropolis
from basinet.topologies.mixing_matrix import edges_of
from basinet.topologies.networks import Ports, uniform_links
from tests.sim.clock.test_clock import ATC

POINT = {"task": "quadratic", "model": {"name": "point", "start": 2.0}, "trial": False}
SECOND = 10**9


def heard_of(weights):
    heard = [[] for _ in range(weights.shape[0])]
    for receiver, sender, weight in zip(*(ends.tolist() for ends in edges_of(weights)), strict=True):
        heard[receiver].append((sender, weight))
    return heard


def events_of(strategy, graph, compute, network=None, key=0, size=100):
    """The events of a replica, given the nanoseconds of each agent's gradients, or a function to them."""
    heard = heard_of(metropolis(graph))
    lines = MessageLines(network, strategy.links(heard), size)
    return EventPass(strategy, heard, lines, compute if callable(compute) else lambda _: compute, key)


class Numbers:
    """Computes what the events say, one operation after another: agents with the losses h (x − b)² / 2."""

    def __init__(self, events, start, b, rate, h=1.0):
        self.events, self.b, self.rate, self.h = events, b, rate, h
        self.known = dict(zip(events.x, start, strict=True))

    def advance(self, finished):
        for operation in self.events.step(finished):
            x = [self.known[row] for row in operation.reads]
            if isinstance(operation, Gradient | Step):
                found = self.h * (x[0] - self.b[operation.result.agent])
                x.append(found)
            if isinstance(operation, Adapt | Step):
                found = x[0] - self.rate * x[1]
            elif not isinstance(operation, Gradient):
                found = x[0] + sum(w * (other - x[0]) for w, other in zip(operation.weights, x[1:], strict=True))
            self.known[operation.result] = found
        return [self.known[row] for row in self.events.parameters()]


def test_pairs_average_while_gradients_become_stale():
    """A asks and takes 2 s, B takes 3 s, g(x) = x: B steps at 3 s with the gradient at its start, 8."""
    numbers = Numbers(events_of(ADPSGD(), nx.path_graph(2), [2 * SECOND, 3 * SECOND]), [0.0, 8.0], [0, 0], 0.5)
    found = [(numbers.advance(done), numbers.events.now // SECOND) for done in (1, 2, 3)]
    assert found == [([4, 4], 2), ([4, 0], 3), ([1, 1], 4)]


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        (WaitFreeDiffusion(), 4.0),
        (ADPSGD("all"), 6.0),
        (Gossip(), 6.0),
        (AsyncServer(rate=3.0), 6.0),
        (AsyncServer(rate=3.0, bound=1), 4.0),
    ],
)
def test_who_counts_how_much_where_speeds_differ(strategy, wanted):
    """Rates 1, 1 and 3, minima at 0, 3 and 9: the mean is 4, and the mean by rates 6."""
    numbers = Numbers(
        events_of(strategy, nx.complete_graph(3), [3 * SECOND, 3 * SECOND, SECOND]), [5.0] * 3, [0, 3, 9], 2e-3
    )
    numbers.advance(8000)
    means = [np.mean(numbers.advance(done)) for done in range(8000, 10_000, 7)]
    # The bias is of the order of the rate; of the distance at the start, exp(−8000 · 0.002 / 3) is left.
    assert np.mean(means) == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("averages", [1, 3])
def test_gossip_contracts_as_randomized_gossip_does(averages):
    """On a complete graph the expected factor of an average is 1 − 1/(K − 1), whatever the values are."""
    k, rng = 8, np.random.default_rng(0)
    times = rng.exponential(SECOND, (1000, k)).astype(int).tolist()
    strategy = Gossip(averages=averages) if averages > 1 else ADPSGD("all")
    numbers = Numbers(events_of(strategy, nx.complete_graph(k), times.__getitem__), [0] * k, [0] * k, 0)
    factors = []
    for done in range(1, 1500):
        numbers.known.update(zip(numbers.events.x, rng.normal(size=k), strict=True))  # some of which are the same
        before = np.var([numbers.known[row] for row in numbers.events.x])
        factors.append(np.var(numbers.advance(done)) / before)
    factors = np.array(factors)
    # One agent averages with random others: all products of these averages, of which the mean is removed.
    pairs = np.stack([np.eye(k) for _ in range(k - 1)])
    pairs[:, 0, 0] = 0.5
    for n, pair in enumerate(pairs):
        pair[0, n + 1] = pair[n + 1, 0] = pair[n + 1, n + 1] = 0.5
    products = np.eye(k) - 1 / k
    for _ in range(averages):
        products = (pairs[:, None] @ products.reshape(1, -1, k, k)).reshape(-1, k, k)
    expected = (products**2).sum((1, 2)).mean() / (k - 1)
    assert averages > 1 or expected == pytest.approx(1 - 1 / (k - 1))
    assert factors.mean() == pytest.approx(expected, abs=4 * factors.std() / np.sqrt(len(factors)))


def test_who_gossips_waits_for_the_answer():
    """A takes 2 s and a message 1 s, so that A starts every 4 s; AD-PSGD starts every 2 s, and asks every 4 s."""
    graph = nx.path_graph(2)
    network = uniform_links(graph, latency="1 s")
    found = {}
    for strategy in (Gossip("half"), ADPSGD("half"), ADPSGD("half", period=3)):
        events = events_of(strategy, graph, [2 * SECOND, 100 * SECOND], network)
        events.step(25)
        found[strategy] = events.now // SECOND, events.sent, events.travelled[0] // SECOND
    assert [*found.values()] == [(98, 49, 48), (50, 25, 0), (50, 16, 0)]


@pytest.mark.parametrize("end", ["up", "down"])
def test_the_servers_access_bounds_how_many_changes_there_are(end):
    """Throughput is min(Σ_k 1 / C_k, B / M), with 5 µs a message, or 1 ns; the host's own changes do not travel."""
    graph, agents = nx.complete_graph(5), 5
    times = [10**7, 1000, 2000, 3000, 4000]
    for rate, period in ((20e6, 5000), (1e11, 1 / sum(1 / each for each in times))):
        network = uniform_links(graph, latency="0 s")
        network = replace(network, ports=Ports(**{end: [rate] + [np.inf] * (agents - 1)}))
        events = events_of(AsyncServer(), graph, times, network)
        events.step(400)
        assert events.now / 400 == pytest.approx(period, rel=0.02)  # up to those that are on their way


def test_nobody_is_further_ahead_than_the_bound():
    graph, ahead = nx.cycle_graph(5), []
    events = events_of(WaitFreeDiffusion(bound=2, period=2), graph, [1000, 1000, 1000, 1000, 9000])
    for done in range(1, 300):
        events.step(done)
        ahead += [abs(events.finished[k] - events.finished[other]) for k, other in graph.edges]
    assert max(ahead) == 4  # those at 2 n + 2 go on when the slow one is at 2 n, for two gradients more


@pytest.mark.parametrize(("latency", "age"), [("0 s", 0), ("2 us", 1), ("3 us", 2), ("3001 ns", 2), ("4001 ns", 3)])
def test_constant_delays_make_constant_ages(latency, age):
    """With delay D and gradients of C = 2 µs, what is used is ceil(D / C) versions old."""
    graph = nx.cycle_graph(5)
    events = events_of(WaitFreeDiffusion(), graph, [2000] * 5, uniform_links(graph, latency=latency))
    events.step(50)
    count, total, _ = events.ages
    events.step(100)
    later = events.ages
    assert later[2] == age and later[1] - total == age * (later[0] - count)


@pytest.mark.parametrize("law", ["constant", "exponential", "pareto"])
def test_each_update_ages_the_gradients_of_all_others(law, make_setup):
    """So that their mean age is K − 1 for every law, up to those on their way."""
    keys = {"strategy": "async_server", "topology": {"name": "ring", "agents": 9}, "replicas": 1}
    clock = EventClock(make_setup(**POINT, **keys, compute={"name": law, "mean": "1 ms", "factors": [1, 1, 3]}))
    clock.advance(200)
    (events,) = clock.passes
    count, total, _ = events.ages
    on_their_way = sum(events.memory["version"] - version for _, version in events.memory["read"])
    assert count == events.memory["version"] == 1800 + (law == "constant") * (count - 1800)
    assert total + on_their_way == 8 * count


def test_ages_at_a_server_are_geometric(make_setup):
    """With exponential times each next update is any agent's, so that P(age = s) = (1 − 1/K)^s / K."""
    keys = {"strategy": "async_server", "topology": {"name": "ring", "agents": 4}, "replicas": 1}
    clock = EventClock(make_setup(**POINT, **keys, compute={"name": "exponential", "mean": "1 ms"}))
    ages, (events,) = [], clock.passes
    events.stale = ages.append
    clock.advance(600)
    later = np.array(ages[100:])
    for s in range(4):
        p = 0.75**s / 4
        # The ages of one another are not independent; four standard errors of independent ones, doubled.
        assert np.mean(later == s) == pytest.approx(p, abs=8 * np.sqrt(p * (1 - p) / len(later)))


def test_waiting_for_all_neighbours_is_diffusion():
    """With the bound 0, agents start when the clock of synchronous steps says, whatever times and delays are."""
    graph, rng = nx.petersen_graph(), np.random.default_rng(1)
    times = rng.exponential(5000, (40, 10)).astype(int) + 1
    network = uniform_links(graph, latency="2 us", bandwidth="100 MB/s")  # 1 µs for 100 bytes
    started = {}

    class Watched(WaitFreeDiffusion):
        def combine(self, k, events):
            starts = super().combine(k, events)
            if starts:
                started[k, events.finished[k]] = events.now
            return starts

    events = events_of(Watched(bound=0), graph, times.tolist().__getitem__, network)
    events.step(10 * 30)
    clock = Clock(ATC, {"graph": (metropolis(graph),)}, agents=10, network=network, compute=lambda n: times[n][None])
    for step in range(1, 30):
        clock.advance(step)
        known = {k: started[k, step] for k in range(10) if (k, step) in started}
        assert known and all(clock.times[0, k] == time for k, time in known.items())
    assert events.ages[2] == 0


def test_a_busy_link_carries_the_newest():
    """A message takes as long as 2.5 gradients: meanwhile, later ones replace those that wait."""
    graph = nx.path_graph(2)
    network = uniform_links(graph, bandwidth="40 MB/s")
    events = events_of(WaitFreeDiffusion(), graph, [1000, 1000], network)
    events.step(200)
    assert events.sent == 2 * 40 and events.ages[2] <= 5
    queued = events_of(WaitFreeDiffusion(bound=3), graph, [1000, 1000], network)
    queued.step(200)
    assert queued.now == pytest.approx(100 * 2500, rel=0.05)  # as fast as the link


def test_events_are_the_same_again_and_time_never_goes_back(make_setup):
    keys = {"strategy": {"name": "ad_psgd", "active": "all"}, "topology": {"name": "ring", "agents": 5}}
    keys |= {"network": {"name": "uniform", "latency": "300 us"}, "compute": {"name": "exponential", "mean": "1 ms"}}
    setup = make_setup(**POINT, **keys)
    often, once = EventClock(setup), EventClock(setup)
    ends = np.array([often.advance(step) for step in range(1, 40)])
    assert (np.diff(ends, axis=0) >= 0).all() and (ends[-1] == once.advance(39)).all()
    assert often.measurements(0) == once.measurements(0) != once.measurements(1)
    for first, second in zip(often.passes, once.passes, strict=True):
        assert [(row.agent, row.number) for row in first.live()] == [(row.agent, row.number) for row in second.live()]
    for own in often.passes:  # the sum is kept by all averages
        assert own.sent > 0
    assert all(sum(parts) == pytest.approx(1) for parts in zip(*often.shares().values(), strict=True))


def test_a_server_takes_both_ways_and_holds_those_who_are_ahead():
    graph = nx.complete_graph(3)
    network = uniform_links(graph, latency="1 us")
    events = events_of(AsyncServer(), graph, [1000, 2000, 4000], network)
    events.step(30)
    assert events.travelled[0] == 0  # it is at the server
    for k in (1, 2):
        assert (
            events.travelled[k] in (2000 * events.finished[k], 2000 * (events.finished[k] - 1)) and not events.waited[k]
        )
    bounded = events_of(AsyncServer(bound=1), graph, [1000, 2000, 4000], network)
    bounded.step(300)
    assert max(bounded.finished) - min(bounded.finished) <= 2
    assert bounded.now == pytest.approx(100 * 6000, rel=0.05)  # as fast as the slowest
