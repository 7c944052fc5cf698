"""Compare where runs are executed: in one process, on two ranks, by three Ray actors, by five on two machines.

`python -m tests.same_everywhere [STEPS]` prints, for each kind of run in float64, the largest relative difference in
the metrics, and whether all agents have drawn the same samples. A run that four actors have begun ends in one process
and with three actors.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from basinet.sim.experiment.experiment import Experiment
from basinet.sim.models.mlp import MLP
from basinet.sim.run.folder import load_run
from basinet.sim.run.simulation import prepare, simulate
from basinet.sim.runtimes.torchrun import together
from tests.processes import Processes, free_port

BASE: dict[str, Any] = {
    "task": {"name": "digits", "train_size": 200, "partition": {"name": "dirichlet", "alpha": 0.5}},
    "strategy": "diffusion",
    "optimizer": {"name": "sgd", "lr": 0.05},
    "batch_size": 4,
    "replicas": 1,
    "analysis": [],
}
CASES: dict[str, dict[str, Any]] = {
    "ring": {},
    "exponential": {"topology": {"name": "exponential", "policy": "uniform"}},
    "digraph": {"strategy": "push_sum", "topology": {"name": "exponential", "policy": "push"}},
    "sequence": {"topology": {"name": "one_peer_exponential"}},
    "momentum": {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}, "optimizer_state": "mix"},
    "compression": {"strategy": {"name": "choco", "compressor": "qsgd"}},
    "attack": {"strategy": {"name": "robust", "rule": "median"}, "attack": {"name": "gaussian", "share": 0.2}},
    "personal": {"personal": ["*bias"]},
    "events": {
        "strategy": {"name": "gossip", "averages": 2},
        "compute": {"name": "exponential", "mean": "1 ms"},
        "network": {"name": "uniform", "latency": "300 us", "bandwidth": "10 MB/s"},
    },
}
AGENTS = 10
ACTORS = {"three actors": 3, "five actors on two machines": 5}


def noting(folder: Path) -> type[MLP]:
    """Make a model that notes what it is trained on: a file per process, a line for an agent's samples in a step."""

    class Noting(MLP):
        def forward(self, x: Any) -> Any:
            if self.training:
                with open(folder / str(os.getpid()), "a", encoding="utf-8") as file:
                    file.write(f"{hashlib.sha256(x.detach().numpy().tobytes()).hexdigest()}\n")
            return super().forward(x)

    return Noting


class _Silent:
    def started(self, *_: object) -> None:
        pass

    advanced = waiting = analyzing = finished = restarted = started


def carry_out(case: str, steps: int, out: Path, until: int | None = None, **runtime: Any) -> None:
    """Execute a run, or a part of it."""
    drawn = out.with_name(f"{out.name}-drawn")
    drawn.mkdir(parents=True, exist_ok=True)
    keys = BASE | CASES[case] | {"steps": steps, "evaluate_every": max(1, steps // 4)}
    keys["topology"] = {"name": "ring", **keys.get("topology", {}), "agents": AGENTS}
    keys["model"] = {"name": noting(drawn), "hidden": [4], "activation": "tanh"}
    keys["runtime"] = {"dtype": "float64", "device": "cpu", "engine": "loop", **runtime}
    experiment = Experiment(keys)
    setups = prepare(experiment, out)
    paused = None if until is None else dict.fromkeys(setups, until)
    states = simulate(setups, out, _Silent(), threading.Event(), until=paused)
    assert {*states.values()} == {"done" if until is None else "paused"}, [load_run(out / n).status for n in setups]


def found(out: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """Return what a run has measured, and what it has been trained on."""
    (path,) = out.glob("*/metrics.jsonl")
    files = out.with_name(f"{out.name}-drawn").iterdir()
    return load_run(path.parent).metrics, {line for file in files for line in file.read_text().splitlines()}


def difference(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    """Return the largest relative difference in the metrics; the bytes of the simulated network must be the same."""
    assert [row.keys() for row in one] == [row.keys() for row in other]
    assert [row["communicated_bytes"] for row in one] == [row["communicated_bytes"] for row in other]
    pairs = [(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in a]
    return max(abs(a - b) / max(abs(a), 1e-3) for a, b in pairs)


def on_ranks(folder: Path, cases: list[str], steps: int) -> None:
    """Execute runs on this rank, together with the others."""
    together(lambda: [carry_out(case, steps, folder / case, name="torchrun") for case in cases])


@contextmanager
def ranks(processes: Processes, *words: Any, size: int = 2) -> Iterator[None]:
    """Execute runs on ranks, beside what is done within this context."""
    world = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for rank in range(size):
        processes.start(on_ranks, *words, RANK=rank, LOCAL_RANK=rank, **world)
    yield
    statuses, said = processes.end()
    assert not any(statuses), said


@contextmanager
def two_machines() -> Iterator[None]:
    """Start a Ray cluster of two nodes on this machine, the first with room for three actors, the second for two."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    try:
        made.add_node(num_cpus=2, include_dashboard=False)
        ray.init(made.address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        made.shutdown()


def main() -> None:
    """Compare everything."""
    from basinet.sim.runtimes.on_ray.ray_crews import kept_crews

    steps, place = int(sys.argv[1]) if len(sys.argv) > 1 else 100, Path(tempfile.mkdtemp(prefix="ray-"))
    os.environ["RAY_TMPDIR"] = str(place)
    (place / "said").mkdir()
    processes = Processes(place / "said")
    alone = place / "alone"

    def compare(name: str, case: str, out: Path) -> None:
        here, drawn = found(alone / case)
        there, drawn_there = found(out)
        samples = f"{'the same' if drawn == drawn_there else 'OTHER'} samples ({len(drawn)})"
        print(f"{case:12} {name:36} {difference(here, there):.1e} {samples}", flush=True)

    try:
        with ranks(processes, place / "ranks", [*CASES], steps):
            for case in CASES:
                carry_out(case, steps, alone / case)
        for case in CASES:
            compare("two ranks", case, place / "ranks" / case)
        with two_machines(), kept_crews():
            for name, actors in ACTORS.items():
                for case in CASES:
                    out = place / str(actors) / case
                    carry_out(case, steps, out, name="ray", actors=actors)
                    compare(name, case, out)
            begun, saved = place / "begun", place / "saved"
            carry_out("momentum", steps, begun, steps // 2, name="ray", actors=4)
            shutil.copytree(begun, saved)
            carry_out("momentum", steps, begun, name="ray", actors=3)
        compare("begun by four actors, ended by three", "momentum", begun)
        shutil.rmtree(begun)
        saved.rename(begun)
        carry_out("momentum", steps, begun)
        compare("begun by four actors, ended by one", "momentum", begun)
    finally:
        processes.kill()
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
