"""Placement does not change the result: inline, and 1, 2, 3 Ray actors."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.folder import load_run, load_runs
from basinet.sim.run.simulation import Interrupted, prepare, simulate
from basinet.sim.run.trajectory import load_trajectory
from tests.processes import HANGS

pytestmark = pytest.mark.ray

BASE = {
    "task": {"name": "digits", "partition": "dirichlet"},
    "model": {"name": "mlp", "hidden": [8], "norm": "batch", "dropout": 0.1},
    "topology": {"name": "ring", "agents": 5},
    "strategy": ["centralized", "consensus", "diffusion"],
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "batch_size": 4,
    "steps": 100,
    "evaluate_every": 50,
    "replicas": 2,
    "runtime": {"dtype": "float64", "device": "cpu"},
}


class Silent:
    def started(self, *_):
        pass

    advanced = waiting = analyzing = finished = started


@pytest.fixture(scope="module")
def ray_cluster(ray_folder):
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def carry_out(out: Path, description):
    setups = prepare(Experiment(description), out)
    return simulate(setups, out, Silent(), threading.Event())


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    out = tmp_path_factory.mktemp("inline")
    carry_out(out, BASE)
    return out


@pytest.mark.parametrize(("actors", "strategy"), [(1, "consensus"), (2, "centralized"), (3, "diffusion")])
def test_actors_give_the_metrics_of_one_process(actors, strategy, inline, ray_cluster, tmp_path):
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
            torch.load(run.path / "checkpoint" / "state.pt", weights_only=True)["rows"]["parameters"]
            for run in (here, there)
        )
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


def test_a_run_that_does_not_use_its_graph_waits_for_another_one(ray_cluster, tmp_path):
    said = []

    class Listening(Silent):
        def finished(self, run, state):
            said.append((run, state))

    runtime = BASE["runtime"] | {"name": "ray", "actors": 1, "cpus_per_actor": 0.5}
    topology = {"name": ["ring", "complete"], "agents": 4}
    experiment = Experiment(BASE | {"strategy": "isolated", "topology": topology, "runtime": runtime, "steps": 10})
    simulate(prepare(experiment, tmp_path), tmp_path, Listening(), threading.Event())
    assert said == [("isolated_name=ring", "done"), ("isolated_name=complete", "done, as isolated_name=ring")]
    ring, complete = load_runs(tmp_path)
    assert ring.metrics == complete.metrics


def test_a_run_begun_inline_is_finished_on_ray(inline, ray_cluster, tmp_path):
    one = BASE | {"strategy": "diffusion"}
    stop = threading.Event()

    class Stopping(Silent):
        def advanced(self, run, step, rows):
            if step >= 50:
                stop.set()

    with pytest.raises(Interrupted):
        simulate(prepare(Experiment(one), tmp_path), tmp_path, Stopping(), stop)
    runtime = BASE["runtime"] | {"name": "ray", "actors": 2, "cpus_per_actor": 0.5}
    assert carry_out(tmp_path, one | {"runtime": runtime}) == {"diffusion-atc": "done"}
    a = load_run(inline / "diffusion-atc").metrics[-1]
    b = load_run(tmp_path / "diffusion-atc").metrics[-1]
    assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-10)


def test_a_run_that_starts_from_another_one_ends_when_all_have_escaped_as_it_does_here(ray_cluster, tmp_path):
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


def test_what_fails_in_an_actor_is_the_sentence_that_it_is_here_with_its_traceback(ray_cluster, tmp_path):
    class FailsInActors(torch.optim.SGD):
        def step(self, closure=None):
            import ray

            if ray.get_runtime_context().get_actor_id() is not None:
                raise ArithmeticError("too much of it\nand more")
            return super().step(closure)

    changes = {"strategy": "diffusion", "optimizer": FailsInActors, "runtime": {"name": "ray", "actors": 2}}
    (state,) = carry_out(tmp_path, BASE | changes).values()
    status = load_run(tmp_path / "diffusion-atc").status
    assert state == "failed"
    assert status["error"].startswith("optimizer: ") and "FailsInActors" in status["error"]
    assert "raises ArithmeticError: too much of it (" in status["error"] and "test_ray.py:" in status["error"]
    assert "\n" not in status["error"] and 'raise ArithmeticError("too much of it' in status["traceback"]


def test_what_does_not_fit_is_refused_with_the_numbers(ray_cluster, tmp_path):
    runtime = BASE["runtime"] | {"name": "ray", "actors": 10}
    with pytest.raises(ExperimentError, match=r"runtime.actors: 10 actors of 1 CPUs .* 4 CPUs .*at most 4"):
        carry_out(tmp_path, BASE | {"runtime": runtime})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_a_run_on_ray_leaves_no_process_and_no_folder(number, tmp_path, processes):

    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    runtime = BASE["runtime"] | {"name": "ray", "actors": 2, "cpus_per_actor": 0.25}
    keys = {"strategy": "diffusion", "steps": 3_000_000, "evaluate_every": 100, "runtime": runtime}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(BASE | keys))
    process = subprocess.Popen(
        [sys.executable, "-m", "basinet", "run", "e.yaml", "analysis=[]", "--out", "out"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": place},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    run = tmp_path / "out" / "diffusion-atc"
    try:
        processes.wait_until(lambda: (run / "metrics.jsonl").exists() and load_run(run).status["step"] > 0)
        if number == signal.SIGTERM:
            os.killpg(process.pid, number)  # as a scheduler does, to all processes
        else:
            process.kill()
        said = process.communicate(timeout=HANGS)[1]
        processes.wait_until(lambda: not list(Path(place).iterdir()))
        processes.wait_until(
            lambda: not subprocess.run(["pgrep", "-f", place], capture_output=True, check=False).stdout
        )
    finally:
        process.kill()
        shutil.rmtree(place)
    if number == signal.SIGTERM:
        assert process.returncode == 130 and "To go on: basinet run e.yaml" in said
        assert load_run(run).status["state"] == "interrupted" and (run / "checkpoint" / "state.pt").exists()


def test_actors_share_the_analysis(ray_cluster, tmp_path):
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


def test_an_interruption_does_not_wait_for_the_analysis_of_actors(ray_cluster, tmp_path):
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
