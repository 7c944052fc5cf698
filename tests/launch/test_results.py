"""What an experiment leaves: failures that cannot be missed, objects that say what they are, trained models."""

import os
import pickle
import re
import threading
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional

import basinet
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.cli import main
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.run.folder import Run, load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.setup.build import build_setup

pytestmark = pytest.mark.usefixtures("shared_parts")

TINY = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [6]},
    "topology": {"name": "star", "agents": 4, "policy": "uniform"},  # agents do not count alike
    "strategy": "diffusion",
    "batch_size": 4,
    "steps": 12,
    "replicas": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu"},
}
NAME = "diffusion-atc"


BREAKS = """
import torch

class Breaks(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        self.steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps > 3:  # more than are tried before the run
            raise KeyError("lost")
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    (folder / "basinettest_breaks.py").write_text(BREAKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        with pytest.raises(basinet.RunFailed) as caught:
            basinet.run(**TINY | {"optimizer": ["basinettest_breaks:Breaks", "sgd"]}, out=folder / "out", quiet=True)
        yield caught.value


def carry_out(out, **keys):
    """Carry an experiment out without its report, which takes longer than all else."""
    experiment = basinet.Experiment(TINY | keys)
    stop, setups = threading.Event(), prepare(experiment, out)
    states = simulate(setups, out, TerminalMonitor(len(setups), quiet=True), stop, measure_replica)
    return basinet.Results(out, out / "report.html", states, experiment=experiment)


def test_a_run_that_fails_is_raised_after_the_others(broken):
    bad, good = broken.results.states
    assert broken.results.states == {bad: "failed", good: "done"}
    file = broken.results.folder / bad / "status.json"
    sentence = "optimizer: basinettest_breaks:Breaks raises KeyError: 'lost' "
    assert str(broken).startswith(f"{bad} failed: {sentence}(") and str(broken).endswith(
        f"(traceback in {file}); the same command begins it anew"
    )
    assert "in step" in load_run(file.parent).status["traceback"]
    assert broken.results.report.exists() and repr(broken.results).count("1 done") == 1
    again = pickle.loads(pickle.dumps(basinet.RunFailed(str(broken))))  # as it travels between ranks
    assert str(again) == str(broken)
    assert basinet.load(broken.results.folder).failures == broken.results.failures == (str(broken),)


def test_the_monitor_and_the_command_line_say_why(broken, tmp_path, monkeypatch, capsys):
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.chdir(tmp_path)
    assert main(["run", "e.yaml", "optimizer=basinettest_breaks:Breaks", "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert f"{NAME}: failed: optimizer: " in said and "KeyError: 'lost'" in said and "before" not in said
    assert f"{NAME} failed: optimizer: " in said and f"(traceback in out/{NAME}/status.json)" in said


def test_objects_say_what_they_are(broken):
    results = broken.results
    assert repr(results.experiment).startswith("Experiment(2 runs: diffusion-atc_")
    assert [
        repr(run).endswith(end)
        for run, end in zip(results.runs, (": failed after step 0 of 12)", "done at step 12 of 12)"), strict=True)
    ]
    html = results._repr_html_()
    assert html.count("<tr>") == 4 and "raises KeyError" in html


def test_a_notebook_shows_of_many_runs_the_best_first(monkeypatch):
    rows = [[{"step": 1, "replica": 0, "train_loss": (n % 20 - 3) ** 2 + n / 100}] for n in range(40)]
    configs = [
        {"strategy": ["isolated", "consensus"][n // 20], "optimizer": {"name": "sgd", "lr": 0.5 + n % 20}}
        for n in range(40)
    ]
    status = {"state": "done", "step": 1}
    runs = [Run(f"run-{n}", Path(f"run-{n}"), configs[n], status, rows[n]) for n in range(40)]
    monkeypatch.setattr("basinet.launch.results.load_runs", lambda folder: runs)
    shown, _, folded = basinet.Results(Path(), Path(), {})._repr_html_().partition("<details>")
    assert re.findall(r'<th scope="row">(.*?)</th>', shown) == ["isolated", "consensus"]
    assert shown.count(">optimizer.lr=3.5</td>") == 2 and folded.count("<tr>") == 41


class Everything(nn.Module):
    """Tied weights, frozen ones, running statistics with a counter, and a buffer that no file holds."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(64, 8).requires_grad_(False)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 10)
        self.register_buffer("unsaved", torch.ones(1), persistent=False)

    def forward(self, x):
        x = self.second(torch.tanh(self.first(x.flatten(1))))
        return self.head(self.norm(self.frozen(x)) * self.unsaved)


