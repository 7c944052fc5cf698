"""Machines and processes of a Ray cluster that are lost or hang: the run goes on by itself, with the same numbers."""

import os
import signal
import socket
import threading
import time

import pytest
import torch

from basinet.sim.experiment.experiment import Experiment
from basinet.sim.run.folder import load_run
from basinet.sim.run.monitor import Rhythm
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.runtimes.on_ray import ray_cluster, ray_team
from basinet.sim.runtimes.silence import SILENCE
from tests.processes import HANGS

pytestmark = pytest.mark.ray

RUN = {
    "task": {"name": "quadratic", "curvature": [1.0, 2.0]},
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "steps": 30,
    "evaluate_every": 10,
    "replicas": 1,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "loop"},
}


class Silent:
    def started(self, *_):
        pass

    advanced = waiting = analyzing = finished = restarted = started


@pytest.fixture
def cluster(ray_folder):
    """A cluster whose head has no room for actors, and what adds a machine that has."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(made.address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    made.add = lambda: made.add_node(num_cpus=1, include_dashboard=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_run_survives_a_worker_that_hangs_and_the_loss_of_its_machine(cluster, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(SILENCE, "30")
    monkeypatch.setattr(ray_team, "_TELL_SECONDS", (1.0, 1.0))
    ray_cluster._say_less()
    node = cluster.add()
    stopped, worker = tmp_path / "stopped", tmp_path / "worker"

    class HangsOnce(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            import ray

            in_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
            HangsOnce.steps += 1
            if in_actor:
                worker.write_text(str(os.getpid()))
            if HangsOnce.steps > 40 and in_actor and not stopped.exists():
                stopped.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGSTOP)
            return super().step(closure)

    said = []

    class Watching(Silent):
        lost = False
        short = threading.Event()

        def advanced(self, run, step, rows):
            if step == 20 and not self.lost:
                self.lost = True
                cluster.remove_node(node, allow_graceful=False)
                while os.path.exists(f"/proc/{worker.read_text()}"):  # which could end the run before it is ended
                    time.sleep(0.1)

        def restarted(self, run, why):
            said.append(why)
            monkeypatch.setenv(SILENCE, "900")  # the next ones are to live, however slow

        def waiting(self, run, what):
            if self.lost and what == "the Ray cluster: 1 CPUs, of which 0 are free":
                self.short.set()

    def carry_out(out, monitor, **runtime):
        changes = {"optimizer": {"name": HangsOnce, "lr": 0.1}, "runtime": RUN["runtime"] | runtime}
        always = Rhythm(slice=0.0, checkpoint=0.0, first_checkpoint=0.0)
        setups = prepare(Experiment(RUN | changes), out)
        assert {*simulate(setups, out, monitor, threading.Event(), rhythm=always).values()} == {"done"}
        return load_run(out / "diffusion-atc")

    watching = Watching()
    run = threading.Thread(target=carry_out, args=(tmp_path / "there", watching), kwargs={"name": "ray"}, daemon=True)
    run.start()
    while not watching.short.wait(1.0):
        assert run.is_alive(), "the loss went unnoticed"
    cluster.add()  # for which Ray needs this thread
    run.join(HANGS)
    there = load_run(tmp_path / "there" / "diffusion-atc")
    process = stopped.read_text()
    assert said[0] == f"worker 0 (process {process} on {socket.gethostname()}) has not answered for 30 s"
    assert not os.path.exists(f"/proc/{process}"), "it is ended"
    assert len(said) == 2 and said[1].startswith(("worker 0 (process ", "the Ray actor of process "))
    assert [lost["reason"] for lost in there.status["lost_workers"]] == said
    here = carry_out(tmp_path / "here", Silent())
    assert here.metrics == there.metrics
    assert capfd.readouterr().out == "", "what Ray says of it is no result"
