"""Runs on disk: resumed ones end like unbroken ones, diverged ones are marked, nothing is overwritten."""

import json
import re
import sys
import threading
from pathlib import Path

import networkx as nx
import pytest
import torch
import yaml

from basinet.algorithms.strategies.baselines.isolated import Isolated
from basinet.analysis.compare.frame_reading import read
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.sim.engines import ENGINES
from basinet.sim.evaluation import measuring
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.execution import twins
from basinet.sim.run.files import Damaged, sealed_json
from basinet.sim.run.folder import RunFolder, load_run, load_runs
from basinet.sim.run.monitor import USUAL, Rhythm
from basinet.sim.run.records import lines_of
from basinet.sim.run.simulation import Interrupted, prepare, simulate
from basinet.sim.runtimes.inline import InlineTeam
from basinet.sim.setup import build as building
from basinet.sim.setup import setup as making
from basinet.sim.setup.build import build_setup
from basinet.sim.setup.sharing import Shared
from basinet.sim.setup.trial import try_parts
from tests.reports import with_trials

pytestmark = pytest.mark.usefixtures("shared_parts")

BASE = {
    "task": "digits",
    "model": {"name": "mlp", "hidden": [6], "norm": "batch", "dropout": 0.2},
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "optimizer": {"name": "adam", "lr": 0.01},
    "batch_size": 5,
    "steps": 40,
    "evaluate_every": 8,
    "replicas": 2,
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "stacked"},
}


class Silent:
    """A monitor that can stop a run at a step."""

    def __init__(self, stop=None, at=None):
        self.stop, self.at, self.engines = stop, at, {}

    def started(self, run, step, num_steps, agents, engine):
        self.engines[run] = engine

    def advanced(self, run, step, rows):
        if self.at is not None and step >= self.at:
            self.stop.set()

    def analyzing(self, run, done, total, what):
        pass

    def finished(self, run, state):
        pass


LOOKS_AT_EVERY_STEP = Rhythm(slice=0.0)
SAVES_AT_EVERY_CHANCE = Rhythm(checkpoint=0.0)


def carry_out(out: Path, at=None, rhythm=USUAL, **changes):
    stop = threading.Event()
    with with_trials(False):
        setups = prepare(Experiment(BASE | changes), out)
    return simulate(setups, out, Silent(stop, at), stop, rhythm=rhythm)


def final_state(folder: Path):
    return load_checkpoint(folder / "checkpoint" / "state.safetensors")


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize("sampling", ["independent", "epochs"])
def test_a_stopped_run_ends_like_an_unbroken_one(tmp_path, sampling):
    carry_out(tmp_path / "whole", rhythm=LOOKS_AT_EVERY_STEP, sampling=sampling)
    for at in (11, 24):  # within an interval between evaluations, and at its end
        with pytest.raises(Interrupted, match=r"stopped after 0 of 1 runs; the progress is in .*broken, and"):
            carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, at=at, sampling=sampling)
        status = load_run(tmp_path / "broken" / "diffusion-atc").status
        assert status["state"] == "interrupted" and at <= status["step"] < 40
    assert carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, sampling=sampling) == {"diffusion-atc": "done"}
    whole, broken = (tmp_path / name / "diffusion-atc" for name in ("whole", "broken"))
    assert_same(final_state(whole), final_state(broken))
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()


def test_a_run_that_pauses_ends_like_an_unbroken_one(tmp_path):
    def go(out, until=None):
        setups = prepare(Experiment(BASE), out)
        end = None if until is None else {"diffusion-atc": until}
        return simulate(setups, out, Silent(), threading.Event(), until=end)["diffusion-atc"]

    assert go(tmp_path / "whole") == "done"
    folder = tmp_path / "parts" / "diffusion-atc"
    for until in (8, 21, 21, 16):  # the last two have nothing to do
        assert go(tmp_path / "parts", until) == "paused"
        status = load_run(folder).status
        assert (status["state"], status["step"]) == ("paused", 8 if until == 8 else 21)
    assert go(tmp_path / "parts", 100) == go(tmp_path / "parts", 8) == "done"
    assert_same(final_state(tmp_path / "whole" / "diffusion-atc"), final_state(folder))
    assert (tmp_path / "whole" / "diffusion-atc" / "metrics.jsonl").read_text() == (
        folder / "metrics.jsonl"
    ).read_text()


