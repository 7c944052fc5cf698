"""Placement does not change the result: inline, and ranks of torch.distributed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

import basinet
from basinet.analysis.report import report
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.launch.cli import main
from basinet.sim.agents import worker
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.execution.usage_record import load_usage
from basinet.sim.run.folder import load_run, load_runs
from basinet.sim.run.interruptions import go_on
from basinet.sim.run.simulation import Interrupted, prepare, simulate
from basinet.sim.runtimes.ranks import Ranks
from basinet.sim.runtimes.team import RankLostError
from basinet.sim.runtimes.torchrun import together
from tests.processes import Processes, free_port

BASE = {
    "task": {"name": "digits", "partition": "dirichlet"},
    "model": {"name": "mlp", "hidden": [8], "norm": "batch", "dropout": 0.1},
    "topology": {"name": "ring", "agents": 5},
    "strategy": ["centralized", "diffusion"],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "groups": [{"match": "*.bias", "lr": 0.05}]},
    "schedule": {"name": "plateau", "patience": 0, "threshold": 0.9},  # falls at step 20
    "clipping": {"norm": 2.0},
    "averaging": {"name": "ema", "decay": 0.9},
    "batch_size": 4,
    "accumulate": 2,
    "steps": 40,
    "evaluate_every": 20,
    "replicas": 2,
    "analysis": ["hessian_trace", "hessian_top_eigenvalue"],
    "analysis_points": ["centroid", "agents"],
    "analysis_samples": 30,
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "stacked"},
}
ONE = BASE | {"strategy": "diffusion"}
ENDLESS = ONE | {"steps": 3_000_000, "evaluate_every": 100}

FAILS = """
import os
import torch


