"""Runs are packed by what each needs, node by node, and the rest waits."""

import threading
import time

import pytest

from basinet.sim.runtimes.on_ray.run_packing import Needs, Node, capacity, fit, spread
from tests.processes import HANGS


@pytest.mark.parametrize(
    ("needs", "nodes", "number"),
    [
        (Needs(1, 1, 0), [Node(4)], 4),
        (Needs(1, 0.1, 0), [Node(1)], 10),  # ten tenths, though they do not sum to one in floating point
        (Needs(1, 0, 0.05), [Node(1, (1.0,))], 20),
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


def test_parts_of_gpus_are_placed_where_the_least_is_left_over():
    assert fit([Needs(1, 1, part) for part in (0.6, 0.4, 0.4, 0.3, 0.3)], [Node(8, (1.0, 1.0))])


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

    began = []
    with pytest.raises(KeyError, match="mine"):
        spread([fail, lambda: began.append(1)], [Needs(1, 1, 0)] * 2, lambda: [Node(2)])
    assert began == [1]
    with pytest.raises(KeyError, match="mine"):
        spread([fail, lambda: began.append(2)], [Needs(1, 1, 0)] * 2, lambda: [Node(1)])
    assert began == [1], "no other one begins"


def test_a_cluster_that_is_gone_is_an_error_once_the_others_have_ended():
    gone, ended = threading.Event(), []

    def slow():
        gone.wait(10)
        time.sleep(0.05)
        ended.append(1)

    looks = iter([[Node(2)]])

    def nodes():
        try:
            return next(looks)
        except StopIteration:
            gone.set()
            raise ConnectionError("gone") from None

    with pytest.raises(ConnectionError):
        spread([slow, lambda: None, lambda: None], [Needs(1, 1, 0)] * 3, nodes)
    assert ended == [1]


def test_an_interruption_waits_for_no_run():
    begun, never = threading.Event(), threading.Event()

    def hangs():
        begun.set()
        never.wait()

    def nodes():
        if not begun.is_set():
            return [Node(2)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spread([hangs, begun.wait, lambda: None], [Needs(1, 1, 0)] * 3, nodes)
    never.set()


def test_a_thread_that_cannot_be_started_is_an_error_once_the_others_have_ended(monkeypatch):
    begin, ended, raised = threading.Thread.start, [], []

    def start(thread):
        if ended:
            raise RuntimeError("can't start new thread")
        begin(thread)

    def carry_out():
        with pytest.raises(RuntimeError, match="new thread"):
            spread([lambda: ended.append(1)] * 3, [Needs(1, 1, 0)] * 3, lambda: [Node(1)])
        raised.append(True)

    monkeypatch.setattr(threading.Thread, "start", start)
    apart = threading.Thread(target=carry_out, daemon=True)
    begin(apart)
    apart.join(HANGS)
    assert raised and ended == [1]
