"""Processes that share the samples fail together, and none waits for another."""

import subprocess
import sys
from pathlib import Path

import pytest

from basinet.analysis.samples import AttemptError, Share

SCRIPT = """
import sys, torch, torch.distributed as dist
from basinet.analysis.samples import AttemptError, Share
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
share, one, found = Share(rank, 2), torch.ones(()), []

def work(fails, at):
    def steps():
        total = 0.0
        for step in range(3):
            if rank in fails and step == at:
                raise ValueError(f"rank {rank} cannot")
            total += float(share.sum(one.clone())) + len(share.gather([step])) + float(share.agree(one.clone()))
        if rank in fails and at == 3:
            raise ValueError(f"rank {rank} cannot")
        return total
    return steps

def attempt(*case):
    try:
        found.append(share.attempt(work(*case)))
    except AttemptError as error:
        found.append(error.args[0])

for fails in ([], [0], [1], [0, 1]):
    for at in (0, 2, 3):
        attempt(fails, at)
print(found)
dist.destroy_process_group()
"""

ANALYSIS = """
import sys, torch, torch.distributed as dist
from basinet.analysis.measure import measure_replica
from basinet.analysis.sites import Bench
from basinet.sim.block import Block
from basinet.sim.config import Config
from basinet.sim.placement import Placement
from basinet.sim.setup import Setup
from basinet.sim.tasks import Task
rank, store = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
setup = Setup.build(Config.parse({
    "task": "digits", "model": {"name": "mlp", "hidden": [2]}, "topology": {"name": "ring", "agents": 3},
    "strategy": "diffusion", "batch_size": 4, "steps": 1, "replicas": 1, "analysis_samples": 30,
    "runtime": {"dtype": "float64", "device": "cpu"}, "analysis_points": ["centroid", "agents"],
    "analysis": ["consensus_sharpness", "stability_limit"],
}))
state = Block(setup, Placement.split(1, 3), torch.device("cpu")).state_dict()

def show():
    rows = measure_replica(setup, state, 0, rank, 2)
    reasons = {row["reason"] for row in rows if "failed" in row}
    return [row.get("failed", row.get("agent")) for row in rows], *reasons

def fails_at(number):
    def fail(self, *_, **__):
        if rank == number:
            raise RuntimeError(f"rank {rank} cannot")
        return {}
    return fail

center, evaluate = Bench.center, Task.evaluate
Bench.center = fails_at(0)
print(*show())
Bench.center, Task.evaluate = center, fails_at(1)
print(*show())
Task.evaluate = evaluate
print(*show())
dist.destroy_process_group()
"""


def said_by_both(script: str, folder: Path) -> str:
    """Run a script as two processes that say the same."""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(rank), str(folder / "store")], stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    return outputs[0].decode()


def test_a_failure_in_one_process_is_one_in_all(tmp_path: Path) -> None:
    cases = [15.0] * 3 + ["rank 0 cannot"] * 3 + ["rank 1 cannot"] * 3 + ["rank 0 cannot"] * 3
    assert said_by_both(SCRIPT, tmp_path) == f"{cases}\n"


def test_what_fails_outside_a_measure_fails_in_all_processes_and_keeps_what_is_known(tmp_path: Path) -> None:
    failed = ["consensus_sharpness", "stability_limit"]
    assert said_by_both(ANALYSIS, tmp_path).splitlines() == [
        f"{failed} RuntimeError: rank 0 cannot",
        f"{[None, *failed]} RuntimeError: rank 1 cannot",
        f"{[None, 0, 1, 2]}",
    ]


def test_a_process_alone_says_why() -> None:
    with pytest.raises(AttemptError) as failure:
        Share().attempt(lambda: 1 / 0)
    assert failure.value.args[0] == "ZeroDivisionError: division by zero"
    assert "Traceback" in failure.value.args[1]
    assert Share().attempt(lambda: 3) == 3
