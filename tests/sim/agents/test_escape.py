"""Escapes: the step at which a replica's centroid first leaves the place where it started."""

import contextlib
import threading

import pytest
import torch

from basinet.analysis.statistics.survival import escape_times
from basinet.launch.api import run
from basinet.sim.agents.state import load_vector
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run import monitor as progress
from basinet.sim.run import simulation

pytestmark = pytest.mark.usefixtures("shared_parts", "no_reports", "untried")

WELLS = {
    "task": {"name": "double_well", "sharp": 2.0, "flat": 2.0, "depth_sharp": 0.25, "depth_flat": 0.25, "noise": 2.0},
    "model": {"name": "point", "start": -1.0},
    "strategy": "consensus",
    "optimizer": {"name": "sgd", "lr": 0.1},
    "batch_size": 1,
    "replicas": 12,
}


def walk(block, steps):
    """Step by step: the centroid of each replica after each step, [steps, R, P]."""
    found = []
    for _ in range(steps):
        block.advance(block.step + 1)
        found.append(block.channel.replicas.centroid(block.x))
    return torch.stack(found)


def first(outside, every=1):
    """The first step at which each replica is outside when looked at, or 0."""
    steps = range(every, len(outside) + 1, every)
    return [next((step for step in steps if outside[step - 1, r]), 0) for r in range(outside.shape[1])]


@pytest.mark.parametrize("every", [1, 7])
def test_the_step_is_the_first_beyond_the_value(make_block, every):
    block = make_block(**WELLS, escape={"name": "passes", "value": -0.5, "every": every})
    path = walk(block, 200)
    steps = block.escape.steps.tolist()
    assert steps == first(path[..., 0] > -0.5, every)
    assert 0 in steps and sum(step > 0 for step in steps) > 2


def test_the_other_side_counts_from_the_other_start(make_block):
    flipped = WELLS | {"model": {"name": "point", "start": 1.0}}
    block = make_block(**flipped, escape={"name": "passes", "value": 0.5})
    path = walk(block, 100)
    assert block.escape.steps.tolist() == first(path[..., 0] < 0.5)


def test_the_risk_is_that_of_the_centroid_above_its_start(make_block):
    keys = {"strategy": "diffusion", "optimizer": {"name": "sgd", "lr": 4.0}, "batch_size": 1, "replicas": 3}
    block = make_block(**keys, escape={"name": "risk_above", "level": 0.4, "every": 3})
    model = block.setup.template().to(block.x)

    def loss(vector):
        with torch.no_grad():
            return float(block.task.objective(load_vector(model, vector, {}), block.task.train))

    start = [loss(c) for c in block.channel.replicas.centroid(block.x)]
    path = walk(block, 30)
    outside = torch.tensor([[loss(c) - s > 0.4 for c, s in zip(now, start, strict=True)] for now in path])
    assert block.escape.steps.tolist() == first(outside, 3)
    assert any(block.escape.steps)


def test_a_resumed_run_remembers(make_block):
    keys = WELLS | {"escape": {"name": "passes", "value": -0.5}}
    whole, begun, resumed = make_block(**keys), make_block(**keys), make_block(**keys)
    whole.advance(120)
    begun.advance(50)
    resumed.load_state_dict(begun.state_dict())
    resumed.advance(120)
    assert torch.equal(resumed.escape.steps, whole.escape.steps)
    assert 0 < int(begun.escape.steps.count_nonzero()) < int(whole.escape.steps.count_nonzero())


