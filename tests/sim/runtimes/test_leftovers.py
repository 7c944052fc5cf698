"""Whatever ends a command, it leaves no process, no shared memory, no socket and no temporary file behind."""

import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path

import pytest
import yaml
from torch.distributed import run as torchrun

from basinet.launch.cli import main
from basinet.sim.run.folder import load_run
from tests.processes import free_port

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


def command(words):
    """Carry out a command in a session of its own, as in a terminal."""
    os.setsid()
    tempfile.tempdir = None  # which was looked up before
    return main(words)


def launcher(words):
    """Let torchrun start the ranks."""
    os.setsid()
    tempfile.tempdir = None
    return torchrun.main(["--standalone", "--nproc_per_node=2", "-m", "basinet", *words])


def processes_of(mark, sessions):
    """Find processes by their session, or by a variable of their environment, which all that one starts inherit."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) in sessions or mark.encode() in (path / "environ").read_bytes():
                found[path.name] = (path / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("end", ENDS)
def test_a_command_leaves_nothing_behind(end, runtime, tmp_path, processes, monkeypatch):
    place = tempfile.mkdtemp(prefix="b-", dir="/tmp")  # the sockets of Ray need a short path
    mark, before = uuid.uuid4().hex, {*os.listdir("/dev/shm")}
    (tmp_path / "mine.py").write_text(MINE)
    interrupted = end == "on Ctrl-C"
    keys = {"optimizer": {"name": "mine:Ends", "lr": ENDS[end]}, "steps": 10**9 if interrupted else 600}
    keys |= {"evaluate_every": 300, "runtime": RUNTIMES[runtime]}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(RUN | keys))
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    # Torch keeps its cache for the next process.
    environment = {"TMPDIR": place, "TORCHINDUCTOR_CACHE_DIR": tmp_path / "cache", "MARK": mark, "OMP_NUM_THREADS": 1}
    words = ["run", "e.yaml", "--out", "out"]
    if runtime != "ranks":
        started = [processes.start(command, words, **environment)]
    elif interrupted:
        started = [processes.start(launcher, words, **environment)]
    else:  # as Slurm starts them
        environment |= {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        started = [processes.start(command, words, RANK=rank, LOCAL_RANK=rank, **environment) for rank in range(2)]
    sessions = {process.pid for process in started}
    try:
        if interrupted:
            processes.wait_until(lambda: (tmp_path / "begun").exists())
            os.killpg(started[0].pid, signal.SIGINT)  # as a terminal does
        statuses, said = processes.end()
        said = said[0][1]
        shared = {*os.listdir("/dev/shm")} - before
        processes.wait_until(lambda: not processes_of(mark, sessions), alive=False)
        # Those of other tests at work are gone sooner or later.
        processes.wait_until(lambda: not shared & {*os.listdir("/dev/shm")}, alive=False)
        assert os.listdir(place) == [], said
    finally:
        for number in processes_of(mark, sessions):
            os.kill(int(number), signal.SIGKILL)
        shutil.rmtree(place)
    states = [load_run(path.parent).status["state"] for path in sorted((tmp_path / "out").glob("*/status.json"))]
    if interrupted:
        assert states == ["interrupted"] and "To go on: " in said
        assert statuses == [1 if runtime == "ranks" else 130], said  # torchrun has a status of its own
    else:
        # A rank that fails ends all, and with them the runs that would follow.
        assert states == ["done", "failed"] and {*statuses} == {1} and "too much of it" in said
