"""What agents do when, as the clock is watched."""

from itertools import pairwise

import numpy as np
import pytest

from basinet.launch.exporting.chrome_trace import chrome_trace
from basinet.sim.clock.timeline import Activity, timeline
from tests.sim.clock.test_clock import (
    ATC,
    AUG_DGM,
    CENTRALIZED,
    CONSENSUS,
    CTA,
    DIGING,
    both_ways,
    random_network,
    timed,
)


def test_a_timeline_by_hand():
    """Agent 0 computes for 10 ns, agent 1 for 30; messages take 5 ns to leave, and 2 ns to arrive."""
    clock = timed(ATC, both_ways({(0, 1): 2}), (10, 30), per_byte=0.05)  # of 100 bytes
    assert [one[1:] for one in timeline(clock, 1, 2)] == [
        (0, "compute", 1, 0, 10),
        (0, "send", 1, 10, 15),
        (0, "idle", 2, 10, 30),
        (0, "communication", 2, 30, 37),
        (0, "compute", 2, 37, 47),
        (0, "send", 2, 47, 52),
        (0, "idle", 2, 47, 60),
        (0, "communication", 2, 60, 67),
        (1, "compute", 1, 0, 30),
        (1, "send", 1, 30, 35),
        (1, "compute", 2, 30, 60),
        (1, "send", 2, 60, 65),
    ]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("data_flow", [ATC, CTA, CONSENSUS, DIGING, AUG_DGM, CENTRALIZED])
def test_agents_do_one_thing_after_the_other_for_as_long_as_the_clock_says(data_flow, overlap):
    rng, latency = random_network(1)
    compute = rng.integers(1, 300, (6, 2, 9))
    made = [
        timed(data_flow, latency, compute, 1, collective=lambda size: lambda ready: 7, overlap=overlap)
        for _ in range(3)
    ]
    unseen, seen, later = made
    found = timeline(seen, 1, 6)
    assert unseen.advance(6).tolist() == seen.times.max(1).tolist()
    spent = {doing: np.zeros(2) for doing in ("compute", "communication", "idle")}
    for replica, agent in np.ndindex(2, 9):
        mine = [one for one in found if one[:2] == (replica, agent) and one.doing != "send"]
        assert mine[0].start == 0
        assert all(one.end == other.start for one, other in pairwise(mine))
        last = max(place for place, one in enumerate(mine) if one.doing == "compute")
        for one in mine[: last + 1]:
            spent[one.doing][replica] += one.end - one.start
    total = sum(spent.values())
    for doing, share in seen.shares().items():
        assert share == pytest.approx(spent[doing] / total, abs=1e-12)
    assert [one for one in timeline(later, 4, 6) if one.doing != "idle"] == [
        one for one in found if one.doing != "idle" and one.step >= 4
    ]


def test_a_trace_has_a_thread_for_each_agent_of_a_machine():
    found = [Activity(0, 1, "compute", 3, 5_000, 7_500), Activity(1, 1, "send", 3, 7_500, 8_000)]
    trace = chrome_trace(found, ["a", "b"], [0, 1])
    assert trace["traceEvents"][-2:] == [
        {
            "name": "compute",
            "cat": "compute",
            "ph": "X",
            "pid": 1,
            "tid": 2,
            "ts": 5.0,
            "dur": 2.5,
            "args": {"step": 3},
        },
        {"name": "send", "cat": "send", "ph": "X", "pid": 3, "tid": 3, "ts": 7.5, "dur": 0.5, "args": {"step": 3}},
    ]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names == {(1, 2): "agent b", (3, 3): "agent b sends"}
    processes = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    assert processes == {1: "replica 0, machine 1", 3: "replica 1, machine 1"}
