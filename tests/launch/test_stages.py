"""Experiments in stages on disk: each starts where the one before has ended, and resumes where it was."""

import json

import pytest
import yaml

import basinet
from basinet.launch.cli import main
from basinet.launch.progress_bar import TerminalMonitor
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import load_run

pytestmark = pytest.mark.usefixtures("shared_parts", "untried")

NAME = "diffusion-atc"
PIPELINE = {
    "task": {"name": "digits", "train_size": 60},
    "model": {"name": "mlp", "hidden": [5]},
    "topology": {"name": "ring", "agents": 3},
    "strategy": ["isolated", "diffusion"],
    "batch_size": 4,
    "replicas": 2,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "loop"},
    "stages": {
        "pretrain": {"steps": 6},
        "finetune": {"steps": 4, "adapters": {"name": "lora", "rank": 1}},
        "head": {"steps": 2, "trained": ["3.*"], "start": {"stage": "pretrain", "replica": 1}},
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("stages") / "out"
    with pytest.MonkeyPatch.context() as patch:  # they take longer than all else
        patch.setattr("basinet.analysis.report.report.write_report", lambda folder: folder / "report.html")
        return out, basinet.run(**PIPELINE, out=out, quiet=True)


def numbers(out):
    """All measurements and states on disk."""
    found = {}
    for run in basinet.load(out).runs:
        rows = load_checkpoint(run.path / "checkpoint" / "state.safetensors")["rows"]
        found[run.name] = run.metrics, rows["parameters"].tolist()
    return found


def losses(run, step):
    return {row["replica"]: row["train_loss"] for row in run.metrics if row["step"] == step}


def test_each_stage_starts_where_another_has_ended(finished, one_figure):
    out, results = finished
    names = [f"{stage}/{run}" for stage in ("1-pretrain", "2-finetune", "3-head") for run in ("isolated", NAME)]
    assert [run.name for run in results.runs] == list(results.states) == names
    assert set(results.states.values()) == {"done"} and basinet.load(out).states == results.states
    runs = {run.name: run for run in results.runs}
    for name in ("isolated", NAME):
        before = losses(runs[f"1-pretrain/{name}"], 6)
        assert losses(runs[f"2-finetune/{name}"], 0) == pytest.approx(before, rel=1e-12)
        assert losses(runs[f"3-head/{name}"], 0) == pytest.approx({0: before[1], 1: before[1]}, rel=1e-12)
    merged = results.model(f"2-finetune/{NAME}", merge=True)
    assert merged.state_dict().keys() == results.state_dict(f"1-pretrain/{NAME}").keys()
    labels = [row["label"] for row in results.summary()]
    assert len(set(labels)) == 6
    assert main(["report", str(out)]) == 0
    page = results.report.read_text()
    for stage in ("1-pretrain", "2-finetune", "3-head"):
        assert f'<a href="{stage}/report.html">' in page and (out / stage / "report.html").exists()


@pytest.fixture
def files(tmp_path, monkeypatch, no_reports):
    monkeypatch.chdir(tmp_path)
    stages = [
        {"steps": 6},
        "finetune.yaml",
        {**PIPELINE["stages"]["head"], "start": {"stage": "1-stage", "replica": 1}},
    ]
    (tmp_path / "finetune.yaml").write_text(yaml.safe_dump(PIPELINE["stages"]["finetune"]))
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(PIPELINE | {"stages": stages}))
    return tmp_path