def test_a_run_that_is_stopped_where_it_is_to_pause_is_evaluated_there(tmp_path, monkeypatch):
    def go(stop):
        setups = prepare(Experiment(BASE | {"steps": 16}), tmp_path)
        return simulate(setups, tmp_path, Silent(), stop, until={"diffusion-atc": 8})

    stop, advance = threading.Event(), InlineTeam.advance

    def stopped(team, until):
        advance(team, until)
        if until == 8:
            stop.set()

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(InlineTeam, "advance", stopped)
        go(stop)
    run = tmp_path / "diffusion-atc"
    assert load_run(run).status["step"] == 8 and {row["step"] for row in load_run(run).metrics} == {0}
    assert go(threading.Event()) == {"diffusion-atc": "paused"}
    assert load_run(run).status["state"] == "paused" and {row["step"] for row in load_run(run).metrics} == {0, 8}


def test_a_killed_run_repeats_what_its_checkpoint_does_not_hold(tmp_path):
    carry_out(tmp_path / "whole", rhythm=SAVES_AT_EVERY_CHANCE)
    carry_out(tmp_path / "killed", rhythm=SAVES_AT_EVERY_CHANCE, at=None, steps=40)
    run = tmp_path / "killed" / "diffusion-atc"

    # As a process leaves it that dies at step 30: the checkpoint of step 24, later lines, half a line.
    with pytest.raises(Interrupted):
        carry_out(tmp_path / "other", rhythm=SAVES_AT_EVERY_CHANCE, at=24)
    (run / "checkpoint" / "state.safetensors").write_bytes(
        (tmp_path / "other" / "diffusion-atc" / "checkpoint" / "state.safetensors").read_bytes()
    )
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(lines[:-20])
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(sealed_json(status | {"state": "running", "step": 24}))
    carry_out(tmp_path / "killed", rhythm=SAVES_AT_EVERY_CHANCE)
    assert_same(final_state(run), final_state(tmp_path / "whole" / "diffusion-atc"))
    assert (run / "metrics.jsonl").read_text() == lines


def test_a_run_killed_before_its_first_checkpoint_measures_its_start_once(tmp_path):
    carry_out(tmp_path / "whole")
    carry_out(tmp_path / "killed")
    folder = tmp_path / "killed" / "diffusion-atc"
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(sealed_json(status | {"state": "running", "step": 16}))
    next(folder.glob("checkpoint/*")).unlink()
    carry_out(tmp_path / "killed")
    name = "diffusion-atc/metrics.jsonl"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


STATE = "checkpoint/state.safetensors"


class Branching(torch.nn.Linear):
    """A layer that looks at its values, which only the loop can run."""

    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        y = super().forward(x.flatten(1))
        return y if y.sum().item() > 0 else 2 * y


@pytest.mark.parametrize(
    ("state", "lost", "model", "begun", "used"),
    [
        ("running", STATE, "linear", "loop (0.1 ms a step)", "loop (0.1 ms a step)"),
        ("running", STATE, "linear", "vectorized (0.1 ms a step)", "vectorized (0.1 ms a step)"),
        ("done", "metrics.jsonl", "linear", "loop (0.1 ms a step)", "loop (0.1 ms a step)"),
        ("running", STATE, Branching, "stacked (0.1 ms a step)", "loop (not stacked"),
        ("running", STATE, "linear", "renamed (0.1 ms a step)", ""),
    ],
)
def test_a_run_that_begins_again_keeps_its_engine_if_it_can(tmp_path, state, lost, model, begun, used):
    keys = {"model": model, "steps": 4, "replicas": 1, "runtime": BASE["runtime"] | {"engine": "auto"}}
    carry_out(tmp_path, **keys)
    folder = tmp_path / "diffusion-atc"
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(sealed_json(status | {"state": state, "step": 4, "engine": begun}))
    (folder / lost).unlink()
    assert carry_out(tmp_path, **keys) == {"diffusion-atc": "done"}
    engine = load_run(folder).status["engine"]
    assert engine.startswith(used) and engine.split()[0] in ENGINES
    assert final_state(folder)["engine"] == engine.split()[0]


LONG = {"steps": 400}


def go_on_to_be_killed(out):
    """Carry out a run that writes a checkpoint at every chance, and never comes to its end."""

    class Waiting(Silent):
        def advanced(self, run, step, rows):
            if step >= 350:
                threading.Event().wait()

    setups = prepare(Experiment(BASE | LONG), out)
    simulate(setups, out, Waiting(), threading.Event(), rhythm=SAVES_AT_EVERY_CHANCE)


