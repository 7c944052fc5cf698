"""Runs that start where another one has ended, or at values that are given."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from basinet.analysis.runs.measure_again import measure_again
from basinet.analysis.theory.prediction import predict_run
from basinet.launch.api import run
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.checkpoints.tensor_files import TensorFile
from basinet.sim.run.files import sealed_json, write_atomically
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare

pytestmark = pytest.mark.usefixtures("no_reports")

NETWORK = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [5], "norm": "batch"},
    "topology": {"name": "star", "agents": 3, "policy": "uniform"},
    "strategy": "consensus",
    "batch_size": 4,
    "steps": 6,
    "evaluate_every": 3,
    "replicas": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu"},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    out = tmp_path_factory.mktemp("source")
    run(**NETWORK, out=out / "out", quiet=True)
    return out / "out" / "consensus"


def saved(folder):
    return load_checkpoint(folder / "checkpoint" / "state.safetensors")


def losses(folder, step):
    return {row["replica"]: row["train_loss"] for row in load_run(folder).metrics if row["step"] == step}


def test_it_goes_on_from_the_centroid_of_each_replica(source, make_block):
    block = make_block(**NETWORK | {"start": {"run": str(source)}, "seed": 5})
    rows = saved(source)["rows"]
    pi = block.setup.honest_weights[0]  # not uniform on a star
    for replica in range(2):
        mine = slice(3 * replica, 3 * replica + 3)
        wanted = np.einsum("k,kp->p", pi, rows["parameters"][mine].numpy())
        for agent in block.x[mine].detach().numpy():
            np.testing.assert_allclose(agent, wanted, rtol=1e-13, atol=1e-15)
        for name, buffer in block.state.buffers.items():
            mean = np.einsum("k,k...->...", pi, rows["buffers"][name][mine].double().numpy())
            np.testing.assert_allclose(buffer[mine].double(), np.stack([mean] * 3).round(12), rtol=1e-11, atol=1e-12)


def test_all_replicas_can_start_at_one_agent(source, make_block):
    block = make_block(**NETWORK | {"start": {"run": str(source), "replica": 1, "point": 2}, "replicas": 4})
    assert torch.equal(block.x, saved(source)["rows"]["parameters"][5].expand(12, -1))


def test_the_first_evaluation_is_the_last_of_the_source(source, tmp_path):
    """On disk, through the command's own door, with the running statistics of batch normalisation."""
    results = run(**NETWORK | {"start": str(source), "strategy": "diffusion"}, out=tmp_path / "out", quiet=True)
    (found,) = results.runs
    assert losses(found.path, 0) == pytest.approx(losses(source, 6), rel=1e-12)
    assert found.config["start"]["replica"] == "own" and found.config["start"]["point"] == "centroid"


def test_it_goes_on_from_a_state_that_was_kept(tmp_path, make_block):
    kept = run(**NETWORK | {"keep_every": 2}, out=tmp_path / "out", quiet=True).runs[0].path
    block = make_block(**NETWORK | {"start": {"run": str(kept), "step": 2, "point": 0}})
    there = load_checkpoint(kept / "checkpoint" / "step-2.safetensors")["rows"]["parameters"]
    assert torch.equal(block.x, there[[0, 3]].repeat_interleave(3, 0))
    with pytest.raises(ExperimentError, match=r"start.step: got 3, but .* kept 0, 2, 4"):
        make_block(**NETWORK | {"start": {"run": str(kept), "step": 3}})


def test_values_of_ones_own(make_block):
    class Wide(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(64, 10))

    keys = {"model": Wide, "replicas": 2}
    model = Wide().double()
    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    for start in (flat, flat.numpy(), model, model.state_dict()):
        assert torch.equal(make_block(**keys, start=start).x, flat.expand(8, -1))
    several = torch.stack([flat, 2 * flat])
    block = make_block(**keys, start=several)
    assert torch.equal(block.x, several.repeat_interleave(4, 0))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[1].bias[0] += 1e-9
    digests = {Config.parse(base(start=given)).describe()["start"]["digest"] for given in (model, other)}
    assert len(digests) == 2