class FailsAtOneRank(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        FailsAtOneRank.steps += 1
        if os.environ["RANK"] == "1" and FailsAtOneRank.steps > 300:
            raise ArithmeticError("too much of it")
        return super().step(closure)
"""


class Stopping:
    """Wants to stop at step 20."""

    def __init__(self, stop=None):
        self.stop = stop

    def advanced(self, run, step, rows):
        if self.stop is not None and step >= 20:
            self.stop.set()

    def started(self, *_):
        pass

    waiting = analyzing = finished = started


def carry_out(out, description):
    return simulate(prepare(Experiment(description), out), out, Stopping(), threading.Event(), measure_replica)


def script():
    """Do on a rank what the script of a user would."""
    runtime = BASE["runtime"] | {"name": "torchrun"}
    rank, said = os.environ["RANK"], {}
    write_report = report.write_report

    def draw_once_the_other_is_let_go(folder):
        deadline = time.monotonic() + 900
        while not Path("let-go").exists():
            assert time.monotonic() < deadline, "rank 1 waits for pictures"
            time.sleep(0.05)
        return write_report(folder)

    def share(out, description, stop=None, analysis=None, evaluate=None):
        def work():
            monitor, event, folder = Stopping(stop), stop or threading.Event(), Path(out)
            setups = prepare(Experiment(description), folder)
            worker.evaluate_with_gradient = evaluate or worker.evaluate_with_gradient
            return simulate(setups, folder, monitor, event, analysis)

        return together(work)

    report.write_report = draw_once_the_other_is_let_go
    results = basinet.run(**BASE | {"runtime": runtime}, out="all", quiet=True)
    if rank == "1":
        Path("let-go").touch()
    said["states"] = results.states
    said["rows"] = len(results.summary())
    share("begun-inline", ONE | {"runtime": runtime}, analysis=measure_replica)
    try:
        basinet.run(
            **ONE | {"runtime": runtime, "replicas": 1, "topology": {"name": "complete", "agents": 1}}, out="no"
        )
    except ExperimentError as error:
        said["mistake"] = str(error)
    try:
        share("begun-on-ranks", ONE | {"runtime": runtime}, threading.Event())
    except Interrupted:
        said["interrupted"] = True

    def endless(*_, **__):
        """An evaluation that has no end, in which one of the ranks is interrupted."""
        print("it has begun", flush=True)
        if rank == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline:
            go_on()
            time.sleep(0.01)
        raise AssertionError("nobody has said that it is to stop")

    if rank == "1":  # which is on another machine, as far as it knows
        worker.evaluate_with_gradient = endless
        Path.is_dir = lambda path, is_dir=Path.is_dir: path.name != "logs" and is_dir(path)
    try:
        share("stopped-within", ONE | {"runtime": runtime}, threading.Event(), evaluate=endless)
    except Interrupted:
        said["interrupted within"] = True
    said["initialized"] = torch.distributed.is_initialized()
    Path(f"said-{rank}.json").write_text(json.dumps(said))


def start_ranks(processes, *words, size=2, target=main):
    """Start ranks without torchrun, so that the status of each can be seen."""
    world = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": 1}
    world |= {"TORCHELASTIC_RUN_ID": "none"}
    given = (words,) if words else ()
    return [processes.start(target, *given, RANK=rank, LOCAL_RANK=rank, **world) for rank in range(size)]


def wait_for(processes, metrics):
    processes.wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 6)


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    out = tmp_path_factory.mktemp("inline")
    carry_out(out, BASE)
    return out


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """The folder in which the script has run on two ranks."""
    folder = tmp_path_factory.mktemp("launched")
    stop = threading.Event()
    out = folder / "begun-inline"
    with pytest.raises(Interrupted):
        simulate(prepare(Experiment(ONE), out), out, Stopping(stop), stop)
    processes = Processes(tmp_path_factory.mktemp("said"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        start_ranks(processes, target=script)
        try:
            statuses, said = processes.end()
        finally:
            processes.kill()
    assert statuses == [0, 0], said
    return folder


def assert_same(here, there):
    assert there.status["state"] == "done", there.status
    assert [row.keys() for row in here.metrics] == [row.keys() for row in there.metrics]
    for a, b in zip(here.metrics, there.metrics, strict=True):
        for key in a:
            estimated = key.startswith("hessian")  # a Krylov space enlarges rounding
            tolerance = {"rel": 1e-6, "abs": 1e-9} if estimated else {"rel": 1e-8, "abs": 1e-10}
            if not key.endswith("_error"):
                assert b[key] == pytest.approx(a[key], **tolerance), key
    x, y = (
        load_checkpoint(run.path / "checkpoint" / "state.safetensors")["rows"]["parameters"] for run in (here, there)
    )
    torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-10)


def test_ranks_give_the_metrics_of_one_process(inline, launched):
    here, there = load_runs(inline), load_runs(launched / "all")
    assert len(here) == 2 and len(here[0].metrics) == 2 * (3 + 5)
    for a, b in zip(here, there, strict=True):
        assert_same(a, b)
        (alone,), both = (load_usage(run.path)["workers"] for run in (a, b))
        assert [worker["rank"] for worker in both] == [0, 1]
        assert all(worker["step_seconds"] > 0 and worker["memory_bytes"] > 2**20 for worker in (alone, *both))


def test_all_ranks_are_told_the_same(launched):
    said = [json.loads((launched / f"said-{rank}.json").read_text()) for rank in range(2)]
    assert said[0] == said[1]
    assert said[0]["states"] == {"centralized": "done", "diffusion-atc": "done"} and said[0]["rows"] == 2
    assert said[0]["interrupted"] and said[0]["interrupted within"] and not said[0]["initialized"]
    within = load_run(launched / "stopped-within" / "diffusion-atc")
    lines = (within.path / "logs" / "worker-1.log").read_text().splitlines()
    assert lines[0].startswith("--- worker 1: process ") and "it has begun" in lines
    assert within.status["state"] == "interrupted" and within.status["step"] == 0 and not within.metrics
    assert load_checkpoint(within.path / "checkpoint" / "state.safetensors")["looked"] is False
    assert said[0]["mistake"] == (
        "runtime.name: torchrun has started 2 ranks; allowed are at most 1, one per agent of each replica"
    )
    assert not (launched / "no").exists()


def test_a_run_begun_inline_is_finished_on_ranks_and_the_other_way_round(inline, launched):
    assert_same(load_run(inline / "diffusion-atc"), load_run(launched / "begun-inline" / "diffusion-atc"))
    begun = load_run(launched / "begun-on-ranks" / "diffusion-atc")
    assert begun.status["state"] == "interrupted" and begun.status["step"] == 20
    carry_out(launched / "begun-on-ranks", ONE)
    assert_same(load_run(inline / "diffusion-atc"), load_run(begun.path))


def test_ranks_analyze_a_finished_run_together(inline, tmp_path, processes, monkeypatch):
    shutil.copytree(inline / "diffusion-atc", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    start_ranks(processes, "analyze", "run", "--only", "hessian_bottom_eigenvalue", "--json")
    statuses, said = processes.end()
    assert statuses == [0, 0], said
    assert said[1] == ("", "") and "hessian_bottom_eigenvalue_mean" in json.loads(said[0][0])[0]


def test_what_fails_at_one_rank_ends_all_with_its_traceback(tmp_path, processes, monkeypatch):
    """Of three ranks, the first and the last wait for the second one alone."""
    (tmp_path / "mine.py").write_text(FAILS)
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(ENDLESS | {"optimizer": "mine:FailsAtOneRank"}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    start_ranks(processes, "run", "../e.yaml", "runtime.name=torchrun", "--out", "../out", size=3)
    statuses, said = processes.end()
    assert statuses == [1, 1, 1]
    place = tmp_path / "mine.py"
    sentence = f"rank 1: optimizer: mine:FailsAtOneRank raises ArithmeticError: too much of it ({place}:"
    assert f"diffusion-atc failed: {sentence}" in said[0][1]
    status = load_run(tmp_path / "out" / "diffusion-atc").status
    assert status["error"].startswith(sentence) and status["state"] == "failed"
    assert "At rank 1" in status["traceback"] and 'raise ArithmeticError("too much of it")' in status["traceback"]


def test_a_mistake_is_said_once_and_every_rank_exits_with_status_2(tmp_path, processes, monkeypatch):
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(BASE))
    monkeypatch.chdir(tmp_path)
    start_ranks(processes, "run", "e.yaml", "strategy=difusion", "runtime.name=torchrun")
    statuses, said = processes.end()
    assert statuses == [2, 2]
    assert said[0][1].startswith("basinet: strategy: there is no strategy 'difusion'") and said[0][1].count("\n") == 1
    assert said[1] == ("", "") and said[0][0] == ""
    assert [path.name for path in tmp_path.iterdir()] == ["e.yaml"]


def test_without_torchrun_the_command_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    Path("e.yaml").write_text(yaml.safe_dump(BASE))
    assert main(["run", "e.yaml", "runtime.name=torchrun"]) == 2
    said = capsys.readouterr().err
    assert "torchrun --standalone --nproc_per_node=2 -m basinet run" in said and said.count("\n") == 1
    assert main(["run", "e.yaml", "runtime.name=torchrun", "--dry-run"]) == 0
    assert [path.name for path in Path().iterdir()] == ["e.yaml"]


@pytest.mark.slow
def test_an_interruption_of_any_rank_stops_all(tmp_path, processes, monkeypatch):
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(ENDLESS))
    run = tmp_path / "out" / "diffusion-atc"
    monkeypatch.chdir(tmp_path)
    ranks = start_ranks(processes, "run", "e.yaml", "runtime.name=torchrun", "--out", "out")
    wait_for(processes, run / "metrics.jsonl")
    ranks[1].terminate()
    statuses, said = processes.end()
    assert statuses == [130, 130], said
    again = "To go on: torchrun --standalone --nproc_per_node=2 -m basinet run e.yaml runtime.name=torchrun --out"
    assert again in said[0][1] and "Traceback" not in said[0][1] and said[1] == ("", "")
    status = load_run(run).status
    assert status["state"] == "interrupted" and (run / "checkpoint" / "state.safetensors").exists()


@pytest.mark.slow
def test_the_death_of_a_rank_ends_all(tmp_path, processes, monkeypatch):
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(ENDLESS))
    run = tmp_path / "out" / "diffusion-atc"
    monkeypatch.chdir(tmp_path)
    ranks = start_ranks(processes, "run", "e.yaml", "runtime.name=torchrun", "--out", "out")
    wait_for(processes, run / "metrics.jsonl")
    ranks[1].kill()
    statuses, said = processes.end()
    assert statuses == [1, -signal.SIGKILL]
    assert "diffusion-atc failed: " in said[0][1] and load_run(run).status["state"] == "failed"
    assert load_run(run).status["goes_on"] is True


@pytest.mark.slow
def test_ranks_whose_launcher_is_killed_stop_with_a_checkpoint_and_leave_no_folder(tmp_path, processes):
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(ENDLESS))
    run, logs = tmp_path / "out" / "diffusion-atc", tmp_path / "logs"
    logs.mkdir()
    words = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "basinet",
        "run",
        "e.yaml",
    ]
    launcher = subprocess.Popen(
        [sys.executable, *words, "runtime.name=torchrun", "--out", "out"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(logs)},
        stderr=subprocess.DEVNULL,
    )
    wait_for(processes, run / "metrics.jsonl")
    launcher.kill()
    launcher.wait()
    processes.wait_until(
        lambda: load_run(run).status["state"] == "interrupted" and not list(logs.glob("torchelastic_*"))
    )
    assert (run / "checkpoint" / "state.safetensors").exists()


def test_errors_of_the_leader_come_as_they_are(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, str(value))

    class Performer:
        left = noted = 0

        def divide(self, a, b):
            return a / b

        def leave(self):
            self.left, self.noted = self.left + 1, ranks.store.add("failures", 0)

    ranks, performer = Ranks(), Performer()
    assert ranks.call(performer, "divide", 1, 2) == [0.5]
    with pytest.raises(TypeError, match="pickle"):
        ranks.call(performer, "divide", threading.Lock(), 1)
    assert ranks.call(performer, "divide", 3, 2) == [1.5]
    with pytest.raises(ZeroDivisionError):
        ranks.call(performer, "divide", 1, 0)
    assert performer.left == performer.noted == 1, "who fails first has left word before the others notice"
    with pytest.raises(RankLostError, match="division by zero"):
        ranks.call(performer, "divide", 1, 2)