@pytest.mark.slow
def test_a_process_killed_in_its_tracks_is_resumed(tmp_path, processes):
    carry_out(tmp_path / "whole", **LONG)
    run = tmp_path / "killed" / "diffusion-atc"
    process = processes.start(go_on_to_be_killed, tmp_path / "killed")
    metrics = run / "metrics.jsonl"
    saved = run / "checkpoint" / "state.safetensors"
    processes.wait_until(lambda: saved.exists() and len(metrics.read_text().splitlines()) > 30)
    process.kill()
    process.join()
    assert load_run(run).status["state"] == "running"
    carry_out(tmp_path / "killed", **LONG)
    assert_same(final_state(run), final_state(tmp_path / "whole" / "diffusion-atc"))
    whole = (tmp_path / "whole" / "diffusion-atc" / "metrics.jsonl").read_text()
    assert (run / "metrics.jsonl").read_text() == whole


def test_a_finished_run_is_skipped_and_another_experiment_refused(tmp_path):
    carry_out(tmp_path / "e")
    before = final_state(tmp_path / "e" / "diffusion-atc")
    stamp = (tmp_path / "e" / "diffusion-atc" / "checkpoint" / "state.safetensors").stat().st_mtime_ns
    carry_out(tmp_path / "e")
    assert (tmp_path / "e" / "diffusion-atc" / "checkpoint" / "state.safetensors").stat().st_mtime_ns == stamp
    for others, reason in (
        ({"batch_size": 6}, "batch_size is 5, not 6"),
        ({"optimizer": {"name": "adam", "lr": 0.02}}, "optimizer.lr is 0.01, not 0.02"),
        ({"optimizer": "sgd"}, "optimizer is 'adam', not 'sgd'"),
        ({"strategy": "isolated"}, "this one has no run diffusion-atc"),
    ):
        with pytest.raises(ExperimentError, match=rf"holds another experiment \(.*{re.escape(reason)}\)"):
            carry_out(tmp_path / "e", **others)
    assert_same(before, final_state(tmp_path / "e" / "diffusion-atc"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ExperimentError, match="not empty"):
        carry_out(tmp_path / "mine")


def test_a_grid_may_grow_in_its_folder_and_not_shrink(tmp_path):
    small = {"steps": 8, "evaluate_every": 4, "replicas": 1}
    carry_out(tmp_path, strategy=["diffusion"], **small)
    first = tmp_path / "diffusion-atc"
    stamp = (first / "checkpoint" / "state.safetensors").stat().st_mtime_ns
    assert carry_out(tmp_path, strategy=["isolated", "diffusion"], **small) == {
        "isolated": "done",
        "diffusion-atc": "done",
    }
    assert (first / "checkpoint" / "state.safetensors").stat().st_mtime_ns == stamp
    assert [run.name for run in load_runs(tmp_path)] == ["isolated", "diffusion-atc"]
    with pytest.raises(ExperimentError, match="this one has no run isolated"):
        carry_out(tmp_path, strategy=["diffusion"], **small)


def test_only_what_is_left_to_do_is_tried_again(tmp_path, monkeypatch):
    few = {"steps": 8, "strategy": ["diffusion", "consensus"], "analysis": ["hessian_trace"]}
    trials = []

    def trial(setup):
        trials.append(setup.config.strategy.name)
        return try_parts(setup)

    def run():
        trials.clear()
        setups = prepare(Experiment(BASE | few), tmp_path)
        assert set(simulate(setups, tmp_path, Silent(), threading.Event(), measure_replica).values()) == {"done"}
        return [run.metrics for run in load_runs(tmp_path)]

    monkeypatch.setattr("basinet.sim.setup.build.try_parts", trial)
    monkeypatch.setattr("basinet.sim.run.simulation.Shared", Shared)
    first = run()
    assert trials == ["diffusion", "consensus"]
    assert run() == first and trials == []
    (tmp_path / "diffusion-atc" / "analyzed.json").unlink()
    assert run() == first and trials == ["diffusion"]
    metrics = tmp_path / "consensus" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b": 0.", b": 1.", 1))
    assert run() == first and trials == ["consensus"]
    with pytest.raises(ExperimentError, match="--out"):
        prepare(Experiment(BASE | few | {"optimizer": {"name": "adam", "lr": 0.02}}), tmp_path)
    assert trials == ["consensus", "diffusion", "consensus"]


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Write a module beside the experiment, as if for a new process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(scale):
        (tmp_path / "basinettest_beside.py").write_text(
            "import torch\nfrom torch import nn\n\n"
            f"def shrink(x):\n    return {scale} * x\n\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(64, 10)\n\n"
            "    def forward(self, x):\n        return self.layer(shrink(x.flatten(1)))\n"
        )
        sys.modules.pop("basinettest_beside", None)
        return {"model": "basinettest_beside:Net", "steps": 24, "runtime": BASE["runtime"] | {"engine": "loop"}}

    yield write
    sys.modules.pop("basinettest_beside", None)


