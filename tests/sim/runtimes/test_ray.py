"""Placement does not change the result: inline, and 1, 2, 3 Ray actors."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import torch
import yaml

from basinet.launch.cli import main
from basinet.sim.evaluation.metric import Metric
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.checkpoints.checkpoint_files import load_checkpoint
from basinet.sim.run.folder import load_run, load_runs
from basinet.sim.run.interruptions import go_on
from basinet.sim.run.listeners import Feeds, Listeners
from basinet.sim.run.monitor import Rhythm
from basinet.sim.run.simulation import Interrupted, prepare, simulate
from basinet.sim.run.trajectory import load_trajectory
from basinet.sim.runtimes.on_ray.run_packing import Needs
from basinet.topologies.cuts import crossing_rows
from tests import same_everywhere
from tests.processes import HANGS

pytestmark = pytest.mark.ray

BASE = {
    "task": {"name": "digits", "partition": "dirichlet"},
    "model": {"name": "mlp", "hidden": [8], "norm": "batch", "dropout": 0.1},
    "topology": {"name": "ring", "agents": 5},
    "strategy": ["centralized", "consensus", "diffusion"],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "batch_size": 4,
    "steps": 20,
    "evaluate_every": 10,
    "replicas": 2,
    "runtime": {"dtype": "float64", "device": "cpu"},
}


class Silent:
    def started(self, *_):
        pass

    advanced = waiting = analyzing = finished = restarted = started


@pytest.fixture(scope="module")
def ray_cluster(ray_folder):
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def carry_out(out: Path, description):
    setups = prepare(Experiment(description), out)
    return simulate(setups, out, Silent(), threading.Event())


def own_optimizer(does):
    """Make SGD that does something before its steps in an actor."""

    class Own(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            import ray

            Own.steps += 1
            if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
                does(Own.steps, self.param_groups[0]["lr"])
            return super().step(closure)

    return Own


TINY = BASE | {
    "strategy": "diffusion",
    "topology": {"name": "ring", "agents": 4},
    "model": {"name": "mlp", "hidden": [4]},
    "steps": 40,
    "evaluate_every": 10,
    "replicas": 1,
    "runtime": BASE["runtime"] | {"name": "ray", "cpus_per_actor": 4, "engine": "loop"},
}
ALWAYS_SAVES = Rhythm(slice=0.0, checkpoint=0.0, first_checkpoint=0.0)


def test_a_run_whose_worker_is_killed_goes_on_alone_and_ends_like_an_unbroken_one(ray_cluster, tmp_path, monkeypatch):
    died = tmp_path / "died"
    said, rows = [], []

    def dies(steps, rate):
        if rate == 0.3 or (rate == 0.2 and steps > 100 and not died.exists()):  # 4 agents: at step 25
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    class Listening(Silent):
        def restarted(self, run, why):
            said.append((run, why))

        def finished(self, run, state):
            said.append((run, state))

    class Logging:
        def log(self, metrics, step):
            rows.append((step, metrics))

        def close(self):
            pass

    monkeypatch.setattr("basinet.sim.run.execution.one_run.RETRIES", 1)
    rates = {"name": own_optimizer(dies), "lr": [0.1, 0.2, 0.3]}
    experiment = Experiment(TINY | {"optimizer": rates, "loggers": [Logging()]})
    setups = prepare(experiment, tmp_path / "out")
    asked = []

    def stops_one(run, step, metrics):
        asked.append((run, step))
        return "0.1" in run and step == 20

    with Feeds(experiment.loggers, tmp_path / "out", several=True) as feeds:
        monitor = Listeners(Listening(), tmp_path / "out", feeds, stops_one)
        states = simulate(setups, tmp_path / "out", monitor, threading.Event(), rhythm=ALWAYS_SAVES)
    (well, broken, hopeless) = setups
    assert states == {well: "done", broken: "done", hopeless: "failed"}

    found = {name: load_run(tmp_path / "out" / name).status for name in setups}
    (again,) = found[broken]["lost_workers"]
    assert 10 < again["step"] <= 26 and "process " in again["reason"] and "died" in again["reason"]
    assert (broken, again["reason"]) in said
    assert "process " in found[hopeless]["error"] and found[hopeless]["error"].endswith("or model")
    assert "given up after 1 retries without progress" in found[hopeless]["error"]
    assert len(found[hopeless]["lost_workers"]) == 1
    assert "lost_workers" not in found[well]

    # What listens in this process hears of all runs, each evaluation once.
    assert found[well]["step"] == 20 and "asked to stop at step 20" in found[well]["stopped"]
    assert {step for run, step in asked if run == broken} == {0, 10, 20, 30, 40}
    logged = [step for step, metrics in rows if any(broken in name for name in metrics)]
    assert logged == [0, 10, 20, 30, 40]

    whole = tmp_path / "whole"  # on actors that are used again, and one of the two runs ends elsewhere
    simulate(prepare(Experiment(TINY | {"optimizer": rates | {"lr": 0.2}}), whole), whole, Silent(), threading.Event())
    (unbroken,) = whole.glob("*/metrics.jsonl")
    assert unbroken.read_bytes() == (tmp_path / "out" / broken / "metrics.jsonl").read_bytes()


def test_an_actor_that_has_hosted_a_run_hosts_the_next_and_computes_what_a_new_one_would(ray_cluster, tmp_path):
    seen, deadly = tmp_path / "seen", tmp_path / "deadly"

    def spoils(steps, rate):
        if deadly.exists() and torch.distributed.get_rank() == 1:
            deadly.unlink()
            os.kill(os.getpid(), signal.SIGKILL)  # which the other actor only knows as a lost connection
        with open(seen, "a") as file:
            file.write(f"{os.getpid()} {rate} {torch.get_default_dtype()}\n")
        if rate == 0.1:
            torch.set_default_dtype(torch.float64)

    def outcome(*rates):
        seen.unlink(missing_ok=True)
        out = tmp_path / "-".join(map(str, rates))
        runtime = TINY["runtime"] | {"actors": 2, "cpus_per_actor": 2}
        changes = {"optimizer": {"name": own_optimizer(spoils), "lr": [*rates]}, "steps": 2, "runtime": runtime}
        setups = prepare(Experiment(TINY | changes), out)
        assert {*simulate(setups, out, Silent(), threading.Event()).values()} == {"done"}
        lines = [line.split() for line in seen.read_text().splitlines()]
        types = {dtype for _, rate, dtype in lines if rate == "0.2"}
        run = load_run(out / [*setups][-1])
        lost = [found["reason"] for found in run.status.get("lost_workers", [])]
        return (run.path / "metrics.jsonl").read_bytes(), types, {process for process, *_ in lines}, lost

    metrics, types, processes, lost = outcome(0.1, 0.2)
    assert len(processes) == 2 and not lost, "both runs have had the same two actors"
    deadly.touch()
    alone, types_alone, others, (died,) = outcome(0.2)
    assert not processes & others, "actors end with the grid"
    assert died.startswith("the Ray actor of process ") and died.endswith(" died")
    assert metrics == alone and types == types_alone == {"torch.float32"}


def test_no_crew_stays_idle_while_another_one_waits_for_room(monkeypatch):
    from basinet.sim.runtimes.on_ray import ray_crews

    class Group:
        """A reservation for which there is room or not."""

        def __init__(self, bundles, strategy):
            self.room = bundles[0]["CPU"] < 4
            groups.append(self)

        def wait(self, seconds):
            return self.room

    groups, removed = [], []
    actor = SimpleNamespace(clean=SimpleNamespace(remote=lambda: None))
    actor.options = lambda **_: SimpleNamespace(remote=lambda homes: actor)
    monkeypatch.setattr(ray_crews, "placement_group", Group)
    monkeypatch.setattr(ray_crews, "remove_placement_group", removed.append)
    monkeypatch.setattr(ray_crews, "PlacementGroupSchedulingStrategy", lambda *_, **__: None)
    fake = SimpleNamespace(remote=lambda **_: lambda kind: actor, get=lambda *_, **__: None, kill=lambda actor: None)
    monkeypatch.setattr(ray_crews, "ray", fake)

    def taken(cpus):
        crew = ray_crews.take(Needs(1, cpus, 0))
        crew.is_placed(0)
        return crew

    with ray_crews.kept_crews():
        first, second = taken(2), taken(2)
        ray_crews.leave(first, clean=True)
        assert taken(2) is first and not removed, "it is used again"
        large = taken(4)
        ray_crews.leave(first, clean=True)
        assert removed == [first.group] and not large.is_placed(0)
        large.group.room = True
        assert large.is_placed(0)
        ray_crews.leave(second, clean=True)
        assert removed == [first.group]
        other = taken(1)
        assert removed == [first.group, second.group], "crews with other needs make room"
        ray_crews.leave(large, clean=False)
        assert removed[2:] == [large.group], "its actors may have something left to do"
        waiting = taken(5)
        ray_crews.leave(waiting, clean=False)  # as on an interruption
        ray_crews.leave(other, clean=True)
        assert removed[2:] == [large.group, waiting.group]
    assert removed[-1] == other.group and {*removed} == {*groups}, "all end with the grid"


@pytest.fixture(scope="module")
def kept_actors(ray_cluster):
    """Let the tests from here on share actors, which those before must not: to start one takes seconds."""
    from basinet.sim.runtimes.on_ray.ray_crews import kept_crews

    with kept_crews():
        yield


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    out = tmp_path_factory.mktemp("inline")
    carry_out(out, BASE)
    return out


def test_the_partitioner_and_shares_make_no_difference_to_the_result(kept_actors, tmp_path):
    ring = nx.empty_graph(9)
    nx.add_cycle(ring, (np.arange(9) * 4 % 9).tolist())  # neighbours are far apart
    owners, found = {}, {}
    for name, shares in ("auto", [4, 3, 2]), ("none", None):
        runtime = BASE["runtime"] | {"name": "ray", "actors": 3, "cpus_per_actor": 0.5, "partitioner": name}
        runtime["shares"] = shares
        one = BASE | {"strategy": "diffusion", "topology": {"name": ring}, "replicas": 1, "steps": 100}
        (setup,) = (setups := prepare(Experiment(one | {"runtime": runtime}), tmp_path / name)).values()
        owners[name] = setup.placement(range(3)).owner
        simulate(setups, tmp_path / name, Silent(), threading.Event())
        (run,) = load_runs(tmp_path / name)
        assert run.status["state"] == "done" and run.metrics[-1]["step"] == 100
        found[name] = run.metrics
    crossing = {name: crossing_rows(setup.sequence, owner) for name, owner in owners.items()}
    assert crossing == {"auto": 6, "none": 12}
    for a, b in zip(*found.values(), strict=True):
        assert a == pytest.approx(b, rel=1e-10, abs=1e-12)


def test_actors_draw_and_measure_what_one_process_does_in_runs_of_all_kinds(kept_actors, tmp_path):
    three = {"name": "ray", "actors": 3, "cpus_per_actor": 0.5}
    for case in same_everywhere.CASES:
        for name, runtime in (("here", {}), ("there", three)):
            same_everywhere.carry_out(case, 8, tmp_path / name / case, **runtime)
        (here, drawn), (there, drawn_there) = (same_everywhere.found(tmp_path / n / case) for n in ("here", "there"))
        assert drawn == drawn_there and len(drawn) >= 8 * same_everywhere.AGENTS, case
        assert same_everywhere.difference(here, there) < 1e-10, case


@pytest.mark.parametrize(("actors", "strategy"), [(3, "diffusion"), (1, "consensus"), (2, "centralized")])
def test_actors_give_the_metrics_of_one_process(actors, strategy, inline, kept_actors, tmp_path):
    runtime = BASE["runtime"] | {"name": "ray", "actors": actors, "cpus_per_actor": 0.5}
    states = carry_out(tmp_path, BASE | {"strategy": strategy, "runtime": runtime})
    assert set(states.values()) == {"done"}
    for there in load_runs(tmp_path):
        here = load_run(inline / there.path.name)
        assert len(here.metrics) == len(there.metrics) == 6
        for a, b in zip(here.metrics, there.metrics, strict=True):
            assert a.keys() == b.keys()
            assert a["communicated_bytes"] == b["communicated_bytes"]
            for key in a:
                assert b[key] == pytest.approx(a[key], rel=1e-10, abs=1e-12), key
        x, y = (
            load_checkpoint(run.path / "checkpoint" / "state.safetensors")["rows"]["parameters"]
            for run in (here, there)
        )
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


def test_a_run_that_does_not_use_its_graph_waits_for_another_one(kept_actors, tmp_path):
    said = []

    class Listening(Silent):
        def finished(self, run, state):
            said.append((run, state))

    runtime = BASE["runtime"] | {"name": "ray", "actors": 2, "cpus_per_actor": 0.5}
    topology = {"name": ["ring", "complete"], "agents": 4}
    experiment = Experiment(BASE | {"strategy": "isolated", "topology": topology, "runtime": runtime, "steps": 10})
    simulate(prepare(experiment, tmp_path), tmp_path, Listening(), threading.Event())
    assert said == [("isolated_name=ring", "done"), ("isolated_name=complete", "done, as isolated_name=ring")]
    ring, complete = load_runs(tmp_path)
    assert ring.metrics == complete.metrics


def test_a_run_begun_inline_is_finished_on_ray(inline, kept_actors, tmp_path):
    one = BASE | {"strategy": "diffusion"}
    stop = threading.Event()

    class Stopping(Silent):
        def advanced(self, run, step, rows):
            if step >= 10:
                stop.set()

    with pytest.raises(Interrupted):
        simulate(prepare(Experiment(one), tmp_path), tmp_path, Stopping(), stop)
    runtime = BASE["runtime"] | {"name": "ray", "actors": 2, "cpus_per_actor": 0.5}
    assert carry_out(tmp_path, one | {"runtime": runtime}) == {"diffusion-atc": "done"}
    a = load_run(inline / "diffusion-atc").metrics[-1]
    b = load_run(tmp_path / "diffusion-atc").metrics[-1]
    assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-10)


def test_a_run_that_starts_from_another_one_ends_when_all_have_escaped_as_it_does_here(kept_actors, tmp_path):
    keys = BASE | {"strategy": "consensus", "topology": {"name": "star", "agents": 3, "policy": "uniform"}, "steps": 6}
    carry_out(tmp_path / "source", keys)
    source = tmp_path / "source" / "consensus"
    keys |= {"start": str(source), "steps": 4, "evaluate_every": 2, "trajectory": "agents"}
    keys |= {"escape": {"name": "risk_above", "level": 1e-9, "stop": True}, "optimizer": {"name": "sgd", "lr": 5.0}}
    for name, runtime in (("here", {}), ("there", {"name": "ray", "actors": 2, "cpus_per_actor": 0.5})):
        carry_out(tmp_path / name, keys | {"runtime": BASE["runtime"] | runtime})
    begun, here, there = (load_run(tmp_path / name / "consensus") for name in ("source", "here", "there"))
    assert there.status["step"] == here.status["step"] == 2
    assert [row.get("escape_step") for row in there.metrics] == [row.get("escape_step") for row in here.metrics]
    # Losses of the order of one, in float64.
    first, last = there.metrics[:2], begun.metrics[-2:]
    assert {row["step"] for row in first} == {0} and {row["step"] for row in last} == {6}
    assert [row["train_loss"] for row in first] == pytest.approx([row["train_loss"] for row in last], rel=1e-12)
    paths = [load_trajectory(run.path).points for run in (here, there)]
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-9, atol=1e-12)


def test_what_does_not_fit_is_refused_with_the_numbers(kept_actors, tmp_path):
    runtime = BASE["runtime"] | {"name": "ray", "actors": 10}
    with pytest.raises(ExperimentError, match=r"runtime.actors: got 10, each with 1 CPUs .* 4 CPUs .*at most 4: lower"):
        carry_out(tmp_path / "out", BASE | {"runtime": runtime})
    assert not (tmp_path / "out").exists()


WAITS = """
import time
from pathlib import Path