def test_the_command_resumes_in_the_stage_that_it_was_in(files, finished, monkeypatch, capsys):
    assert main(["run", "p.yaml", "--dry-run"]) == 0 and not (files / "runs").exists()
    said = capsys.readouterr()
    assert "all runs of 2-finetune" in said.out and "start.run=isolated" in said.out
    assert said.err.endswith("6 runs, nothing written\n")
    assert main(["run", "p.yaml", "--dry-run", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["1-stage", "2-finetune", "3-stage"]

    advanced, at = TerminalMonitor.advanced, {"stage": 2}

    def interrupt(monitor, run, step, rows):
        if monitor.stage == at["stage"] and step >= 2:
            raise KeyboardInterrupt
        advanced(monitor, run, step, rows)

    made = []

    def count(monitor, *args, **kwargs):
        made.append(monitor)
        monitor.stage = len(made)
        init(monitor, *args, **kwargs)

    init = TerminalMonitor.__init__
    monkeypatch.setattr(TerminalMonitor, "__init__", count)
    monkeypatch.setattr(TerminalMonitor, "advanced", interrupt)
    assert main(["run", "p.yaml", "--out", "out"]) == 130
    assert (files / "out" / "2-finetune").exists() and not (files / "out" / "3-stage").exists()
    at["stage"] = None
    capsys.readouterr()
    assert main(["run", "p.yaml", "--out", "out"]) == 0
    said = capsys.readouterr().err
    assert f"{NAME}: finished before" in said
    whole = numbers(finished[0])
    for name, wanted in numbers("out").items():
        assert wanted == whole[name.replace("1-stage", "1-pretrain").replace("3-stage", "3-head")], name
    before = (files / "out" / "1-stage" / NAME / "metrics.jsonl").stat().st_mtime_ns
    assert main(["run", "p.yaml", "--out", "out", "2-finetune.steps=1"]) == 2
    capsys.readouterr()
    assert main(["run", "p.yaml", "--out", "out", "finetune.steps=1"]) == 2  # it is another experiment now
    assert "holds another experiment" in capsys.readouterr().err
    assert main(["run", "p.yaml", "--out", "out", "finetune.steps=1", "--fresh", "--quiet"]) == 0
    assert load_run(files / "out" / "2-finetune" / NAME).status["step"] == 1
    assert (files / "out" / "1-stage" / NAME / "metrics.jsonl").stat().st_mtime_ns > before


def test_a_mistake_in_a_later_stage_is_found_before_the_first(files, capsys, tried):
    keys = PIPELINE["stages"] | {"head": {"model": {"name": "mlp", "hidden": [5, 5]}, "steps": 2}}
    for head, sentence in [
        ({"trained": ["9.*"]}, "3-head: trained: no parameter fits '9.*'"),
        ({"start": {"stage": "pretrain"}}, "3-head: start.stage: the model of 1-pretrain/"),
        ({"start": {"stage": "pretrain", "rename": {"3.*": "5.*"}}}, "3-head: start.stage: 1-pretrain/"),
        ({}, "3-head: start.stage: the model of 2-finetune/"),
    ]:
        stages = keys | {"head": keys["head"] | head}
        (files / "p.yaml").write_text(yaml.safe_dump(PIPELINE | {"stages": stages}, sort_keys=False))
        assert main(["run", "p.yaml"]) == 2
        said = capsys.readouterr().err
        assert said.splitlines()[-1].startswith(f"basinet: {sentence}"), said
        assert not (files / "runs").exists()


def test_other_folders_are_left_alone(files, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for fresh in (False, True):
        with pytest.raises(ExperimentError, match=r"--out: .*mine holds something else"):
            basinet.run(**PIPELINE, out=tmp_path / "mine", fresh=fresh, quiet=True)


def test_a_replica_that_has_diverged_is_no_start(tmp_path, no_reports):
    keys = PIPELINE | {
        "runtime": {"dtype": "float32", "device": "cpu"},
        "strategy": "isolated",
        "optimizer": {"name": "sgd", "lr": [0.1, 1e38]},
    }
    keys["stages"] = {"a": {"steps": 20}, "b": {"steps": 2}}
    with pytest.raises(ExperimentError, match=r"start.replica: replica 0 of .*1-a.* has diverged"):
        basinet.run(**keys, out=tmp_path / "out", quiet=True)
    results = basinet.run(**keys, skip="impossible", out=tmp_path / "out", quiet=True)
    assert results.states["2-b/isolated_lr=0.1"] == "done" and "2-b/isolated_lr=1e+38" in results.impossible


def test_a_failure_ends_the_stages(tmp_path, no_reports, monkeypatch):
    (tmp_path / "basinettest_stages.py").write_text(
        "import torch\n\n\nclass Breaks(torch.optim.SGD):\n    steps = 0\n\n"
        "    def step(self, closure=None):\n        Breaks.steps += 1\n"
        "        if Breaks.steps > 40:\n            raise KeyError('lost')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    keys = PIPELINE | {"strategy": "isolated", "stages": [{"steps": 60, "optimizer": "basinettest_stages:Breaks"}, {}]}
    with pytest.raises(
        basinet.RunFailed, match="1-stage has failed runs, so that the stages after it have not begun"
    ) as caught:
        basinet.run(**keys, steps=2, out=tmp_path / "out", quiet=True)
    assert caught.value.results.states == {"1-stage/isolated": "failed"}