def test_code_that_has_changed_beside_the_experiment_is_named_and_the_run_not_resumed(tmp_path, beside):
    with pytest.raises(Interrupted):
        carry_out(tmp_path / "e", at=8, **beside(1))
    before = (tmp_path / "e" / "diffusion-atc" / "config.yaml").read_bytes()
    sentence = "^model: basinettest_beside:Net has changed since the run was begun: .* --fresh .* starts anew$"
    with pytest.raises(ExperimentError, match=sentence):
        carry_out(tmp_path / "e", **beside(2))
    assert (tmp_path / "e" / "diffusion-atc" / "config.yaml").read_bytes() == before
    assert carry_out(tmp_path / "e", **beside(1)) == {"diffusion-atc": "done"}
    beside(2)
    with pytest.raises(ExperimentError, match="model: basinettest_beside:Net has changed since the run was begun"):
        Config.parse(load_run(tmp_path / "e" / "diffusion-atc").config)


def test_a_run_whose_code_was_not_recorded_can_be_read_but_not_resumed(tmp_path, beside):
    keys = beside(1)
    with pytest.raises(Interrupted):
        carry_out(tmp_path / "e", at=8, **keys)
    file = tmp_path / "e" / "diffusion-atc" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["model"] = {"name": "basinettest_beside:Net"}  # as earlier versions wrote it
    file.write_text(yaml.safe_dump(config))
    status = file.with_name("status.json")
    known = json.loads(status.read_text())
    status.write_text(json.dumps({key: known[key] for key in known if key not in ("run", "files", "crc32")}))
    assert Config.parse(load_run(file.parent).config).model.name == "basinettest_beside:Net"
    with pytest.raises(
        ExperimentError, match=r"it cannot be determined whether .*: it was recorded by its name only, .* by its source"
    ):
        carry_out(tmp_path / "e", **keys)


def test_fresh_discards_the_runs_and_nothing_else(tmp_path):
    carry_out(tmp_path / "e")
    (tmp_path / "e" / "notes.txt").write_text("keep me")
    prepare(Experiment(BASE | {"batch_size": 6}), tmp_path / "e", fresh=True)
    assert (tmp_path / "e" / "notes.txt").exists()
    assert load_run(tmp_path / "e" / "diffusion-atc").metrics == []


def test_fresh_discards_what_a_crash_left_of_the_preparation(tmp_path):
    carry_out(tmp_path / "e")
    (tmp_path / "e" / "experiment.yaml").unlink()
    prepare(Experiment(BASE), tmp_path / "e", fresh=True)
    assert load_run(tmp_path / "e" / "diffusion-atc").metrics == []
    assert not (tmp_path / "e" / "diffusion-atc" / "checkpoint").exists()


class HeavyBall:
    """Diffusion with a momentum that is mixed, too: a strategy that remembers something of each agent."""

    def __init__(self, beta=0.9):
        self.beta = beta

    def step(self, block):
        m = block.memory.setdefault("momentum", torch.zeros_like(block.x))
        m.mul_(self.beta).add_(block.gradients())
        block.adapt(m)
        block.combine(block.x)
        block.combine(m)


class Forgetful:
    """The same, with its momentum where no checkpoint finds it."""

    def __init__(self):
        self.momentum = 0.0

    def step(self, block):
        self.momentum = 0.9 * self.momentum + block.gradients()
        block.adapt(self.momentum)


class Global:
    """Keeps what is no agent's in the agents' memory."""

    def step(self, block):
        block.memory["count"] = torch.ones(3)
        block.adapt(block.gradients())


def test_what_a_strategy_remembers_survives(tmp_path):
    carry_out(tmp_path / "whole", rhythm=LOOKS_AT_EVERY_STEP, strategy=HeavyBall)
    (run,) = load_runs(tmp_path / "whole")
    with pytest.raises(Interrupted):
        carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, strategy=HeavyBall, at=11)
    carry_out(tmp_path / "broken", rhythm=LOOKS_AT_EVERY_STEP, strategy=HeavyBall)
    assert final_state(run.path)["rows"]["memory"]["momentum"].abs().sum() > 0
    assert_same(final_state(run.path), final_state(tmp_path / "broken" / run.name))


def test_a_strategy_that_would_forget_is_refused(tmp_path):
    for kind, sentence in ((Forgetful, "changes its own attributes"), (Global, "keeps memory..count.. of shape")):
        with pytest.raises(ExperimentError, match=sentence):
            prepare(Experiment(BASE | {"strategy": kind}), tmp_path / kind.__name__)
        assert not (tmp_path / kind.__name__).exists()


