"""Rows are dealt to workers: whole replicas where they suffice, and few agents with neighbours elsewhere otherwise."""

import dataclasses

import numpy as np
import pytest

from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.runtimes.runtime import Seat
from basinet.sim.setup import checks
from basinet.sim.setup.room import agent_bytes, check_room
from basinet.topologies.cuts import crossing_rows


def table(setup, groups):
    return setup.placement(groups).owner.reshape(setup.config.replicas, setup.num_agents)


def test_replicas_are_dealt_whole_so_that_nothing_crosses(make_setup):
    setup = make_setup(trial=False, replicas=6)
    assert table(setup, range(3)).tolist() == [[worker] * 4 for worker in (0, 0, 1, 1, 2, 2)]
    many = make_setup(trial=False, replicas=21)  # of two workers, one hosts a replica more
    assert (np.ptp(table(many, range(2)), axis=1) == 0).all()


@pytest.mark.parametrize(("replicas", "workers"), [(1, 3), (2, 3), (3, 2), (5, 4), (2, 8), (10, 11)])
def test_few_replicas_are_shared_and_rows_are_even(make_setup, replicas, workers):
    setup = make_setup(trial=False, replicas=replicas, topology={"name": "torus", "agents": 16})
    owners = table(setup, range(workers))
    counts = np.bincount(owners.ravel(), minlength=workers)
    assert np.ptp(counts) <= 1
    assert sum(len(set(row)) - 1 for row in owners.tolist()) <= workers - 1


def test_workers_of_a_machine_host_neighbours(make_setup):
    setup = make_setup(trial=False, replicas=1, topology={"name": "ring", "agents": 12})
    (owner,) = table(setup, ["a", "b", "a", "b"])
    assert crossing_rows(setup.sequence, owner) == 8
    assert crossing_rows(setup.sequence, owner % 2) == 4


def test_a_replica_stays_on_a_machine_and_each_way_to_share_one_is_arranged_once():
    owner = Placement.of_groups(2, 4, ["a", "b", "a", "b"]).owner.reshape(2, 4)
    assert [sorted({*row}) for row in owner.tolist()] == [[0, 2], [1, 3]]
    asked = []

    def arrange(sizes, groups):
        asked.append((sizes, groups))
        return np.array([1, 0, 1, 0])

    owner = Placement.of_groups(3, 4, ["a", "a", "a", "a", "a", "b"], arrange).owner.reshape(3, 4)
    assert asked == [([2, 2], [0, 0]), ([2, 2], [0, 1])]
    assert owner.tolist() == [[1, 0, 1, 0], [3, 2, 3, 2], [5, 4, 5, 4]]


def test_a_strategy_that_only_sums_is_split_in_order(make_setup):
    keys = {"trial": False, "replicas": 1, "topology": {"name": "grid", "agents": 12}}
    setup = make_setup(strategy="centralized", **keys)
    assert setup.exchanges == () and (np.diff(setup.placement(range(3)).owner) >= 0).all()


@pytest.mark.parametrize(
    ("replicas", "shares", "rows"),
    [
        (1, [2, 1], [8, 4]),
        (1, [0.5, 0.25, 0.25], [6, 3, 3]),
        (1, [5, 1], [10, 2]),
        (3, [2, 1], [24, 12]),  # whole replicas
        (3, [1, 1], [18, 18]),
        (20, [2, 1], [156, 84]),  # 13 replicas instead of 13⅓
    ],
)
def test_workers_host_as_many_rows_as_their_shares_say(make_setup, replicas, shares, rows):
    keys = {"replicas": replicas, "topology": {"name": "ring", "agents": 12}, "runtime": {"shares": shares}}
    setup = make_setup(trial=False, **keys)
    owners = table(setup, range(len(shares)))
    assert np.bincount(owners.ravel()).tolist() == rows
    if replicas == 1:
        assert crossing_rows(setup.sequence, owners[0]) == 2 * len(shares)


def test_shares_follow_workers_whose_machines_alternate():
    owner = Placement.of_groups(1, 8, ["a", "b", "a"], shares=[4, 1, 3]).owner
    assert owner.tolist() == [0, 0, 0, 0, 2, 2, 2, 1]


def test_shares_are_one_for_each_worker_and_leave_it_an_agent(make_setup, monkeypatch):
    def check(workers, shares):
        seats = [Seat("here", "cpu", 1, np.inf)] * workers
        monkeypatch.setattr("basinet.sim.runtimes.inline.Inline.seats", lambda self: seats)
        check_room([make_setup(trial=False, replicas=1, runtime={"shares": shares})])

    check(2, [3, 1])
    check(1, [3, 1])
    with pytest.raises(ExperimentError, match=r"runtime\.shares: got 2; allowed is one for each of the 3 workers"):
        check(3, [3, 1])
    with pytest.raises(ExperimentError, match=r"got 1, 100; .* of 4, worker 0 would have none"):
        check(2, [1, 100])
    for wrong in ([], [1, 0], [1, -2]):
        with pytest.raises(ExperimentError, match=r"runtime\.shares"):
            check(2, wrong)


def test_shares_are_a_list_and_no_grid():
    keys = {"task": "digits", "topology": "ring", "strategy": "diffusion"}
    (config,) = Experiment(keys | {"runtime": {"shares": [2, 1]}}).runs.values()
    assert config.runtime.shares == [2, 1] and Config.parse(config.describe()).runtime == config.runtime


def test_join_order_undoes_any_placement():
    placement = Placement(3, np.array([1, 0, 1, 2, 0, 0]), 3)
    rows = [dataclasses.replace(placement, rank=rank).rows for rank in range(3)]
    assert np.concatenate(rows)[placement.order].tolist() == [*range(6)]


def test_workers_that_do_not_fit_on_their_machine_are_refused(make_setup, monkeypatch):
    setup = make_setup(replicas=1)
    each = sum(agent_bytes(setup).values())
    seats = [Seat("small", "cpu", 1, 2 * each), Seat("large", "cpu", 1, 9 * each)]
    monkeypatch.setattr("basinet.sim.runtimes.inline.Inline.seats", lambda self: seats)
    check_room([setup])
    monkeypatch.setattr("basinet.sim.runtimes.inline.Inline.seats", lambda self: seats[:1])
    with pytest.raises(ExperimentError, match=r"the 1 worker on small would take .* and may use .*; give"):
        check_room([setup])


def test_a_partitioner_that_is_not_installed_is_refused(make_setup, monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(ExperimentError, match="metis needs the package pymetis; pip install it, or give auto or none"):
        make_setup(trial=False, runtime={"partitioner": "metis"})
