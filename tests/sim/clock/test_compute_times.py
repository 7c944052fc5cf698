"""Compute times: their means, what waiting for the slowest costs, and that nothing but the key matters."""

import threading
from dataclasses import replace
from math import comb, erf, exp, gamma
from unittest.mock import Mock

import networkx as nx
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from basinet.launch.finished.retiming import retimed
from basinet.sim.clock import pass_cost
from basinet.sim.clock.compute_times import ComputeTimes
from basinet.sim.clock.laws import (
    LAWS,
    Constant,
    Devices,
    Exponential,
    Lognormal,
    Markov,
    Pareto,
    Trace,
    Uniform,
    Weibull,
)
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import KINDS
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.topologies.timing.max_plus import Arcs

UNIT = 10**9
K = 16
HARMONIC = sum(1 / m for m in range(1, K + 1))


def longest_lognormal(sigma):
    return quad(lambda z: K * norm.pdf(z) * norm.cdf(z) ** (K - 1) * exp(sigma * z - sigma**2 / 2), -10, 20)[0]


BARRIERS = {  # law, mean of the longest of 16
    "constant": (Constant(mean="1 s"), 1.0),
    "uniform": (Uniform(mean="1 s"), 2 * K / (K + 1)),
    "narrow uniform": (Uniform(mean="1 s", width=0.5), 0.5 + K / (K + 1)),
    "exponential": (Exponential(mean="1 s"), HARMONIC),
    "shifted exponential": (Exponential(mean="1 s", floor=0.8), 0.8 + 0.2 * HARMONIC),
    "lognormal": (Lognormal(mean="1 s", sigma=0.5), 2.217882),
    "narrow lognormal": (Lognormal(mean="1 s", sigma=0.3), longest_lognormal(0.3)),
    "pareto": (Pareto(mean="1 s", tail=2.5), 0.6 * gamma(K + 1) * gamma(0.6) / gamma(K + 0.6)),
    "weibull": (
        Weibull(mean="1 s", shape=2),
        sum((-1) ** (j + 1) * comb(K, j) * j**-0.5 for j in range(1, K + 1)),
    ),
    "markov": (
        Markov(mean="1 s", slowdown=4, share=0.1, spell=2),
        (1 + 3 * (1 - 0.9**K)) / 1.3,
    ),
}


def within(found, expected, errors=4.0):
    """Compare a mean of independent values with what is expected."""
    assert abs(found.mean() - expected) <= errors * found.std() / len(found) ** 0.5 + 1e-8


@pytest.mark.parametrize(("law", "longest"), BARRIERS.values(), ids=BARRIERS)
def test_means_and_barriers(law, longest):
    times = ComputeTimes(law, agents=K, replicas=2000, seed=1)
    drawn = np.stack([times(step) for step in range(5)], axis=1) / UNIT  # [R, steps, K]
    within(drawn.mean(axis=(1, 2)), 1.0)
    within(drawn.max(axis=2).mean(axis=1), longest)


def test_closed_forms_agree_with_one_another():
    assert longest_lognormal(0.5) == pytest.approx(2.217882, abs=1e-6)
    pair = quad(lambda z: 2 * norm.pdf(z) * norm.cdf(z) * exp(0.5 * z - 0.125), -10, 20)[0]
    assert pair == pytest.approx(1 + erf(0.25), abs=1e-6)


def test_the_law_of_each_is_its_quantile():
    law = Weibull(mean="1 s", shape=1)
    exponential = Exponential(mean="1 s")
    drawn = [ComputeTimes(each, agents=8)(3) for each in (law, exponential)]
    assert abs(drawn[0] - drawn[1]).max() <= 1  # nanosecond: both are the exponential law


def test_local_steps_average_out():
    times = ComputeTimes(Exponential(mean="1 s"), agents=K, replicas=2000, seed=2)
    total = np.zeros((2000, K))
    for step in range(100):
        total += times(step) / UNIT
        if step + 1 in (1, 10, 100):
            within(total.max(axis=1) / (step + 1), {1: 3.38073, 10: 1.63373, 100: 1.18449}[step + 1])


