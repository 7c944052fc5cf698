"""`basinet run --explain` says who would host what, and what would travel, and writes nothing."""

import json
from pathlib import Path

import pytest
import yaml

from basinet.launch.cli import main
from basinet.launch.previews import small_steps
from basinet.launch.previews.explaining import in_ranges

RING = {
    "task": "quadratic",
    "model": "point",
    "topology": {"name": "ring", "agents": 12},
    "strategy": ["centralized", "diffusion"],
    "replicas": 1,
    "batch_size": 4,
    "steps": 20,
    "analysis": [],
    "runtime": {"name": "ray", "actors": 3, "cpus_per_actor": 0.25, "dtype": "float64"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(RING))
    return tmp_path


def test_workers_rows_and_bytes_are_those_of_a_ring_cut_in_three(folder, capsys):
    assert main(["run", "e.yaml", "--explain", "--json", "--quiet"]) == 0
    summed, mixed = json.loads(capsys.readouterr().out)
    assert summed["runs"] == ["centralized"] and summed["summed"] and summed["crossing_rows"] == 0
    assert mixed["runs"] == ["diffusion-atc"] and not mixed["summed"]
    row = mixed["crossing_bytes"] / mixed["crossing_rows"]
    assert mixed["crossing_rows"] == 6 and row % 8 == 0  # one row each way at three borders
    assert mixed["simulated_bytes"] == 24 * row  # each agent sends to two others
    assert mixed["largest_pair"] == [0, 1, 1]
    assert sorted(agent for worker in mixed["workers"] for agent in worker["hosts"]["0"]) == [*range(12)]
    for worker in mixed["workers"]:
        assert (len(worker["hosts"]["0"]), worker["sends"], worker["receives"]) == (4, 2, 2)
        memory = worker["memory"]
        assert memory["parameters"] == memory["gradients"] == 4 * row and memory["messages"] == 4 * row
    assert [path.name for path in folder.iterdir()] == ["e.yaml"]


def test_it_is_said_in_words(folder, capsys):
    assert main(["run", "e.yaml", "--explain", "--quiet", "replicas=3", "strategy=diffusion"]) == 0
    found = capsys.readouterr()
    assert "1 run: 3 workers, runtime ray" in found.out and "replica 2: agents 0–11" in found.out
    assert "between workers: nothing in a step" in found.out
    assert "nothing started, nothing written" in found.err


def test_it_is_said_if_one_process_would_be_faster(folder, capsys, monkeypatch):
    def said(*words):
        assert main(["run", "e.yaml", "--explain", "--json", "--quiet", "strategy=diffusion", *words]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "one process takes about" in line]

    monkeypatch.setattr(small_steps, "_EXCHANGE_SECONDS", 1e3)
    (line,) = said()
    assert "faster than 3 of them; give runtime.name=inline" in line
    assert not said("replicas=3"), "nothing travels"
    assert not said("runtime.actors=1")
    monkeypatch.setattr(small_steps, "_EXCHANGE_SECONDS", 0.0)
    assert not said()


def test_what_has_no_room_is_refused(folder, capsys):
    assert main(["run", "e.yaml", "--explain", "--quiet", "runtime.cpus_per_actor=1000"]) == 2
    found = capsys.readouterr().err
    assert "runtime.actors: got 3, each with 1000 CPUs" in found and found.count("\n") == 1
    assert main(["run", "e.yaml", "--quiet", "runtime.cpus_per_actor=1000"]) == 2
    assert [path.name for path in folder.iterdir()] == ["e.yaml"]


def test_ranks_are_explained_by_the_first_one(folder, capsys, monkeypatch):
    words = ["run", "e.yaml", "--explain", "--json", "--quiet", "runtime=torchrun", "strategy=diffusion"]
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert main(words) == 0
    found = capsys.readouterr()
    assert len(json.loads(found.out)[0]["workers"]) == 1 and "no ranks have been started" in found.err
    world = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    assert main(words) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert [worker["machine"] for worker in run["workers"]] == ["machine 0"] * 2 + ["machine 1"] * 2
    monkeypatch.setenv("RANK", "1")
    assert main(words) == 0 and capsys.readouterr().out == ""
    assert [path.name for path in Path().iterdir()] == ["e.yaml"]


def test_ranges_are_short():
    assert in_ranges([*range(16), 37]) == "0–15, 37"