def test_a_metric_that_is_not_finite_at_the_end_has_no_final_value(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config({})
    start = [{"step": 0, "replica": 0, "test_loss": 1.0, "train_loss": 1.0}, {"step": 5, "replica": 0}]
    later = [{"step": 5, "replica": 0, "train_loss": 0.5}, {"step": 5, "replica": 0, "agent": 1, "test_loss": 2}]
    folder.write_status(state="running", step=5)
    folder.metrics.append(lines_of([*start, *later]))
    assert load_run(tmp_path).final("test_loss") == {}
    assert load_run(tmp_path).final("train_loss") == {0: 0.5}


def test_frozen_values_are_the_same_wherever_they_are_made(tmp_path):
    def model(input_shape, num_outputs):
        layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.Linear(6, 10))
        layers[1].requires_grad_(False)
        return layers

    keys = BASE | {"model": model, "runtime": BASE["runtime"] | {"engine": "loop"}}
    setups = prepare(Experiment(keys | {"seed": 3}), tmp_path)
    (setup,) = setups.values()
    first, second = setup.template()[1].weight, setup.template()[1].weight
    assert torch.equal(first, second)
    other = next(iter(prepare(Experiment(keys | {"seed": 4}), tmp_path / "o").values()))
    assert not torch.equal(first, other.template()[1].weight)


def test_divergence_stops_that_run_alone_and_is_marked_at_its_step(tmp_path):
    states = carry_out(
        tmp_path / "e",
        model={"name": "mlp", "hidden": [6]},
        optimizer={"name": "sgd", "lr": [0.1, 1e38]},
        runtime=BASE["runtime"] | {"dtype": "float32"},
    )
    assert states == {"diffusion-atc_lr=0.1": "done", "diffusion-atc_lr=1e+38": "diverged"}
    bad = load_run(tmp_path / "e" / "diffusion-atc_lr=1e+38")
    assert bad.status["step"] == 8 < bad.status["steps"]
    assert all(1 <= step <= 8 for step in bad.diverged.values()) and set(bad.diverged) == {0, 1}
    assert [row["step"] for row in bad.metrics] == [0, 0]
    assert load_run(tmp_path / "e" / "diffusion-atc_lr=0.1").metrics[-1]["step"] == 40


def test_an_overflow_in_the_last_step_is_seen(tmp_path):
    changes = {
        "task": "quadratic",
        "model": {"name": "point", "start": 1e10},
        "optimizer": {"name": "sgd", "lr": 1e29},  # the first step leaves float32, and no loss is computed after it
        "runtime": BASE["runtime"] | {"dtype": "float32"},
    }
    assert carry_out(tmp_path, steps=1, **changes) == {"diffusion-atc": "diverged"}
    assert load_run(tmp_path / "diffusion-atc").diverged == {0: 1, 1: 1}


def test_a_failing_run_is_recorded_and_the_others_go_on(tmp_path):
    def fail(setup, state, replica, rank, workers):
        if setup.config.strategy.name == "isolated":
            raise ZeroDivisionError("on purpose")
        return []

    setups = prepare(Experiment(BASE | {"strategy": ["isolated", "diffusion"]}), tmp_path)
    states = simulate(setups, tmp_path, Silent(), threading.Event(), fail)
    assert states == {"isolated": "failed", "diffusion-atc": "done"}
    status = load_run(tmp_path / "isolated").status
    assert status["error"] == "on purpose" and "ZeroDivisionError" in status["traceback"]


def test_a_failure_is_recorded_at_the_step_that_was_reached_and_resumes_from_the_checkpoint(tmp_path):
    begun, saves = [], Rhythm(checkpoint=0.0, first_checkpoint=0.0)
    for fails_at, rhythm in ((8, USUAL), (24, saves), (None, USUAL)):

        def advanced(run, step, rows, fails_at=fails_at):
            if step == fails_at:
                raise OSError("no room")

        monitor = Silent()
        monitor.advanced, monitor.started = advanced, lambda run, step, *_: begun.append(step)
        setups = prepare(Experiment(BASE), tmp_path)
        states = simulate(setups, tmp_path, monitor, threading.Event(), rhythm=rhythm)
        assert states == {"diffusion-atc": "failed" if fails_at else "done"}
        assert load_run(tmp_path / "diffusion-atc").status["step"] == (fails_at or 40)
    assert begun[:2] == [0, 0] and 0 < begun[2] < 24


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(KeyError("a"), "KeyError: 'a'"), (AssertionError(), "AssertionError"), (ValueError("a\n  b"), "a")],
)
def test_an_error_is_recorded_in_one_line(tmp_path, error, sentence):
    def fail(*_):
        raise error

    said = Silent()
    said.finished = lambda run, state: said.engines.update({run: state})
    setups = prepare(Experiment(BASE | {"steps": 1}), tmp_path)
    assert simulate(setups, tmp_path, said, threading.Event(), fail) == {"diffusion-atc": "failed"}
    assert load_run(tmp_path / "diffusion-atc").status["error"] == sentence
    assert said.engines["diffusion-atc"] == f"failed: {sentence}"