def base(**keys):
    return NETWORK | {"model": {"name": "mlp", "hidden": [5]}} | keys


def test_the_experiment_is_another_one_where_the_start_has_other_content(source, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(source, copied)
    keys = NETWORK | {"start": {"run": str(copied)}}
    prepare(Experiment(keys), tmp_path / "out")
    prepare(Experiment(keys), tmp_path / "out")
    state = saved(copied)
    state["rows"]["parameters"][0, 0] += 1e-9
    write_atomically(copied / "checkpoint" / "state.safetensors", TensorFile(state))
    with pytest.raises(ExperimentError, match=r"start: .* has changed"):
        prepare(Experiment(keys), tmp_path / "out")


def test_a_finished_run_outlives_where_it_started(source, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(source, copied)
    started = run(**NETWORK | {"start": str(copied)}, out=tmp_path / "out", quiet=True).runs[0]
    shutil.rmtree(copied)
    measure_again(started.path, {"analysis": ["hessian_top_eigenvalue"], "analysis_samples": 20})
    assert len(load_run(started.path).final("hessian_top_eigenvalue")) == 2
    described = yaml.safe_load((started.path / "config.yaml").read_text())
    assert Config.parse(described).describe() == described


def test_theory_does_not_mind_where_a_run_started(tmp_path):
    keys = {
        "task": "quadratic", "topology": {"name": "ring", "agents": 4},
        "strategy": "diffusion", "steps": 50, "replicas": 2, "start": torch.tensor([0.5, -0.5, 1.0]), "analysis": [],
    }  # fmt: skip
    found = run(**keys, out=tmp_path / "out", quiet=True).runs[0]
    assert predict_run(found.path).rows()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"run": "nowhere"}, "start.run: nowhere is not the folder of a run$"),
        ({"run": "{source}/.."}, "start.run: .* is not the folder of a run; its runs are consensus"),
        ({"run": "{source}", "replica": 2}, "start.replica: got 2, but .* has 2 replicas"),
        ({"run": "{source}", "step": 3}, "start.step: got 3, but .* kept only its last state"),
        ({"run": "{source}", "point": 3}, "start.point: got 3, but .* has 3 agents"),
        ({"run": "{source}", "agent": 3}, "start.agent: start has no key 'agent'; allowed: run, replica, point"),
        ({"run": "{source}", "point": "middle"}, "start.point"),
        ({"replica": 0}, "start.run: a value is needed"),
        (3, "start: allowed are the folder of a run"),
        (torch.zeros(7), "start: it has 7 parameters, but the model has 385"),
        (torch.zeros(2, 385), "points for 2 replicas, but the run has 3"),
        ({"layers": torch.zeros(3)}, "start: the state dict does not belong to this model"),
    ],
)
def test_a_start_that_cannot_be_is_refused(source, make_setup, start, message):
    if isinstance(start, dict) and "run" in start:
        start["run"] = start["run"].format(source=source)
    with pytest.raises(ExperimentError, match=message):
        make_setup(**base(start=start, replicas=3))


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [6], "norm": "batch"}, "linear"])
def test_the_model_must_be_the_same(source, make_setup, model):
    with pytest.raises(ExperimentError, match=r"start.run: the model of .* must be the same"):
        make_setup(**NETWORK | {"start": str(source), "model": model})


def test_parameters_alone_do_not_start_a_model_with_running_statistics(make_setup):
    with pytest.raises(ExperimentError, match="the model has buffers"):
        make_setup(**NETWORK | {"start": torch.zeros(395)})


def test_a_run_that_goes_on_is_no_start(source, tmp_path, make_setup):
    copied = tmp_path / "copied"
    shutil.copytree(source, copied)
    status = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(sealed_json(status | {"state": "running"}))
    with pytest.raises(ExperimentError, match="is not finished, but running"):
        make_setup(**NETWORK | {"start": str(copied)})
