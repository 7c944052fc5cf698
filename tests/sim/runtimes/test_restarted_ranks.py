"""Ranks that hang or die, and are started again as torchrun does, with what the others have left in its store."""

import os
import signal

import pytest
import torch.distributed as dist
import yaml

from basinet.launch.cli import main
from basinet.sim.run.folder import load_run
from basinet.sim.runtimes.silence import SILENCE

MINE = """
import os
import signal
from pathlib import Path

import torch


class FailsTwice(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        FailsTwice.steps += 1
        for number in (signal.SIGSTOP, signal.SIGKILL):  # a checkpoint is on disk, and each happens once
            file = Path(f"had-{int(number)}")
            if os.environ.get("RANK") == "1" and FailsTwice.steps > 40 and Path("saved").exists() and not file.exists():
                file.touch()
                os.kill(os.getpid(), number)
        return super().step(closure)
"""

RUN = {
    "task": {"name": "quadratic", "curvature": [1.0, 2.0]},
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "optimizer": {"name": "mine:FailsTwice", "lr": 0.01},
    "steps": 60,
    "evaluate_every": 10,
    "replicas": 1,
    "analysis": [],
    "runtime": {"dtype": "float64", "device": "cpu", "engine": "loop"},
}


def on_rank(words):
    """Run the command with a checkpoint at every step, once told so by a file for the optimizer."""
    from basinet.analysis.report import report
    from basinet.launch import api
    from basinet.sim.run import folder, monitor, simulation

    write = folder.RunFolder.write

    def note(self, path, data):
        write(self, path, data)
        if path == self.checkpoint:
            open("saved", "w").close()

    folder.RunFolder.write = note
    always = monitor.Rhythm(slice=0.0, checkpoint=0.0, first_checkpoint=0.0)
    api.simulate = lambda *given, **keys: simulation.simulate(*given, **keys, rhythm=always)
    report.write_report = lambda out: None
    return main(words)


def test_ranks_that_hang_or_die_are_named_and_those_started_again_end_like_an_unbroken_run(
    tmp_path, processes, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(RUN))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's, it outlives ranks
    world = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "LOCAL_WORLD_SIZE": 2}
    world |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": 1}
    words = ["run", "e.yaml", "runtime.name=torchrun", "--out", "out"]
    ended, said = [], []
    for seconds in (30, 900, 900):
        world[SILENCE] = seconds
        ranks = [processes.start(on_rank, words, RANK=rank, LOCAL_RANK=rank, **world) for rank in (0, 1)]
        ((status,), ((_, first),)) = processes.end(ranks[:1])
        if status:
            ranks[1].kill()  # as torchrun ends the others
        ((other,), _) = processes.end(ranks[1:])
        ended.append((status, other))
        said.append((ranks[1].pid, first))
    assert ended == [(1, -signal.SIGKILL), (1, -signal.SIGKILL), (0, 0)], said
    for (process, words_said), why in zip(said[:2], ("has not answered for 30 s", "is gone"), strict=True):
        assert f"worker 1 (process {process} on {os.uname().nodename}) {why}" in words_said
    assert "resumed at step " in said[2][1]

    assert main(["run", "e.yaml", "optimizer.name=sgd", "--out", "whole", "--quiet"]) == 0
    broken, whole = (load_run(tmp_path / out / "diffusion-atc").metrics for out in ("out", "whole"))
    assert [row["step"] for row in broken] == [*range(0, 61, 10)]
    for there, here in zip(broken, whole, strict=True):
        assert there == pytest.approx(here, rel=1e-10, abs=1e-14)