def test_another_analysis_is_made_up_for(tmp_path):
    asked = []

    def note(setup, state, replica, rank, workers):
        asked.append((tuple(setup.config.measures), replica))
        return []

    for analysis in (["hessian_trace"], ["hessian_trace"], ["excess_risk"]):
        setups = prepare(Experiment(BASE | {"analysis": analysis, "steps": 8}), tmp_path)
        simulate(setups, tmp_path, Silent(), threading.Event(), note)
    assert asked == [((name,), replica) for name in ("hessian_trace", "excess_risk") for replica in (0, 1)]


def test_nothing_is_written_for_a_mistake(tmp_path):
    with pytest.raises(ExperimentError):
        prepare(Experiment(BASE | {"topology": {"name": "ring", "agents": [4, 5000]}}), tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_impossible_runs_are_left_out_where_that_is_asked(tmp_path):
    grid = {"topology": {"name": ["ring", "hypercube"], "agents": [4, 6]}, "steps": 8}
    with pytest.raises(ExperimentError, match="power of two"):
        carry_out(tmp_path / "e", **grid)
    assert not (tmp_path / "e").exists()
    with pytest.raises(ExperimentError, match=r"skip: none of the 2 runs is possible: .*power of two"):
        carry_out(tmp_path / "e", skip="impossible", topology={"name": "hypercube", "agents": [5, 6]})
    names = [f"diffusion-atc_name={name}_agents={agents}" for name in ("ring", "hypercube") for agents in (4, 6)]
    for _ in range(2):
        states = carry_out(tmp_path / "e", skip="impossible", **grid)
        assert states == dict.fromkeys(names[:3], "done")
    record = yaml.safe_load((tmp_path / "e" / "experiment.yaml").read_text())
    assert record["runs"] == names[:3] and list(record["impossible"]) == names[3:]
    assert "power of two" in record["impossible"][names[3]] and not (tmp_path / "e" / names[3]).exists()
    again = Experiment.load(tmp_path / "e" / "experiment.yaml")
    assert list(again.runs) == names and again.skips_impossible


def test_objects_of_a_grid_are_told_apart_and_known_again(tmp_path):
    def description():
        return {"topology": [nx.cycle_graph(4), nx.star_graph(3)], "steps": 8}

    states = carry_out(tmp_path, **description())
    names = [f"diffusion-atc_topology=Graph-{number}" for number in (1, 2)]
    assert states == dict.fromkeys(names, "done")
    stamps = [(tmp_path / name / "status.json").stat().st_mtime_ns for name in names]
    carry_out(tmp_path, **description())
    assert stamps == [(tmp_path / name / "status.json").stat().st_mtime_ns for name in names]
    with pytest.raises(ExperimentError, match=r"^topology: .* has changed since the run was begun"):
        carry_out(tmp_path, topology=description()["topology"][::-1], steps=8)


GRAPHS = {
    "topology": {"name": ["ring", "star"], "agents": 4, "policy": "lazy"},
    "task": {"name": "digits", "train_size": 60},
    "model": {"name": "mlp", "hidden": [2]},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "steps": 16,
    "keep_every": 8,
    "trajectory": "centroid",
    "analysis": ["stability_limit", "hessian_trace"],
    "runtime": BASE["runtime"] | {"engine": "stacked"},
}


@pytest.fixture
def measured():
    """Carry out runs; count the steps that they take, and note what is measured of them."""
    seen = {"steps": [], "measures": []}

    class Watching(Silent):
        def advanced(self, run, step, rows):
            seen["steps"].append(("star" if "star" in run else "ring", step))

    def measure(setup, *where):
        seen["measures"].append((setup.config.topology.component.name, tuple(setup.config.measures)))
        return measure_replica(setup, *where)

    def train(out, **changes):
        return simulate(prepare(Experiment(BASE | changes), out), out, Watching(), threading.Event(), measure)

    return seen, train


def contents(folder):
    """Collect what a run has left, but for what it knows of its own making."""
    run = load_run(folder)
    tables = {path.name: path.read_text() for path in sorted(folder.glob("*.csv"))}
    places = {(row["step"], row["replica"], row.get("agent")): row for row in run.metrics}
    trajectory = (folder / "trajectory.bin").read_bytes()
    kept = [path.name for path in RunFolder(folder).checkpoints()]
    return run.config, run.status, places, tables, trajectory, kept


@pytest.mark.parametrize("strategy", ["centralized", "isolated", {"name": "local_sgd", "period": 3}])
def test_a_run_that_does_not_use_its_graph_takes_over_what_another_has_found(tmp_path, measured, strategy):
    seen, train = measured
    changes = GRAPHS | {"strategy": strategy}
    assert set(train(tmp_path / "grid", **changes).values()) == {"done"}
    assert {name for name, _ in seen["steps"]} == {"ring"}
    assert {measures for name, measures in seen["measures"] if name == "star"} == {("stability_limit",)}
    alone = GRAPHS["topology"] | {"name": "star"}
    train(tmp_path / "alone", **changes | {"topology": alone})
    (own,) = load_runs(tmp_path / "alone")
    ring, star = load_runs(tmp_path / "grid")
    assert contents(star.path) == contents(own.path)
    assert_same(final_state(star.path), final_state(own.path))
    assert read([tmp_path / "grid"]).samples.tolist() == [*range(ring.config["replicas"])] * 2
    assert (ring.path / "topology.csv").read_text() != (star.path / "topology.csv").read_text()
    limits = [run.final("consensus_stability_limit")[0] for run in (ring, star)]
    assert limits[0] != limits[1]
    # again: nothing is done twice
    seen["measures"].clear()
    train(tmp_path / "grid", **changes)
    assert seen["measures"] == []


@pytest.mark.parametrize("lost", ["status.json", "checkpoint", "metrics.jsonl", "analyzed.json"])
def test_what_is_taken_over_survives_a_crash_on_the_way(tmp_path, measured, lost, monkeypatch):
    seen, train = measured
    changes = GRAPHS | {"strategy": "isolated"}
    write = RunFolder.write

    def crash(folder, path, data):
        if lost in path.parts and "star" in path.parent.as_posix() and (folder.path / "topology.csv").exists():
            raise KeyboardInterrupt
        write(folder, path, data)

    monkeypatch.setattr(RunFolder, "write", crash)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, **changes)
    monkeypatch.setattr(RunFolder, "write", write)
    train(tmp_path, **changes)
    assert {name for name, _ in seen["steps"]} == {"ring"}
    ring, star = load_runs(tmp_path)
    assert star.status == ring.status | {"run": star.status["run"]}
    assert star.final("train_loss") == ring.final("train_loss")
    assert star.final("hessian_trace") == ring.final("hessian_trace")
    assert (star.path / "trajectory.bin").read_bytes() == (ring.path / "trajectory.bin").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "diffusion"},
        {"topology": {"name": "ring", "agents": [3, 4]}},
        {"topology": {"name": ["ring", "star"], "agents": 4, "policy": "uniform"}},  # agents count for other things
        {"seed": [0, 1]},
        {"cases": {"a": {"topology.name": "ring"}, "b": {"topology.name": "star", "batch_size": 3}}},
    ],
)
def test_runs_that_differ_in_more_than_the_graph_are_their_own(changes):
    setups = {
        name: build_setup(config, trial=False)
        for name, config in Experiment(BASE | {"strategy": "isolated"} | GRAPHS | changes).runs.items()
    }
    found = twins.groups(setups)
    assert [name for group in found for name in group] == sorted(setups, key=[n for g in found for n in g].index)
    assert max(map(len, found)) == (2 if changes == {"seed": [0, 1]} else 1)


