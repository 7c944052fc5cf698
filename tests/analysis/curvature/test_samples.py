"""Processes that share the samples fail together, and none waits for another."""

import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from basinet.analysis.curvature.samples import AttemptError, Share
from basinet.analysis.runs.context import AnalysisContext
from basinet.analysis.runs.measure_replica import measure_replica
from basinet.sim.agents.block import Block
from basinet.sim.agents.placement import Placement
from basinet.sim.experiment.config import Config
from basinet.sim.run.interruptions import watching
from basinet.sim.setup.build import build_setup
from basinet.sim.tasks import Task
from tests.processes import Processes


def meet(store: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)


def fail_here_and_there(store: Path, rank: int) -> None:
    """Attempt the same steps as another process, where one of the two fails, or both do."""
    meet(store, rank)
    share, one, found = Share(rank, 2), torch.ones(()), []

    def work(fails: list[int], at: int) -> float:
        total = 0.0
        for step in range(3):
            if rank in fails and step == at:
                raise ValueError(f"rank {rank} cannot")
            total += float(share.sum(one.clone())) + len(share.gather([step])) + float(share.agree(one.clone()))
        if rank in fails and at == 3:
            raise ValueError(f"rank {rank} cannot")
        return total

    for fails in ([], [0], [1], [0, 1]):
        for at in (0, 2, 3):
            try:
                found.append(share.attempt(partial(work, fails, at)))
            except AttemptError as error:
                found.append(error.args[0].partition(" (")[0])  # without the place in this file
    print(found)
    dist.destroy_process_group()


def fail_outside_measures(store: Path, rank: int) -> None:
    """Measure with another process, where one of the two fails before all measures or beside them, or is to stop."""
    meet(store, rank)
    setup = build_setup(
        Config.parse({
            "task": "digits", "model": {"name": "mlp", "hidden": [2]}, "topology": {"name": "ring", "agents": 3},
            "strategy": "diffusion", "batch_size": 4, "steps": 1, "replicas": 1, "analysis_samples": 30,
            "runtime": {"dtype": "float64", "device": "cpu"}, "analysis_points": ["centroid", "agents"],
            "analysis": ["consensus_sharpness", "stability_limit"],
        })
    )  # fmt: skip
    state = Block(setup, Placement.split(1, 3), torch.device("cpu")).state_dict()

    def show() -> None:
        rows = measure_replica(setup, state, 0, rank, 2)
        reasons = {row["reason"] for row in rows if "failed" in row}
        said = [reason.partition(" (")[0] for reason in reasons]  # without the place in this file
        print([row.get("failed", row.get("unfinished", row.get("agent"))) for row in rows], *said)

    def fails_at(number: int) -> Callable[..., dict[str, float]]:
        def fail(self: object, *_: object, **__: object) -> dict[str, float]:
            if rank == number:
                raise RuntimeError(f"rank {rank} cannot")
            return {}

        return fail

    with patch.object(AnalysisContext, "network", fails_at(0)):
        show()
    with patch.object(Task, "evaluate", fails_at(1)):
        show()
    show()
    stop = threading.Event()
    with watching(stop, lambda what: stop.set() if rank == 1 and what == "consensus_sharpness" else None):
        show()
    dist.destroy_process_group()


def said_by_both(processes: Processes, work: Callable[[Path, int], None], folder: Path) -> str:
    """Run a function in two processes that say the same."""
    for rank in range(2):
        processes.start(work, folder / "store", rank)
    statuses, said = processes.end()
    assert statuses == [0, 0], said
    assert said[0][0] == said[1][0]
    return said[0][0]


def test_a_failure_in_one_process_is_one_in_all(tmp_path: Path, processes: Processes) -> None:
    cases = [15.0] * 3 + ["rank 0 cannot"] * 3 + ["rank 1 cannot"] * 3 + ["rank 0 cannot"] * 3
    assert said_by_both(processes, fail_here_and_there, tmp_path) == f"{cases}\n"


def test_what_fails_outside_a_measure_fails_in_all_processes_and_keeps_what_is_known(
    tmp_path: Path, processes: Processes
) -> None:
    failed = ["consensus_sharpness", "stability_limit"]
    assert said_by_both(processes, fail_outside_measures, tmp_path).splitlines() == [
        f"{failed} RuntimeError: rank 0 cannot",
        f"{[None, *failed]} RuntimeError: rank 1 cannot",
        f"{[None, 0, 1, 2]}",
        f"{[None, *failed]}",
    ]


def test_a_process_alone_says_why() -> None:
    with pytest.raises(AttemptError) as failure:
        Share().attempt(lambda: 1 / 0)
    assert re.fullmatch(r"ZeroDivisionError: division by zero \(\S*test_samples.py:\d+\)", failure.value.args[0])
    assert "Traceback" in failure.value.args[1]
    assert Share().attempt(lambda: 3) == 3
