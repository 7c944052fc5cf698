"""The pace of a run against hand-worked tables, the clock, and the formulas of its parts."""

from fractions import Fraction

import numpy as np
import pytest

from basinet.sim.clock.clock import Clock
from basinet.sim.clock.data_flow import DataFlow, StepFlow
from basinet.sim.clock.pace import pace
from basinet.topologies.networks import Delays
from tests.sim.clock.test_clock import (
    ATC,
    AUG_DGM,
    CENTRALIZED,
    CONSENSUS,
    CTA,
    DIGING,
    PATH,
    RING,
    SHORT_PATH,
    M,
    both_ways,
    computes,
    network_of,
    random_network,
    sends,
    timed,
    weights_of,
)


def pace_of(data_flow, latency, compute, per_byte=0, collectives=None, **keys):
    return pace(
        data_flow,
        {"graph": [weights_of(latency)]},
        network=network_of(latency, per_byte),
        compute=np.asarray(compute),
        collectives=collectives or {},
        **keys,
    )


@pytest.mark.parametrize(
    ("data_flow", "latency", "per_byte", "compute", "expected"),
    [
        (ATC, PATH, 0, (1, 2, 4), 5),
        (CTA, PATH, 0, (1, 2, 4), 5),
        (CONSENSUS, PATH, 0, (1, 2, 4), 4),
        (AUG_DGM, SHORT_PATH, 0, (1, 2, 4), 6),
        (DIGING, {edge: M for edge in SHORT_PATH}, 1, (2 * M, 4 * M, 8 * M), 8 * M),  # in half nanoseconds
        (ATC, RING, 0, (1, 2, 4), Fraction(13, 3)),
        (CONSENSUS, RING, 0, (1, 2, 4), 4),
        (ATC, {(0, 1): 1, (1, 2): 5, (2, 0): 6}, 0, (1, 2, 3), 6),
    ],
)
def test_tables_by_hand(data_flow, latency, per_byte, compute, expected):
    found = pace_of(data_flow, latency, compute, per_byte)
    assert found.step == expected == sum(found.compute.values()) + found.latency + found.transfer


def test_what_takes_time_is_named():
    found = pace_of(ATC, both_ways({(0, 1): 1, (1, 2): 2 * M}), (M, M, M), per_byte=1)
    assert found.compute == {1: Fraction(M, 2), 2: Fraction(M, 2)}
    assert (found.latency, found.transfer) == (2 * M, M)
    assert found.links == {(1, 2): Fraction(3 * M, 2), (2, 1): Fraction(3 * M, 2)}
    both = Delays(np.array(8), np.array(20))
    found = pace_of(CENTRALIZED, PATH, (1, 2, 4), collectives={M: both})
    assert found == (32, {2: 4}, 8, 20, {})


def test_without_overlap_a_message_leaves_before_its_sender_computes():
    """Agent 0 hears nobody; the link alone would carry a message every 100 ns."""
    assert pace_of(ATC, {(0, 1): 7}, (10, 10), 1, overlap=False).step == 10 + M
    assert pace_of(ATC, {(0, 1): 7}, (10, 10), 1).step == M


@pytest.mark.parametrize(("per_byte", "overlap"), [(0, True), (1, True), (1, False)])
@pytest.mark.parametrize("data_flow", [ATC, CTA, CONSENSUS, AUG_DGM, DIGING], ids=range(5))
def test_the_clock_keeps_this_pace(data_flow, per_byte, overlap):
    rng, latency = random_network(7)
    latency = {edge: int(delay + rng.integers(0, 200)) for edge, delay in latency.items()}  # not alike both ways
    compute = rng.integers(1, 300, 9)
    clock = timed(data_flow, latency, compute, per_byte, overlap=overlap)
    clock.advance(200)
    before = clock.times.copy()
    clock.advance(200 + 840)  # a multiple of all short cycles
    found = pace_of(data_flow, latency, compute, per_byte, overlap=overlap)
    assert set(((clock.times - before) / 840).ravel()) == {float(found.step)}


def test_graphs_and_flows_that_take_turns():
    """A period of six steps: every other one mixes twice, and there are three graphs."""
    once = StepFlow((computes((2, 1)), sends((0, 0))), ((1, 0),))
    twice = StepFlow((computes((1, 1)), sends((0, 0)), sends((1, 0))), ((2, 0),))
    start = StepFlow((computes(), sends((0, 0))), ((1, 0),))
    data_flow = DataFlow((start,), (twice, once))
    rng, latency = random_network(3)
    edges = [edge for edge in latency if edge[0] < edge[1]]
    graphs = [both_ways({edge: 0 for edge in edges[i::3]}) | {(8, 8): 0} for i in range(3)]
    weights = {"graph": [weights_of(graph) for graph in graphs]}
    compute, network = rng.integers(1, 300, 9), network_of(latency, 1)
    clock = Clock(data_flow, weights, agents=9, network=network, compute=lambda _: compute[None])
    clock.advance(200)
    before = clock.times.copy()
    clock.advance(200 + 840)
    found = pace(data_flow, weights, network=network, compute=compute, collectives={})
    assert set(((clock.times - before) / 840).ravel()) == {float(found.step)}
