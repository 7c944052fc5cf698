"""What a run records of its way: the points themselves, the same bytes after a crash, within its bounds."""

import contextlib
import json
import threading

import numpy as np
import pytest
import torch

from basinet.sim.agents.state import load_vector
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.models.modules import copy_model
from basinet.sim.run import simulation
from basinet.sim.run.folder import load_run
from basinet.sim.run.monitor import Rhythm
from basinet.sim.run.records import METRICS
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.run.trajectory import FILE, load_trajectory

pytestmark = pytest.mark.usefixtures("shared_parts", "untried")

RUN = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [4]},
    "topology": {"name": "star", "agents": 3, "policy": "uniform"},
    "strategy": "consensus",
    "batch_size": 4,
    "steps": 25,
    "evaluate_every": 10,
    "replicas": 2,
    "analysis": [],
    "trajectory": "agents",
    "runtime": {"dtype": "float64", "device": "cpu"},
}
NAME = "consensus"


class Stopping:
    def __init__(self, stop=None, at=None):
        self.stop, self.at = stop, at

    def advanced(self, run, step, rows):
        if self.at is not None and step >= self.at:
            self.stop.set()

    def started(self, *_):
        pass

    waiting = analyzing = finished = started


def carry_out(out, at=None, **changes):
    stop = threading.Event()
    setups = prepare(Experiment(RUN | changes), out)
    with contextlib.suppress(simulation.Interrupted):
        simulate(setups, out, Stopping(stop, at), stop, rhythm=Rhythm(slice=0.0))  # a step at a time
    return out / NAME


def test_it_holds_the_points_of_each_evaluation(tmp_path, make_block):
    found = load_trajectory(carry_out(tmp_path))
    assert found.steps.tolist() == [0, 10, 20, 25]
    block = make_block(**RUN)
    pi = block.setup.honest_weights[0]
    for frame, step in enumerate(found.steps.tolist()):
        block.advance(step)
        agents = block.x.detach().numpy().reshape(2, 3, -1)
        assert (found.points[frame, :, 1:] == agents).all()
        np.testing.assert_allclose(
            found.points[frame, :, 0], np.einsum("k,rkp->rp", pi, agents), rtol=1e-13, atol=1e-15
        )
    alone = load_trajectory(carry_out(tmp_path / "alone", trajectory="centroid"))
    assert (alone.points[:, :, 0] == found.points[:, :, 0]).all() and alone.points.shape[2] == 1


def test_agents_are_measured_at_each_evaluation_if_asked(tmp_path, make_block):
    given = {
        "trajectory": {"metrics": True},
        "topology": {"name": "star", "agents": 3},
        "attack": {"name": "sign_flip", "agents": [2]},
    }
    whole = load_run(carry_out(tmp_path / "whole", **given))
    rows = [row for row in whole.metrics if "agent" in row]
    wanted = [(step, replica, agent) for step in (0, 10, 20, 25) for replica in (0, 1) for agent in (0, 1)]
    assert [(row["step"], row["replica"], row["agent"]) for row in rows] == wanted  # all but the attacker
    block = make_block(**RUN | given)
    task = block.setup.task
    for row in rows:
        block.advance(row["step"])
        loaded = copy_model(block.template)
        load_vector(loaded, block.x[3 * row["replica"] + row["agent"]].detach(), {})
        with torch.no_grad():
            loss = float(task.objective(loaded, task.train))
        assert row["train_loss"] == pytest.approx(loss, rel=1e-12)
    plain = load_run(carry_out(tmp_path / "plain", **given | {"trajectory": None}))
    assert plain.metrics == [row for row in whole.metrics if "agent" not in row]


@pytest.mark.parametrize("at", [0, 4, 10, 14])
def test_a_broken_run_leaves_the_same_bytes(tmp_path, at):
    both = {"trajectory": {"points": "agents", "metrics": True}}
    unbroken = carry_out(tmp_path / "whole", **both)
    whole = (unbroken / FILE).read_bytes()
    broken = carry_out(tmp_path / "broken", at=at, **both)
    # What comes after the checkpoint, a frame and a part of one, is what a killed run leaves behind.
    with open(broken / FILE, "ab") as file:
        file.write(whole[300:1000])
    carry_out(tmp_path / "broken", **both)
    assert (broken / FILE).read_bytes() == whole
    assert (broken / METRICS).read_bytes() == (unbroken / METRICS).read_bytes()


def test_a_file_that_has_lost_frames_is_written_again(tmp_path):
    whole = (carry_out(tmp_path / "whole") / FILE).read_bytes()
    broken = carry_out(tmp_path / "broken", at=20)
    with open(broken / FILE, "r+b") as file:
        file.truncate(400)
    with pytest.raises(ExperimentError, match=r"trajectory\.bin: the file is damaged"):
        load_trajectory(broken)
    assert (carry_out(tmp_path / "broken") / FILE).read_bytes() == whole


@pytest.mark.parametrize(
    "header",
    [
        {"dtype": "|O"},
        {"dtype": "<i8"},
        {"dtype": [["a", "<f8"]]},
        {"shape": [2, -4, 9]},
        {"shape": [2]},
        {"shape": None},
        {"every": 0},
        {"steps": "25"},
    ],
)
def test_a_header_that_describes_no_plain_numbers_is_refused(tmp_path, header):
    described = {"dtype": "<f8", "shape": [2, 4, 9], "every": 10, "steps": 25} | header
    (tmp_path / FILE).write_bytes(json.dumps(described).encode().ljust(255) + b"\n" + bytes(8 * 2 * 4 * 9 * 4))
    with pytest.raises(ExperimentError, match=r"trajectory\.bin: the file is damaged \(line 1: "):
        load_trajectory(tmp_path)


def test_there_is_none_where_none_was_recorded(tmp_path):
    assert load_trajectory(carry_out(tmp_path, trajectory=None)) is None


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        (
            {"points": "agents", "megabytes": 1},
            "trajectory.megabytes: the trajectory would take 76 MiB, and 1 are allowed",
        ),
        ("neighbours", "trajectory.points"),
        ({"megabytes": 0}, "trajectory.megabytes"),
    ],
)
def test_what_cannot_be_is_refused(make_setup, trajectory, message):
    with pytest.raises(ExperimentError, match=message):
        make_setup(**RUN | {"trajectory": trajectory, "steps": 4000, "evaluate_every": 1})
