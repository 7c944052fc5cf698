"""The scripts that start an experiment on several machines."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from basinet.launch.cli import main
from basinet.sim.run.folder import load_runs
from tests.processes import HANGS

TINY = {
    "task": "quadratic",
    "topology": {"name": "ring", "agents": 8},
    "strategy": "diffusion",
    "steps": 20,
    "replicas": 2,
    "analysis": [],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my tiny.yaml").write_text(yaml.safe_dump(TINY))


def launch(capsys, *words):
    assert main(["launch", *words]) == 0
    text = capsys.readouterr().out
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and not checked.stderr, text
    assert text.startswith("#!/bin/bash\n")
    return text


def command(text, first):
    """Find the words of the line that begins with a word."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(first)]
    return shlex.split(line)


WORDS = ["my tiny.yaml", "optimizer.lr=0.1,0.2", "runtime.name=inline", "--out", "my runs"]


def test_slurm_starts_torchrun_once_a_machine(capsys):
    text = launch(capsys, "slurm", *WORDS, "--nodes", "4", "--gpus", "2", "--cpus", "3", "--time", "02:00:00")
    lines = text.splitlines()
    requests = dict(line.removeprefix("#SBATCH --").split("=", 1) for line in lines if line.startswith("#SBATCH"))
    # Slurm reads no request after the first command.
    assert all(line.startswith("#SBATCH") for line in lines[1 : 1 + len(requests)])
    assert requests == {
        "job-name": "my_tiny",
        "nodes": "4",
        "ntasks-per-node": "1",
        "cpus-per-task": "6",
        "gpus-per-node": "2",
        "time": "02:00:00",
        "signal": "TERM@60",
    }
    words = command(text, "srun")
    assert words[2:5] == ["torchrun", "--nnodes=4", "--rdzv_backend=c10d"] and "--nproc_per_node=2" in words
    given = ["run", "my tiny.yaml", "optimizer.lr=0.1,0.2", "runtime.name=torchrun", "--out", "my runs"]
    assert words[words.index("basinet") + 1 :] == given


def test_torchrun_is_the_same_on_all_machines(capsys):
    words = command(launch(capsys, "torchrun", *WORDS, "--workers", "8"), "torchrun")
    assert words[1:3] == ["--standalone", "--nproc_per_node=8"]
    text = launch(capsys, "torchrun", *WORDS, "--nodes", "2", "--workers", "8")
    assert "--rdzv_endpoint=$HEAD:29500" in command(text, "torchrun")
    without = subprocess.run(["/bin/bash"], input=text, capture_output=True, text=True, env={}, check=False)
    assert without.returncode != 0 and "HEAD" in without.stderr


def test_ray_gathers_machines_before_it_runs(capsys):
    text = launch(capsys, "ray", *WORDS, "--nodes", "2", "--workers", "4", "--gpus", "2")
    assert "runtime.actors=8" in text and "runtime.gpus_per_actor=0.5" in text and "runtime.name=inline" not in text
    assert "--num-cpus=4 --num-gpus=2" in text and "ray stop" not in text
    assert "ray start" not in launch(capsys, "ray", *WORDS)
    for verb, needed in (("join", "HEAD"), ("run", "HEAD"), ("", "head, join, run or stop")):
        without = subprocess.run(["/bin/bash", "-s", verb], input=text, capture_output=True, text=True, check=False)
        assert without.returncode != 0 and needed in without.stderr


@pytest.mark.slow
@pytest.mark.ray
def test_the_script_for_ray_shares_a_run_and_stops_nothing_but_its_own(capsys, tmp_path, monkeypatch, no_reports):
    """Two nodes with one processor each, where a run of two actors needs both; and a Ray of somebody else's."""
    keys = ["analysis=[]", "runtime.dtype=float64"]
    assert main(["run", "my tiny.yaml", *keys, "--out", "inline", "--quiet"]) == 0
    capsys.readouterr()
    Path("go.sh").write_text(launch(capsys, "ray", "my tiny.yaml", *keys, "--nodes", "2", "--out", "out"))
    foreign = tmp_path / "gcs_server"  # `ray stop` would end whatever is called so
    shutil.copy(shutil.which("sleep"), foreign)
    somebody_elses = subprocess.Popen([foreign, "600"])
    # Sockets need a short path; each machine has its own.
    machines = [tempfile.mkdtemp(prefix="node-", dir="/tmp") for _ in range(2)]
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    common = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "HEAD")} | {"PATH": binaries}
    common |= {"PORT": str(20000 + os.getpid() % 10000), "RAY_object_store_memory": "100000000"}

    def do(verb, machine, **more):
        words = ["bash", "go.sh", verb]
        done = subprocess.run(
            words, env=common | {"RAY_TMPDIR": machines[machine]} | more, capture_output=True, text=True, timeout=HANGS
        )
        assert done.returncode == 0, (verb, done.stdout, done.stderr)

    try:
        do("head", 0)
        do("join", 1, HEAD="127.0.0.1")
        do("run", 0, HEAD="127.0.0.1")
    finally:
        for machine in (1, 0):
            do("stop", machine)
        alive = somebody_elses.poll() is None
        somebody_elses.kill()
        somebody_elses.wait()
        left = [list(Path(machine).iterdir()) for machine in machines]
        for machine in machines:
            shutil.rmtree(machine)
    assert alive and left == [[], []]
    assert Path(".my_tiny-token").stat().st_mode & 0o777 == 0o600
    for here, there in zip(load_runs("inline"), load_runs("out"), strict=True):
        assert there.status["state"] == "done"
        assert there.metrics[-1]["train_loss"] == pytest.approx(here.metrics[-1]["train_loss"], rel=1e-10)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["my tiny.yaml", "strategy=difusion"], "did you mean 'diffusion'"),
        (["my tiny.yaml", "--nodes", "3", "--workers", "6"], "are 18 workers; allowed are at most 16"),
        (["my tiny.yaml", "other.yaml"], "one experiment at a time"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, words, sentence):
    assert main(["launch", "slurm", *words]) == 2
    found = capsys.readouterr()
    assert sentence in found.err and found.err.count("\n") == 1 and found.out == ""


def test_numbers_of_machines_are_positive(capsys):
    with pytest.raises(SystemExit) as error:
        main(["launch", "slurm", "my tiny.yaml", "--nodes", "0"])
    assert error.value.code == 2 and "got 0; allowed are 1, 2" in capsys.readouterr().err
