"""A runtime is a class and an entry: nothing else knows its name."""

import ast
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from basinet.launch.api import run
from basinet.sim.experiment.component import ExperimentError
from basinet.sim.experiment.config import Config, RuntimePart
from basinet.sim.runtimes import ON_RANKS, RUNTIMES
from basinet.sim.runtimes import runtime as module
from basinet.sim.runtimes.inline import Inline
from basinet.sim.runtimes.runtime import runtime_of
from basinet.sim.setup.build import build_setup

ROOT = Path(__file__).parents[3]
BASE = {
    "task": "quadratic",
    "topology": {"name": "ring", "agents": 3},
    "strategy": ["diffusion", "isolated"],
    "steps": 4,
    "replicas": 1,
    "analysis": [],
}


class Own(Inline):
    """Notes what it is asked."""

    done: ClassVar[list[str]] = []

    def check(self, setup):
        self.done.append("check")

    def team(self, *given):
        self.done.append("team")
        return super().team(*given)

    @staticmethod
    def carry_out(work, parts):
        Own.done.append(f"{len(work)} {parts[0].name}")
        Inline.carry_out(work, parts)

    @staticmethod
    def together(work):
        Own.done.append("together")
        return work()


def test_a_runtime_is_a_class_and_an_entry(monkeypatch, no_reports, tmp_path):
    monkeypatch.setitem(RUNTIMES, "own", f"{__name__}:Own")
    monkeypatch.setattr(Own, "done", [])
    own, inline = (run(**BASE, runtime=name, out=tmp_path / name, quiet=True) for name in ("own", "inline"))
    assert Own.done == ["together", "check", "check", "2 own", "team", "team"]
    assert own.states == inline.states == {"diffusion-atc": "done", "isolated": "done"}
    assert [r.metrics for r in own.runs] == [r.metrics for r in inline.runs]


def test_an_unknown_runtime_is_refused_with_the_names_of_all():
    sentence = r"^runtime\.name: got 'rya'; allowed: inline, ray, torchrun; did you mean 'ray'\?$"
    for given in ("rya", {"name": "rya"}):
        with pytest.raises(ExperimentError, match=sentence):
            Config.parse({**BASE, "strategy": "diffusion", "runtime": given})


def test_runtimes_on_ranks_are_known_without_their_modules():
    assert {name for name in RUNTIMES if runtime_of(RuntimePart(name=name)).on_ranks} == ON_RANKS


def test_no_room_compares_the_names_of_runtimes():
    for room in ("sim", "analysis", "launch"):
        for file in (ROOT / room).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if not any(f'"{name}"' in text for name in RUNTIMES):
                continue
            for node in ast.walk(ast.parse(text)):
                compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
                words = {part.value for part in compared if isinstance(part, ast.Constant)}
                assert not words & RUNTIMES.keys(), (file, node.lineno)


def test_a_worker_has_what_its_runtime_says(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    world = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in (world | {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    ray = {"name": "ray", "actors": 3, "cpus_per_actor": 2.5}
    told = {}
    for given in (
        {"name": "inline", "actors": 3},
        {"name": "torchrun", "threads": 5},
        ray,
        ray | {"gpus_per_actor": 1},
    ):
        part = RuntimePart(**given)
        runtime = runtime_of(part)
        told[part.name, part.gpus_per_actor] = [
            str(runtime.device()),
            runtime.workers,
            runtime.workers_here,
            runtime.threads() if part.name != "inline" else None,
        ]
    assert told == {
        ("inline", 0): ["cuda:1", 1, 1, None],
        ("torchrun", 0): ["cuda:1", 4, 4, 5],
        ("ray", 0): ["cpu", 3, None, 2],
        ("ray", 1): ["cuda", 3, None, 2],
    }
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "processors", lambda: 8)
    assert runtime_of(RuntimePart(name="torchrun")).threads() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")  # those of this rank alone
    assert runtime_of(RuntimePart(name="torchrun")).threads() == 8
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # a task of Slurm is torchrun, whose ranks share them
    assert runtime_of(RuntimePart(name="torchrun")).threads() == 2
    monkeypatch.delenv("RANK")
    assert runtime_of(RuntimePart(name="torchrun")).workers_here is None  # nobody has started any


@pytest.mark.parametrize("name", ["ray", "torchrun"])
def test_a_gpu_of_other_machines_is_not_missed_here(name):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    runtime = {"name": name, "device": "cuda"}
    build_setup(Config.parse({**BASE, "strategy": "diffusion", "runtime": runtime}))
    with pytest.raises(ExperimentError, match=r"^runtime\.device: got 'cuda', but torch finds no GPU here"):
        build_setup(Config.parse({**BASE, "strategy": "diffusion", "runtime": runtime | {"name": "inline"}}))