class Writing(nn.Module):
    """Writes into its inputs."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(x.mul_(0.5).flatten(1))


def measured(model, setup):
    inputs, targets = (t.clone() for t in setup.task.test)
    with torch.no_grad():
        outputs = model(inputs)
    return {
        "test_loss": float(functional.cross_entropy(outputs, targets)),
        "test_accuracy": float((outputs.argmax(1) == targets).double().mean()),
    }


@pytest.mark.parametrize(
    "keys",
    [
        {"model": Everything, "analysis": ["hessian_trace"], "analysis_points": ["centroid", "agents"]},
        {"attack": {"name": "sign_flip", "agents": [1]}},
        {"runtime": {"dtype": "float32", "device": "cpu"}},
        {"model": Writing},
        {"personal": ["*.bias"], "model": {"name": "mlp", "hidden": [6], "norm": "batch"}},
    ],
    ids=["everything", "attack", "float32", "writing", "personal"],
)
def test_an_exported_model_is_what_the_run_has_measured(tmp_path, keys):
    results = carry_out(tmp_path, **{"analysis_samples": 10} | keys)
    (run,) = results.runs
    setup = build_setup(results.experiment.runs[NAME])
    dtype = getattr(torch, run.config["runtime"]["dtype"])
    exact = 1e-12 if dtype == torch.float64 else 1e-5
    last = [row for row in run.metrics if row["step"] == 12]
    if "personal" in keys:
        with pytest.raises(ExperimentError, match=r"agent: agents of .* have personal parameters and so no centroid"):
            results.model(NAME)
        for row in last:
            found = [measured(results.model(run, row["replica"], agent), setup) for agent in range(4)]
            for name in found[0]:
                assert sum(values[name] for values in found) / 4 == pytest.approx(row[name], abs=exact)
        return
    assert len(last) == 2 * (5 if "analysis_points" in keys else 1)
    for row in last:
        agent = row.get("agent", "centroid")
        model = results.model(NAME, row["replica"], agent)
        assert not model.training and not model._forward_pre_hooks and {p.dtype for p in model.parameters()} == {dtype}
        for name, value in measured(model, setup).items():
            assert value == pytest.approx(row[name], abs=exact), name
        state = results.state_dict(NAME, row["replica"], agent)
        plain = setup.template().to(dtype)
        plain.load_state_dict(state)
        assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
        assert all(value.untyped_storage().nbytes() == value.nbytes for value in state.values())
    if keys.get("model") is Everything:
        assert model.first.weight is model.second.weight and state["norm.num_batches_tracked"] == 12


def test_a_folder_is_read_again_and_a_model_written_to_a_file(tmp_path, monkeypatch, capsys):
    results = carry_out(tmp_path / "out", strategy=["diffusion", "isolated"])
    monkeypatch.chdir(tmp_path)
    loaded = basinet.load("out")
    assert loaded.states == results.states and loaded.report == Path("out/report.html")
    wanted = results.state_dict(NAME, 1, 2)
    capsys.readouterr()
    assert main(["export", f"out/{NAME}", "--replica", "1", "--agent", "2", "--out", "model.pt"]) == 0
    assert "model.pt" in capsys.readouterr().err
    for state in (loaded.state_dict(NAME, 1, 2), torch.load("model.pt", weights_only=True)):
        assert state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in wanted)
    for words, sentence in [
        (["out"], f"RUN: out holds several runs; give the folder of one: {NAME}, isolated"),
        ([f"out/{NAME}", "--replica", "2"], f"--replica: got 2, but out/{NAME} has 2 replicas; allowed are 0 to 1"),
        ([f"out/{NAME}", "--replica", "-1"], "--replica: got -1"),
        ([f"out/{NAME}", "--agent", "4"], f"--agent: got 4, but out/{NAME} has 4 agents; allowed: centroid, 0 to 3"),
        ([f"out/{NAME}", "--agent", "centriod"], "did you mean 'centroid'?"),
        (
            [f"out/{NAME}", "--agent", "al"],
            "--agent: got al; allowed: centroid, all, the number of an agent; did you mean 'all'?",
        ),
        (["nowhere"], "nowhere holds no runs"),
    ]:
        assert main(["export", *words, "--out", "no.pt"]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
    assert main(["predict", "out"]) == 2
    assert f"RUN: out holds several runs; give the folder of one: {NAME}, isolated" in capsys.readouterr().err
    assert main(["export", f"out/{NAME}", "--out", "out"]) == 2
    assert "--out: out is a folder" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"out", "model.pt"}
    os.mkfifo("pipe.png")  # it, or a device, would be replaced
    assert main(["export", f"out/{NAME}", "--out", "pipe.png"]) == 2
    assert main(["topology", "ring", "agents=3", "--out", "pipe.png"]) == 2
    assert Path("pipe.png").is_fifo()
    with pytest.raises(ExperimentError, match=r"run: there is no run 'difusion-atc'; .* did you mean"):
        loaded.model("difusion-atc")


def test_objects_from_python_are_not_in_the_folder_but_can_be_given_again(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    results = carry_out(tmp_path, model=module)
    wanted = results.state_dict(NAME, 1)
    loaded = basinet.load(tmp_path)
    with pytest.raises(ExperimentError, match=r"model: .*Sequential was given as an object from Python, .* module=…"):
        loaded.model(NAME)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = loaded.state_dict(NAME, 1, module=module)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    with pytest.raises(ExperimentError, match="module: Linear has parameters of other names or shapes"):
        loaded.model(NAME, module=nn.Linear(64, 10))
    with pytest.raises(ExperimentError, match=r"model: .* records an object that was given from Python"):
        basinet.Experiment.load(tmp_path / "experiment.yaml")
    assert list(basinet.Experiment.load(tmp_path / "experiment.yaml", ["model=mlp"]).runs) == [NAME]
    with pytest.raises(ExperimentError, match="was given as an object from Python"):
        Config.parse(load_run(tmp_path / NAME).config)


def test_a_model_is_made_without_the_data_that_it_was_trained_on(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("a,b,target\n" + "\n".join(f"{n},{n % 3},{n % 2}" for n in range(20)))
    task = {"name": "table", "path": str(data), "target": "target"}
    results = carry_out(tmp_path / "out", task=task, adapters={"name": "lora", "rank": 1})
    wanted = results.state_dict(NAME, 1, 2)
    data.unlink()
    found = basinet.load(tmp_path / "out").state_dict(NAME, 1, 2)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