def waiting(graph):
    links = nx.convert_node_labels_to_integers(graph).to_directed().edges
    senders, receivers = np.array([*links]).T
    return Arcs.of(len(graph), receivers, senders, np.zeros(len(links)))


def rate(law, graph, replicas, steps, overlap=False):
    """Measure the time per step of each replica after half of the steps."""
    arcs, times = waiting(graph), ComputeTimes(law, agents=len(graph), replicas=replicas, seed=3)
    now, half = np.zeros((len(graph), replicas), dtype=np.int64), 0.0
    for step in range(steps):
        ready = now + times(step).T
        now = arcs.latest(now, ready) if overlap else arcs.latest(ready)
        if 2 * (step + 1) == steps:
            half = now.mean(axis=0)
    return (now.mean(axis=0) - half) / (steps / 2) / UNIT


@pytest.mark.parametrize("agents", [2, 3, 5, 10])
def test_a_directed_ring_is_an_exclusion_process(agents):
    ring = nx.cycle_graph(agents, create_using=nx.DiGraph)
    within(rate(Exponential(mean="1 s"), ring, 500, 200), 2 - 1 / agents)


def test_two_agents_that_send_while_they_compute():
    within(rate(Exponential(mean="1 s"), nx.path_graph(2), 1000, 100, overlap=True), 5 / 4)


@pytest.mark.parametrize(
    ("graph", "law", "expected"),
    [
        (nx.cycle_graph(16), Exponential(mean="1 s"), 2.280),
        (nx.grid_2d_graph(4, 4, periodic=True), Exponential(mean="1 s"), 2.724),
        (nx.cycle_graph(16), Lognormal(mean="1 s", sigma=0.3), 1.3686),
        (nx.cycle_graph(16), Exponential(mean="1 s", floor=0.8), 1.2555),
        (nx.cycle_graph(16), Uniform(mean="1 s"), 1.6197),
    ],
)
def test_sparse_graphs_wait_less_than_a_barrier(graph, law, expected):
    # Known to ±.005 from longer runs, which is also the largest standard error here.
    assert rate(law, graph, 200, 400).mean() == pytest.approx(expected, abs=0.01)


def test_a_chain_keeps_its_state_as_long_as_it_says():
    law = Markov(mean="1 s", slowdown=4, share=0.2, spell=5)  # r = .2, p = .05
    times = ComputeTimes(law, agents=10, replicas=500, seed=4)
    slow = np.stack([times(step) > UNIT for step in range(8)]).astype(float)  # [steps, R, K]
    for lag in (0, 1, 3, 7):
        within((slow[0] * slow[lag]).mean(axis=1), 0.2**2 + 0.2 * 0.8 * 0.75**lag)
    assert {*np.unique(times(0))} == {round(UNIT / 1.6), round(4 * UNIT / 1.6)}
    memoryless = ComputeTimes(Markov(mean="1 s", share=0.2, spell=1.25), agents=10, replicas=500)
    pairs = [(memoryless(step) > UNIT) * (memoryless(step + 1) > UNIT) for step in (0, 5)]
    within(np.concatenate([pair.mean(axis=1) for pair in pairs]), 0.2**2)


SOME = {
    "exponential": Exponential(mean="7 ms", factors=(1, 3)),
    "markov": Markov(mean="7 ms", share=0.3, spell=5),
    "lognormal": Lognormal(mean="7 ms"),
}


@pytest.mark.parametrize("law", SOME.values(), ids=SOME)
def test_draws_depend_on_nothing_but_their_key(law):
    forward, back = (ComputeTimes(law, agents=4, replicas=3, seed=9) for _ in range(2))
    expected = [forward(step) for step in range(6)]
    for step in (5, 0, 3, 4, 1):
        assert (back(step) == expected[step]).all()
    assert (ComputeTimes(law, agents=2, replicas=1, seed=9)(5) == expected[5][:1, :2]).all()
    assert not (ComputeTimes(law, agents=4, replicas=3, seed=8)(5) == expected[5]).all()
    series = np.stack([forward(step) for step in range(200)]).reshape(200, -1)
    assert len({tuple(each) for each in series.T}) == 12  # each agent of each replica has its own
    assert len({tuple(each) for each in series}) > 100
    assert (ComputeTimes(law, agents=2, replicas=1, seed=9)(150) == forward(150)[:1, :2]).all()