import torch


class Waits(torch.optim.SGD):
    def step(self, closure=None):
        while Path("out/diffusion-atc/checkpoint/state.safetensors").exists() and not Path("killed").exists():
            time.sleep(0.01)
        if not Path("killed").exists():
            time.sleep(0.004)  # the first checkpoint comes after two seconds
        return super().step(closure)
"""


@pytest.mark.slow
def test_a_command_that_is_killed_leaves_no_process_and_no_folder_and_goes_on_with_the_same_numbers(
    tmp_path, processes, monkeypatch, no_reports
):
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    (tmp_path / "waits.py").write_text(WAITS)
    runtime = BASE["runtime"] | {"name": "ray", "actors": 2, "cpus_per_actor": 0.25, "engine": "loop"}
    keys = {"strategy": "diffusion", "topology": {"name": "ring", "agents": 4}, "replicas": 1, "analysis": []}
    keys |= {"task": {"name": "quadratic", "curvature": [1.0, 2.0]}, "steps": 500, "evaluate_every": 100}
    keys |= {"optimizer": {"name": "waits:Waits", "lr": 0.01}, "runtime": runtime}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(keys))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    process = processes.start(main, ["run", "e.yaml", "--out", "out"], RAY_TMPDIR=place)
    try:
        state = tmp_path / "out" / "diffusion-atc" / "checkpoint" / "state.safetensors"
        processes.wait_until(state.exists)
        process.kill()
        statuses, said = processes.end()
        assert statuses == [-signal.SIGKILL], said
        processes.wait_until(lambda: not list(Path(place).iterdir()), alive=False)
        processes.wait_until(
            lambda: not subprocess.run(["pgrep", "-f", place], capture_output=True, check=False).stdout, alive=False
        )
    finally:
        process.kill()
        shutil.rmtree(place)
    (tmp_path / "killed").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert 0 < load_run("out/diffusion-atc").status["step"] < 500
    for out in ("out", "whole"):
        assert main(["run", "e.yaml", "runtime.name=inline", "--out", out, "--quiet"]) == 0
    broken, whole = (load_run(f"{out}/diffusion-atc").metrics for out in ("out", "whole"))
    assert [row["step"] for row in broken] == [*range(0, 501, 100)]
    for there, here in zip(broken, whole, strict=True):
        assert there == pytest.approx(here, rel=1e-10, abs=1e-14)


def test_actors_share_the_analysis(kept_actors, tmp_path):
    from basinet.analysis.runs.measure_replica import measure_replica

    keys = {"strategy": "diffusion", "steps": 20, "evaluate_every": 20, "analysis_samples": 100}
    keys |= {"analysis": ["hessian_trace", "hessian_top_eigenvalue", "noise_curvature", "hessian_density"]}
    keys |= {"analysis_points": ["centroid", "agents"], "analysis_views": ["all", "own"], "replicas": 1}
    found = []
    for name, runtime in (("inline", {}), ("ray", {"name": "ray", "actors": 2, "cpus_per_actor": 0.5})):
        experiment = Experiment({**BASE, **keys, "runtime": BASE["runtime"] | runtime})
        out = tmp_path / name
        simulate(prepare(experiment, out), out, Silent(), threading.Event(), measure_replica)
        found.append(load_run(out / "diffusion-atc"))
        assert found[-1].status["state"] == "done", found[-1].status
        assert (out / "diffusion-atc" / "density_own.csv").exists()
    here, there = (run.metrics for run in found)
    assert [row.keys() for row in here] == [row.keys() for row in there]
    for a, b in zip(here, there, strict=True):
        for name in a:
            if not name.endswith("_error"):
                assert b[name] == pytest.approx(a[name], rel=1e-6, abs=1e-9), name


def test_what_fails_in_an_actor_is_the_sentence_that_it_is_here_with_its_traceback(kept_actors, tmp_path):
    class FailsInActors(torch.optim.SGD):
        def step(self, closure=None):
            import ray

            if ray.get_runtime_context().get_actor_id() is not None:
                raise ArithmeticError("too much of it\nand more")
            return super().step(closure)

    runtime = {"name": "ray", "actors": 2, "cpus_per_actor": 0.5}
    changes = {"strategy": "diffusion", "optimizer": FailsInActors, "runtime": runtime}
    (state,) = carry_out(tmp_path, BASE | changes).values()
    status = load_run(tmp_path / "diffusion-atc").status
    assert state == "failed"
    assert status["error"].startswith("optimizer: ") and "FailsInActors" in status["error"]
    assert "raises ArithmeticError: too much of it (" in status["error"] and "test_ray.py:" in status["error"]
    assert "\n" not in status["error"] and 'raise ArithmeticError("too much of it' in status["traceback"]


def test_an_interruption_does_not_wait_for_the_analysis_of_actors(kept_actors, tmp_path):
    stop = threading.Event()

    class Stopping(Silent):
        def analyzing(self, *_):
            threading.Timer(1, stop.set).start()

    def endless(*_):
        threading.Event().wait()

    keys = {"strategy": "diffusion", "steps": 1, "evaluate_every": 1, "replicas": 1, "analysis": ["hessian_trace"]}
    runtime = BASE["runtime"] | {"name": "ray", "actors": 2, "cpus_per_actor": 0.5}
    experiment = Experiment({**BASE, **keys, "runtime": runtime})
    with pytest.raises(Interrupted):
        simulate(prepare(experiment, tmp_path), tmp_path, Stopping(), stop, endless)
    assert load_run(tmp_path / "diffusion-atc").status["state"] == "done"


def test_an_interruption_ends_an_evaluation_of_actors_with_a_checkpoint(kept_actors, tmp_path):
    stop, begun = threading.Event(), tmp_path / "begun"

    class Endless(Metric):
        """It has no end at actors."""

        def reset(self):
            pass

        def update(self, outputs, batch, task):
            import ray

            if not (ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None):
                return  # the trial
            begun.touch()
            deadline = time.monotonic() + HANGS
            while time.monotonic() < deadline:
                go_on()
                time.sleep(0.01)
            raise AssertionError("nobody has said that it is to stop")

        def compute(self):
            return 0.0

    def interrupt():
        while not begun.exists():
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=interrupt, daemon=True).start()
    keys = {"strategy": "diffusion", "steps": 1, "evaluate_every": 1, "replicas": 2, "metrics": [Endless]}
    runtime = BASE["runtime"] | {"name": "ray", "actors": 2, "cpus_per_actor": 0.5}
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        simulate(prepare(Experiment(BASE | keys | {"runtime": runtime}), out), out, Silent(), stop)
    run = load_run(out / "diffusion-atc")
    assert run.status["state"] == "interrupted" and run.status["step"] == 0 and not run.metrics
    assert load_checkpoint(run.path / "checkpoint" / "state.safetensors")["looked"] is False