class Mixing(Isolated):
    def step(self, block):
        super().step(block)
        block.combine(block.x)


def test_a_strategy_of_ones_own_does_not_inherit_that_it_ignores_the_graph():
    for strategy, together in ((Isolated, 2), (Mixing, 1)):
        runs = Experiment(BASE | GRAPHS | {"strategy": strategy()}).runs
        found = twins.groups({name: build_setup(config, trial=False) for name, config in runs.items()})
        assert max(map(len, found)) == together


def test_every_run_of_a_grid_is_checked(tmp_path):
    checked = []
    prepare(Experiment(BASE | {"seed": [0, 1], "steps": 8}), tmp_path, check=lambda setup: checked.append(setup))
    assert [setup.config.seed for setup in checked] == [0, 1]


def test_the_folder_holds_what_the_run_was_made_of(tmp_path):
    carry_out(tmp_path / "e", strategy=["centralized", "isolated"], steps=8)
    assert [run.name for run in load_runs(tmp_path / "e")] == ["centralized", "isolated"]
    run = tmp_path / "e" / "isolated"
    table = (run / "topology.csv").read_text().splitlines()
    assert table[0] == "receiver,sender,weight" and len(table) == 1 + 4 * 3
    counts = [line.split(",") for line in (run / "partition.csv").read_text().splitlines()[1:]]
    assert sum(int(count) for replica, _, _, count in counts if replica == "0") == 1437
    rows = load_run(run).metrics
    assert [(row["step"], row["replica"]) for row in rows] == [(0, 0), (0, 1), (8, 0), (8, 1)]
    assert rows[0]["consensus_distance"] == 0 < rows[2]["consensus_distance"]
    assert rows[2]["epoch"] == pytest.approx(8 * 5 * 4 / 1437)