def test_factors_are_repeated():
    times = ComputeTimes(Constant(mean="1.5 us", factors=(1, 2)), agents=6)(0)
    assert times.tolist() == [[1500, 3000] * 3]
    assert ComputeTimes(Constant(mean="1 ns", factors=(1.6,)), agents=1)(0).tolist() == [[2]]
    with pytest.raises(ValueError, match="factors: got 2 for 5 agents; their number must divide that of agents"):
        ComputeTimes(Constant(mean="1 us", factors=(1, 2)), agents=5)


def test_a_trace_is_repeated(tmp_path):
    file = tmp_path / "times.csv"
    file.write_text("0.5,0.25\n1,0\n1e-9,2\n")
    times = ComputeTimes(Trace(path=str(file)), agents=2, replicas=2)
    assert [times(step)[1].tolist() for step in range(4)] == [
        [UNIT // 2, UNIT // 4],
        [UNIT, 0],
        [1, 2 * UNIT],
        [UNIT // 2, UNIT // 4],
    ]
    with pytest.raises(ValueError, match="has 2 columns, but there are 3 agents"):
        ComputeTimes(Trace(path=str(file)), agents=3)
    file.write_text("0.5,-1\n")
    with pytest.raises(ValueError, match="must hold finite times, none of them negative"):
        ComputeTimes(Trace(path=str(file)), agents=2)
    with pytest.raises(ValueError, match=r"the trace: path is '/none\.csv', which cannot be read"):
        ComputeTimes(Trace(path="/none.csv"), agents=2)


def test_devices_take_three_times_what_they_take_forwards(make_setup, tmp_path):
    file = tmp_path / "devices.csv"
    file.write_text("id,computation,communication\n7,20,5000\n8,0.5,800\n9,150,100\n4,1,9\n5,7,9\n")
    setup = make_setup(compute={"name": "devices", "path": str(file)}, trial=False)  # batches of 5 samples
    each = [3 * 5 * milliseconds * 10**6 for milliseconds in (20, 0.5, 150, 1, 7)]
    times = ComputeTimes(setup.compute, agents=4, replicas=2)
    assert times(0).tolist() == times(9).tolist() == [each[:4]] * 2
    law = Devices(path=str(file), batch_size=5, drawn=True)
    drawn = ComputeTimes(law, agents=16, replicas=500)(0)
    assert (drawn == ComputeTimes(law, agents=16, replicas=500)(3)).all()
    assert (drawn[:2, :3] == ComputeTimes(law, agents=3, replicas=2)(0)).all()
    for value in each:
        within((drawn == value).mean(axis=1), 1 / 5)
    with pytest.raises(ValueError, match="has 5 of them for 6 agents; allowed are as many or more, or drawn: true"):
        ComputeTimes(Devices(path=str(file), batch_size=5), agents=6)
    file.write_text("id,computation\n7,-1\n")
    with pytest.raises(ValueError, match=r"^devices: line 2 of .*: computation: got '-1', but it must be a number"):
        ComputeTimes(law, agents=1)
    file.write_text("id,seconds\n7,1\n")
    with pytest.raises(ValueError, match=r"^devices: the columns of .* are id, seconds, but must be computation"):
        ComputeTimes(law, agents=1)


def test_what_takes_too_long_is_refused():
    times = ComputeTimes(Constant(mean="1000 h", factors=(100.0,)), agents=1)
    with pytest.raises(ValueError, match=r"step 0: a gradient takes 3\.6e\+08 s; at most 104 days can be"):
        times(0)


def test_laws_are_components():
    kind = KINDS["compute"]
    component = kind.parse({"name": "exponential", "mean": "20 ms", "floor": 0.5, "factors": [1, 4]})
    assert component.make() == Exponential(mean="20 ms", floor=0.5, factors=(1, 4))
    assert component.describe()["mean"] == "20 ms"
    assert kind.parse(component.describe()).make() == component.make()
    law = Uniform(mean="1 s")
    assert kind.parse(law).make() is law
    drawn = {"constant", "exponential", "lognormal", "markov", "pareto", "trace", "uniform", "weibull"}
    assert {*LAWS} == drawn | {"devices", "flops", "measured"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "constant", "mean": 20}, "compute.mean: got 20; a time needs a number and a unit, such as 50 us"),
        ({"name": "constant", "mean": "20"}, "compute.mean: got '20'; a time needs a number and a unit"),
        ({"name": "constant", "mean": "20 MB"}, "compute.mean: got '20 MB'; a time is given in one of ns, us"),
        ("constant", "compute.mean: constant needs the setting 'mean'"),
        ({"name": "pareto", "mean": "1 s", "tail": 1}, "compute.tail: got 1, which should be greater than 1"),
        (
            {"name": "constant", "mean": "1 s", "factors": [1, 0]},
            "compute.factors: got 0, which should be greater than 0",
        ),
        ({"name": "flops", "rate": "20 TB/s"}, "compute.rate: got '20 TB/s'; a speed is given in one of FLOP/s"),
        ({"name": "flops", "rate": "0 FLOP/s"}, "compute.rate: got '0 FLOP/s'; a speed must be positive"),
        ({"name": "measured", "mean": "1 s"}, "compute.mean: measured has no setting 'mean'"),
        ({"name": "normal", "mean": "1 s"}, "compute: there is no compute law 'normal'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(given, message):
    with pytest.raises(ExperimentError) as raised:
        KINDS["compute"].parse(given).make()
    assert message in str(raised.value)


def test_operations_of_the_model_take_their_time(make_setup):
    """Of 5 samples: [5, 64] [64, 6] and [5, 6] [6, 10], for the gradient of each weight and of the inner input."""
    law = {"name": "flops", "rate": "1 MFLOP/s", "utilisation": 0.5, "factors": [1, 3]}
    setup = make_setup(compute=law, trial=False)
    operations = 2 * 5 * (2 * (64 * 6 + 6 * 10) + 6 * 10)
    assert setup.compute.flops == operations
    assert ComputeTimes(setup.compute, agents=4)(7).tolist() == [[2000 * operations, 6000 * operations] * 2]
    spread = ComputeTimes(replace(setup.compute, sigma=0.3, factors=(1.0,)), agents=K, replicas=2000)(0)
    within(spread.mean(1) / (2000 * operations), 1.0)
    slow = ComputeTimes(replace(setup.compute, sigma=1e-6), agents=2)(0)[0]
    assert slow[1] / slow[0] == pytest.approx(3, rel=1e-4)
    with pytest.raises(ExperimentError, match=r"^compute: flops counts products .* but point has none$"):
        make_setup(task="quadratic", model="point", compute=law, trial=False)


def test_what_was_measured_is_recorded_and_not_measured_again(make_setup, tmp_path, monkeypatch):
    seconds = iter([0.25, 4.0, 5.0])
    monkeypatch.setattr(pass_cost, "_seconds", lambda setup: next(seconds))
    given = {"task": "quadratic", "model": "point", "topology": {"name": "ring", "agents": 4}, "strategy": "diffusion"}
    given |= {"compute": "measured", "steps": 4, "evaluate_every": 2, "replicas": 1, "analysis": []}

    def go(until):
        setups = prepare(Experiment(given), tmp_path)
        (name,) = setups
        simulate(setups, tmp_path, Mock(advanced=lambda *_: None), threading.Event(), until={name: until})
        return load_run(tmp_path / name)

    assert go(2).status["pass_seconds"] == 0.25
    run = go(4)
    assert run.status["state"] == "done" and run.status["pass_seconds"] == 0.25
    assert [row["simulated_time"] for row in run.metrics] == [0, 0.5, 1]
    (timed,) = retimed(run)
    assert timed.final["simulated_time"].tolist() == [1]


def test_gradients_are_measured(make_setup):
    assert make_setup(compute="measured", trial=False).compute.seconds > 0


def test_a_spell_cannot_be_shorter_than_without_memory():
    with pytest.raises(ExperimentError, match=r"spell: got 1\.2; at least 1 / \(1 − share\) = 2 is needed"):
        KINDS["compute"].parse({"name": "markov", "mean": "1 s", "share": 0.5, "spell": 1.2}).make()
