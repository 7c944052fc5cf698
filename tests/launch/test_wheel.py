"""What users install: the built wheel, in a user's own folder with names that could get in the way."""

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.processes import HANGS

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=HANGS)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_rooms_as_files(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    rooms = ("launch", "analysis", "sim", "algorithms", "topologies")
    kinds = ("py", "html", "yaml", "css", "js")
    files = [file for room in rooms for kind in kinds for file in (ROOT / room).rglob(f"*.{kind}")]
    assert {f"basinet/{file.relative_to(ROOT)}" for file in files} < {*names}
    assert {"basinet/__init__.py", "basinet/py.typed", "basinet/launch/experiments/main.yaml"} <= {*names}
    assert not any(name.startswith(("tests", "sim", "basinet/tests")) for name in names)


def test_the_wheel_works_beside_a_users_own_names(wheel, ray_folder, tmp_path):
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("analysis.py", "launch.py", "algorithms.py"):
        (home / name).write_text("raise RuntimeError('a file of the user was taken for the library')\n")
    (home / "sim").mkdir()
    (home / "sim" / "__init__.py").write_text("raise RuntimeError('a folder of the user was taken for the library')\n")
    (home / "mymodel.py").write_text(
        textwrap.dedent(
            """
            from torch import nn

            class Net(nn.Module):
                def __init__(self, width=5):
                    super().__init__()
                    self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))

                def forward(self, x):
                    return self.layers(x)
            """
        )
    )
    (home / "mine.yaml").write_text("task: digits\ntopology: {name: ring, agents: 4}\nstrategy: diffusion\n")
    (home / "script.py").write_text(
        textwrap.dedent(
            """
            import basinet
            from basinet.launch.cli import main
            from basinet.sim.runtimes.on_ray.ray_cluster import cluster
            from mymodel import Net

            ON_RAY = {"name": "ray", "actors": 1, "cpus_per_actor": 0.5, "device": "cpu"}

            if __name__ == "__main__":
                with cluster():
                    results = basinet.run(
                        task="digits", model=Net, topology={"name": "ring", "agents": 4}, strategy="diffusion",
                        steps=10, replicas=1, analysis=[], out="from-script", quiet=True, runtime=ON_RAY,
                    )
                    assert results.states == {"diffusion-atc": "done"}, results.states
                    words = ["run", "mine.yaml", "steps=10", "replicas=1", "analysis=[]", "--quiet"]
                    words += ["model.name=mymodel:Net", "model.width=4"]
                    assert main([*words, "--out", "inline"]) == 0
                    assert main([*words, *(f"runtime.{k}={v}" for k, v in ON_RAY.items()), "--out", "actors"]) == 0
                print(basinet.__file__)
            """
        )
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "PYTHONPATH")}
    environment["PYTHONPATH"] = str(site)

    command = [sys.executable, "script.py"]
    done = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, timeout=HANGS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(site) in done.stdout
    a, b = (home / out / "diffusion-atc" / "metrics.jsonl" for out in ("inline", "actors"))
    assert a.read_text().splitlines()[0][:80] == b.read_text().splitlines()[0][:80]
