"""The page on several machines: each of its commands is run, on two nodes of Ray, of torchrun and of Slurm."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from basinet.sim.run.folder import load_runs
from tests.processes import HANGS, free_port

PAGE = (Path(__file__).parents[3] / "docs" / "several_machines.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
EXPERIMENT = {
    "task": "quadratic",
    "topology": {"name": "ring", "agents": 4},
    "strategy": "diffusion",
    "optimizer": {"name": "loud:Loud", "lr": 0.1},
    "steps": 20,
    "evaluate_every": 10,
    "replicas": 1,
    "runtime": {"dtype": "float64", "engine": "loop"},
    "analysis": [],
}
OWN = {
    "loud.py": """
import os, sys, torch
import beside

class Loud(torch.optim.SGD):
    def step(self, closure=None):
        print(beside.TEXT)
        os.write(2, b"no Python\\n")
        print("a warning", file=sys.stderr)
        return super().step(closure)
""",
    "beside.py": "TEXT = 'it steps'",
}


def test_every_command_of_the_page_is_here():
    programs = {next(word for word in shlex.split(line) if "=" not in word) for line in COMMANDS}
    assert programs == {"basinet", "torchrun", "bash", "sbatch", "kubectl"}


RAY = """#!/bin/bash
if [ "$1" != job ]; then exec {ray} "$@"; fi
# Other than Ray, which needs a dashboard for it: the job checks the experiment, and runs nothing.
[ "$2 $3" = "submit --working-dir" ] && [ -n "$RAY_API_SERVER_ADDRESS" ] && cp -r "$4" {there} && cd {there} || exit 2
while [ "$1" != -- ]; do shift; done
shift
exec "$@" --dry-run
"""


class Machines:
    """Two machines, which share the current folder; each has its own place for Ray and its own modules."""

    def __init__(self, folders, port):
        self.folders = folders
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment |= {"PORT": str(port), "RAY_object_store_memory": "100000000"}

    def do(self, line, machine=0):
        """Carry out a line of the page on a machine."""
        line = line.replace("node1", "127.0.0.1")
        done = subprocess.run(
            ["bash", "-c", line],
            env=self.environment | {"RAY_TMPDIR": self.folders[machine]},
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def on_all(self, line):
        """Carry out a line on all machines at the same time."""
        with ThreadPoolExecutor() as threads:
            return list(threads.map(lambda machine: self.do(line, machine), range(len(self.folders))))


@pytest.fixture
def machines(quick_commands):
    # Sockets need a short path.
    folders = [tempfile.mkdtemp(prefix="node-", dir="/tmp") for _ in range(2)]
    yield Machines(folders, free_port())
    for folder in folders:
        shutil.rmtree(folder)


def fake(commands, name, script):
    (commands / name).write_text(script)
    (commands / name).chmod(0o755)


@pytest.mark.slow
@pytest.mark.ray
def test_the_commands_of_the_page_give_the_same_numbers_on_all_machines(
    machines, commands, tmp_path, monkeypatch, capsys, no_reports
):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    Path("experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    for name, text in OWN.items():
        Path(name).write_text(text)
    fake(commands, "kubectl", f"""#!/bin/bash\n[ "$1 $2" = "apply -f" ] && cp "$3" {tmp_path}/applied.yaml\n""")
    fake(commands, "ray", RAY.format(ray=shutil.which("ray"), there=tmp_path / "there"))
    foreign = tmp_path / "gcs_server"  # `ray stop` would end whatever is called so
    shutil.copy(shutil.which("sleep"), foreign)
    somebody_elses = subprocess.Popen([foreign, "600"])
    try:
        for line in COMMANDS:
            command, _, where = line.partition(" #")
            if where.strip() == "on all":
                machines.on_all(command)
            else:
                machines.do(command, machine=int(where.strip() == "on the others"))
        alive = somebody_elses.poll() is None
    finally:
        if Path("go.sh").exists():
            machines.on_all("bash go.sh stop")
        somebody_elses.kill()
        somebody_elses.wait()
    assert alive and [os.listdir(folder) for folder in machines.folders] == [[], []]
    assert Path(".experiment-token").stat().st_mode & 0o777 == 0o600

    (alone,) = load_runs("runs/mine")
    for name in ("ranks", "ray", "torchrun", "slurm"):
        (run,) = load_runs(f"runs/{name}")
        assert run.status["state"] == "done" and run.path.name == alone.path.name
        for here, there in zip(alone.metrics, run.metrics, strict=True):
            assert there == pytest.approx(here, rel=1e-10)
        logs = sorted((run.path / "logs").iterdir())
        assert [log.name for log in logs] == ["worker-0.log", "worker-1.log"]
        for rank, log in enumerate(logs):
            text = log.read_text()
            assert text.startswith(f"--- worker {rank}: process ")
            # each of two agents in each of 20 steps
            assert text.count("it steps\n") >= 20, (name, text)
            if name == "ray" or rank > 0:
                assert "no Python\n" in text and "a warning\n" in text
    assert not (alone.path / "logs").exists()
    assert (tmp_path / "there" / "experiment.yaml").exists() and not Path("runs/job").exists()
    assert {run.status["state"] for name in ("parts", "grid") for run in load_runs(f"runs/{name}")} == {"done"}
    assert len(load_runs("runs/parts")) == len(load_runs("runs/grid")) == 2
    assert [document["kind"] for document in yaml.safe_load_all((tmp_path / "applied.yaml").read_text())] == [
        "ConfigMap",
        "RayJob",
    ]
