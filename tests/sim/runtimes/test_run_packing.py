"""Runs are packed by what each needs, node by node, and the rest waits."""

import threading

import pytest

from basinet.sim.runtimes.run_packing import Needs, Node, capacity, fit, spread


@pytest.mark.parametrize(
    ("needs", "nodes", "number"),
    [
        (Needs(1, 1, 0), [Node(4)], 4),
        (Needs(1, 0.1, 0), [Node(1)], 10),  # ten tenths, though they do not sum to one in floating point
        (Needs(1, 3, 0), [Node(4), Node(4)], 2),  # not the eight thirds of all
        (Needs(1, 1, 0.5), [Node(8, (1.0, 1.0))], 4),
        (Needs(1, 1, 0.6), [Node(8, (1.0, 1.0, 1.0))], 3),  # not five: a worker's part is on one GPU
        (Needs(1, 1, 2), [Node(8, (1.0, 1.0, 1.0))], 1),
        (Needs(1, 1, 1), [Node(8, (1.0, 0.5))], 1),
        (Needs(1, 4, 1), [Node(6, (1.0, 1.0)), Node(8)], 1),  # processors and GPUs on the same node
    ],
)
def test_capacity_is_counted_node_by_node_and_gpu_by_gpu(needs, nodes, number):
    assert capacity(needs, nodes) == number


@pytest.mark.parametrize(
    ("runs", "fits"),
    [
        ([Needs(2, 2, 0), Needs(4, 1, 0)], True),
        ([Needs(2, 3, 0), Needs(2, 1, 0)], True),
        ([Needs(2, 1, 0), Needs(2, 3, 0)], True),  # in whatever order they have begun
        ([Needs(1, 3, 0), Needs(1, 3, 0), Needs(1, 2, 0)], False),  # two processors are left, on two nodes
        ([Needs(2, 1, 0.5), Needs(1, 1, 1)], False),
        ([Needs(1, 1, 0.5), Needs(1, 1, 0.3)], True),
    ],
)
def test_runs_fit_beside_each_other(runs, fits):
    assert fit(runs, [Node(4, (1.0,)), Node(4)]) == fits


class Machine:
    """Runs that note what is executed beside them, and end when they are let."""

    def __init__(self, needs):
        self.needs = needs
        self.lock, self.running, self.begun, self.beside = threading.Lock(), [], [], []
        self.met = {}

    def work(self):
        return [lambda place=place: self.do(place) for place in range(len(self.needs))]

    def do(self, place):
        with self.lock:
            self.running.append(self.needs[place])
            self.begun.append(place)
            self.beside.append(list(self.running))
        if place in self.met:
            self.met[place].wait(10)
        with self.lock:
            self.running.remove(self.needs[place])


def test_a_grid_that_mixes_needs_is_not_limited_by_its_largest_run():
    small, large = Needs(1, 1, 0), Needs(1, 3, 0)
    machine = Machine([small, small, large, small, small, large])
    together = threading.Barrier(4)
    machine.met = {place: together for place in (0, 1, 3, 4)}  # four small ones have to be executed at once
    spread(machine.work(), machine.needs, lambda: [Node(4)])
    assert machine.begun[0] == 2, "the largest begins first"
    assert sorted(machine.begun) == [*range(6)] and not machine.running
    assert [place for place in machine.begun if machine.needs[place] == small] == [0, 1, 3, 4] or not together.broken
    assert all(fit(runs, [Node(4)]) for runs in machine.beside)


def test_a_small_run_goes_beside_a_large_one():
    needs = [Needs(1, 3, 0), Needs(1, 3, 0), Needs(1, 1, 0)]
    machine = Machine(needs)
    machine.met = {0: (both := threading.Barrier(2)), 2: both}
    spread(machine.work(), needs, lambda: [Node(4)])
    assert not both.broken and sorted(machine.begun[:2]) == [0, 2]


def test_runs_beyond_the_capacity_have_no_threads():
    threads = []
    before = threading.active_count()
    spread([lambda: threads.append(threading.active_count())] * 100, [Needs(1, 1, 0)] * 100, lambda: [Node(2)])
    assert len(threads) == 100 and max(threads) <= before + 2


def test_where_nothing_fits_any_more_the_largest_run_waits_for_the_cluster_alone():
    needs = [Needs(1, 1, 0), Needs(2, 1, 0), Needs(1, 1, 0)]
    machine = Machine(needs)
    spread(machine.work(), needs, lambda: [])
    assert machine.begun == [1, 0, 2] and all(len(runs) == 1 for runs in machine.beside)


def test_what_work_raises_is_raised_when_all_have_ended():
    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        spread([fail, lambda: None], [Needs(1, 1, 0)] * 2, lambda: [Node(2)])