def test_a_cut_line_is_left_out_but_a_broken_file_is_not_hidden(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config({})
    folder.write_status(state="running", step=1)
    folder.metrics.append(lines_of([{"step": 0, "replica": 0}, {"step": 1, "replica": 0}]))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "rep')
    assert len(load_run(tmp_path).metrics) == 2
    RunFolder(tmp_path).metrics.append(lines_of([{"step": 3, "replica": 0}]))
    assert [row["step"] for row in load_run(tmp_path).metrics] == [0, 1, 3]
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "rep\n{"step": 1, "replica": 0}\n')
    with pytest.raises(Damaged, match=r"metrics\.jsonl: the file is damaged \(line 1: "):
        load_run(tmp_path)


@pytest.mark.parametrize(("where", "step"), [("before", 1), ("after", 2), ("within", 2)])
def test_an_interruption_waits_for_no_evaluation_which_is_made_up_for(where, step, tmp_path, monkeypatch):
    """It comes before the second step, after it, or within its evaluation, which ends with the batch."""
    stop, losses, taking, losing = threading.Event(), [], InlineTeam.advance, measuring._loss

    def advance(team, until):
        taking(team, until)
        if where == "after" and until == 2:
            stop.set()

    def loss(*given):
        losses.append(stop.is_set())
        if where == "within" and sum(losses) == 0 and len(losses) == 5:  # two of each replica before
            stop.set()
        return losing(*given)

    keys = {"task": "quadratic", "topology": {"name": "ring", "agents": 3}, "strategy": "diffusion", "replicas": 2}
    experiment = Experiment(keys | {"steps": 4, "evaluate_every": 1, "keep_every": 2, "trajectory": "centroid"})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    simulate(prepare(experiment, whole), whole, Silent(), threading.Event())
    monitor = Silent(stop, 1 if where == "before" else None)
    setups = prepare(experiment, parts)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(InlineTeam, "advance", advance)
        patch.setattr(measuring, "_loss", loss)
        simulate(setups, parts, monitor, stop)
    assert not any(losses), "nothing is evaluated after the interruption"
    (begun,) = load_runs(parts)
    assert begun.status["step"] == step and begun.metrics[-1]["step"] == 1
    assert load_checkpoint(begun.path / "checkpoint" / "state.safetensors")["step"] == step
    simulate(prepare(experiment, parts), parts, Silent(), threading.Event())
    for a, b in zip(load_runs(whole), load_runs(parts), strict=True):
        assert a.metrics == b.metrics
        assert (a.path / "trajectory.bin").read_bytes() == (b.path / "trajectory.bin").read_bytes()
        names = {path.name for path in (a.path / "checkpoint").iterdir()}
        assert (
            names
            == {path.name for path in (b.path / "checkpoint").iterdir()}
            == {f"{name}.safetensors" for name in ("state", "step-0", "step-2")}
        )


def test_a_grid_sizes_each_of_its_models_once_and_builds_none_for_runs_that_are_finished(tmp_path, monkeypatch):
    monkeypatch.setattr("basinet.sim.run.simulation.Shared", Shared)
    sized, built = [], []
    size, instantiate = building.parameters_of, making.instantiate
    monkeypatch.setattr(building, "parameters_of", lambda *given: (sized.append(1), size(*given))[1])
    monkeypatch.setattr(making, "instantiate", lambda *given: (built.append(1), instantiate(*given))[1])
    keys = {"model": [{"name": "mlp", "hidden": [3]}, {"name": "mlp", "hidden": [4]}], "steps": 1, "analysis": []}
    keys |= {"optimizer": {"name": "sgd", "lr": [0.1, 0.2, 0.3]}}
    assert {*carry_out(tmp_path, **keys).values()} == {"done"} and len(sized) == 2
    built.clear()
    assert {*carry_out(tmp_path, **keys).values()} == {"done"} and len(sized) == 4
    assert len(built) == 2, "to count the parameters of each model"
