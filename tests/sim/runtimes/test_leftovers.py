"""Whatever ends a command, it leaves no process, no shared memory, no socket and no temporary file behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
import yaml

from basinet.sim.run.folder import load_run
from tests.processes import HANGS

MINE = """
from pathlib import Path

import torch


class Ends(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        Ends.steps += 1
        if Ends.steps > 300:  # the trial before has a few
            if self.param_groups[0]["lr"] == 0.2:
                raise ArithmeticError("too much of it")
            Path("begun").touch()
        return super().step(closure)
"""
RUN = {
    "task": {"name": "quadratic", "curvature": [1.0, 2.0]},
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "replicas": 1,
    "analysis": [],
}
WELL, FAILS, ENDLESS = 0.1, 0.2, 0.3
RUNTIMES = {"inline": {}, "ranks": {"name": "torchrun"}, "actors": {"name": "ray", "actors": 2, "cpus_per_actor": 0.25}}
ENDS = {"well and in failure": [WELL, FAILS], "on Ctrl-C": [ENDLESS]}


def processes_of(mark):
    """Find processes by a variable of their environment, which all that one starts inherit."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found[path.name] = (path / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("end", ENDS)
def test_a_command_leaves_nothing_behind(end, runtime, tmp_path, processes):
    place = tempfile.mkdtemp(prefix="b-", dir="/tmp")  # the sockets of Ray need a short path
    mark, before = uuid.uuid4().hex, {*os.listdir("/dev/shm")}
    (tmp_path / "mine.py").write_text(MINE)
    steps = 10**9 if ENDS[end] == [ENDLESS] else 600
    keys = {"optimizer": {"name": "mine:Ends", "lr": ENDS[end]}, "steps": steps, "evaluate_every": 300}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(RUN | keys | {"runtime": RUNTIMES[runtime]}))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"] if runtime == "ranks" else []
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "basinet", "run", "e.yaml", "--out", "out"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_TMPDIR")}
        # Torch keeps its cache for the next process.
        | {"TMPDIR": place, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "MARK": mark, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        if end == "on Ctrl-C":
            processes.wait_until(lambda: (tmp_path / "begun").exists() or process.poll() is not None)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate(timeout=HANGS)[1]
        shared = {*os.listdir("/dev/shm")} - before
        processes.wait_until(lambda: not processes_of(mark))
        # Those of other tests at work are gone sooner or later.
        processes.wait_until(lambda: not shared & {*os.listdir("/dev/shm")})
        assert os.listdir(place) == [], said
    finally:
        for number in processes_of(mark):
            os.kill(int(number), signal.SIGKILL)
        shutil.rmtree(place)
    states = [load_run(path.parent).status["state"] for path in sorted((tmp_path / "out").glob("*/status.json"))]
    if end == "on Ctrl-C":
        assert states == ["interrupted"] and "To go on: " in said
        assert process.returncode == (1 if launcher else 130), said  # torchrun has a status of its own
    else:
        # A rank that fails ends all, and with them the runs that would follow.
        assert states == ["done", "failed"] and process.returncode == 1 and "too much of it" in said