def test_a_run_reports_them(tmp_path):
    results = run(
        **WELLS, topology={"name": "ring", "agents": 4}, steps=150, evaluate_every=40, analysis=[], quiet=True,
        escape={"name": "passes", "value": -0.5}, runtime={"device": "cpu", "dtype": "float64"}, out=tmp_path / "out",
    )  # fmt: skip
    (found,) = results.runs
    times, happened = escape_times(found)
    assert 0 < happened.sum() < len(times) == 12
    assert (times[~happened] == 150).all() and (times[happened] <= 150).all()
    for row in found.metrics:  # known from the first evaluation on that follows it
        replica = row["replica"]
        known = happened[replica] and times[replica] <= row["step"]
        assert row.get("escape_step", 0) == (times[replica] if known else 0)
    (summary,) = results.summary()
    assert summary["escaped"] == happened.sum()
    assert summary["escape_time_mean"] == pytest.approx(times.sum() / happened.sum())


def test_what_diverges_has_left(tmp_path):
    results = run(
        task={"name": "quadratic", "curvature": 30.0}, topology={"name": "ring", "agents": 4}, strategy="consensus",
        optimizer={"name": "sgd", "lr": 0.5}, steps=2000, replicas=2, analysis=[], quiet=True,
        escape={"name": "risk_above", "level": 1e30}, runtime={"device": "cpu"}, out=tmp_path / "out",
    )  # fmt: skip
    times, happened = escape_times(results.runs[0])
    assert happened.all() and (times < 100).all()


STOPPED = WELLS | {
    "topology": {"name": "ring", "agents": 4}, "steps": 3000, "evaluate_every": 100, "replicas": 6, "analysis": [],
    "runtime": {"device": "cpu", "dtype": "float64", "engine": "stacked"},
    "escape": {"name": "passes", "value": -0.5, "stop": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that ends when all have escaped."""
    return run(**STOPPED, out=tmp_path_factory.mktemp("stopped") / "out", quiet=True).runs[0]


def test_a_run_can_end_when_all_have_escaped(tmp_path, stopped):
    found = stopped
    assert found.status["state"] == "done" and found.status["steps"] == 3000
    times, happened = escape_times(found)
    assert happened.all() and times.max() <= found.status["step"] < times.max() + 100
    assert found.status["step"] % 100 == 0 and len({row["step"] for row in found.metrics}) > 2
    # Nothing but the end has changed: the times, and so the estimate of survival, are those of a run that goes on.
    going_on = STOPPED | {"escape": {"name": "passes", "value": -0.5}, "steps": found.status["step"]}
    whole = run(**going_on, out=tmp_path / "whole", quiet=True).runs[0]
    assert (escape_times(whole)[0] == times).all()


@pytest.mark.parametrize("at", [0, 150, "last"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, stopped, at):
    last = stopped.status["step"]

    class Stopping(progress.Monitor):
        def advanced(self, run, step, rows):
            if step >= (last if at == "last" else at):
                stop.set()

        def started(self, *_):
            pass

        waiting = analyzing = finished = started

    stop = threading.Event()
    setups = simulation.prepare(Experiment(STOPPED), tmp_path / "broken")
    with contextlib.suppress(simulation.Interrupted):
        simulation.simulate(setups, tmp_path / "broken", Stopping(), stop, rhythm=progress.Rhythm(slice=0.0))
    broken = run(**STOPPED, out=tmp_path / "broken", quiet=True).runs[0]
    assert broken.status["state"] == "done" and broken.status["step"] == last
    assert broken.metrics == stopped.metrics


def nowhere(centroids):
    return centroids


@pytest.mark.parametrize(
    ("escape", "message"),
    [
        ({"name": "passes", "value": 0.0, "coordinate": 5}, "escape: coordinate is 5, but the model has 1 numbers"),
        ({"name": "passes"}, r"escape\.value: passes needs the setting 'value'"),
        ({"name": "risk_above", "level": 0.0}, r"escape\.level"),
        ({"name": nowhere}, "escape: .*nowhere must return whether each replica is outside"),
        ({"name": "leaves"}, "escape: there is no escape 'leaves'; allowed: passes, risk_above"),
        ({"name": "passes", "value": 0.0, "every": 0}, r"escape\.every"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(make_setup, escape, message):
    with pytest.raises(ExperimentError, match=message):
        make_setup(**WELLS, escape=escape)
