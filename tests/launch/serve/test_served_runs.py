"""What the server of the local page answers, from folders that change while they are read."""

import os
import shutil
import socket
from dataclasses import asdict
from statistics import fmean, stdev

import pytest
import torch

from basinet.launch.serve.page_details import abandoned, worker_of
from basinet.launch.serve.study_index import StudyIndex
from basinet.sim.run.files import read_json, sealed_json, sealed_yaml
from basinet.sim.run.folder import load_run
from basinet.sim.run.quantity import Quantity
from basinet.sim.run.records import lines_of
from basinet.sim.run.trajectory import TrajectoryWriter
from tests.launch.serve.planted_studies import ask, damage_status, link_out, listing, plant, rows_of, serving


def test_runs_are_listed_with_their_state_keys_and_last_values(server, runs):
    found = {run["id"]: run for run in listing(server)["runs"]}
    assert {name: run["state"] for name, run in found.items()} == {
        "first/consensus": "done",
        "first/diffusion": "done",
        "second/next": "waiting",
        "second/now": "running",
    }
    assert found["first/diffusion"]["study"] == "first" and found["second/now"]["step"] == 20
    assert found["first/consensus"]["config"]["strategy.name"] == "consensus"
    final = load_run(runs / "first" / "consensus").final("train_loss").values()
    assert found["first/consensus"]["finals"]["train_loss"] == pytest.approx([fmean(final), stdev(final), 2], rel=1e-3)


def test_what_the_analysis_has_measured_has_its_names(server, runs):
    named = {"quantities": {"dent": asdict(Quantity("depth of the dent", unit="mm", direction="smaller"))}}
    (runs / "first" / "diffusion" / "analyzed.json").write_text(sealed_json(named))
    found = listing(server)["quantities"]["dent"]
    assert (found["label"], found["unit"], found["direction"]) == ("depth of the dent", "mm", "smaller")


def test_only_what_has_changed_is_listed_again(server, runs):
    before = listing(server)
    assert before["version"] == server.index.version
    assert listing(server, before["version"])["runs"] == []
    with open(runs / "second" / "now" / "metrics.jsonl", "ab") as file:
        file.write(lines_of([{"step": 30, "replica": 0, "train_loss": 0.125, "epoch": 1.5}]))
    shutil.rmtree(runs / "first" / "diffusion")
    after = listing(server, before["version"])
    assert listing(server)["version"] == after["version"]
    (run,) = after["runs"]
    assert run["id"] == "second/now" and len(after["numbers"]) == 3
    assert ask(server, f"/api/run?run={before['runs'][1]['number']}").status == 404
    status = runs / "second" / "now" / "status.json"
    status.write_text(sealed_json(read_json(status) | {"step": 30}))  # of the same length
    again = listing(server, after["version"])
    assert [run["step"] for run in again["runs"]] == [30]
    shutil.rmtree(runs / "first" / "consensus")
    assert listing(server, again["version"])["version"] > again["version"]


def test_numbers_that_json_cannot_hold_are_words(server, runs):
    plant(runs / "third" / "odd", rows_of(2), lr=float("inf"))
    assert {run["config"]["optimizer.lr"] for run in listing(server)["runs"]} == {0.1, "inf"}


def test_what_is_hidden_or_was_being_deleted_is_no_run(server, runs):
    for name in (".hidden", ".discarded-now"):
        shutil.copytree(runs / "second" / "now", runs / "second" / name)
    assert len(listing(server)["numbers"]) == 4


@pytest.mark.parametrize("asked", ["runs", "first", "first/diffusion"])
def test_a_folder_of_studies_a_study_and_a_run_can_be_served(runs, asked):
    with serving(runs if asked == "runs" else runs / asked) as server:
        found = listing(server)
    assert len(found["runs"]) == {"runs": 4, "first": 2}.get(asked, 1) and not found["problems"]


def damage_config(run):
    (run / "config.yaml").write_text("# crc32 00000000 of what follows\na: 1\n")


def lose_config(run):
    (run / "config.yaml").unlink()


def damage_line(run):
    content = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(content.replace(b'"train_loss"', b"train_loss", 9))


def damage_number(run):
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 20,', b'"step": ' + b"9" * 40 + b","))


@pytest.mark.parametrize("damage", [damage_status, damage_config, lose_config, damage_line, link_out])
def test_what_cannot_be_read_is_named_and_the_rest_is_shown(server, runs, damage):
    damage(runs / "first" / "diffusion")
    found = listing(server)
    states = {run["id"]: run["state"] for run in found["runs"]}
    assert states["first/consensus"] == "done" and states.get("first/diffusion", "damaged") == "damaged"
    (problem,) = found["problems"]
    assert str(runs / "first" / "diffusion") in problem and "\n" not in problem


def lose_rows(run):
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-200] + lines_of(rows_of(6)[-1:]))


@pytest.mark.parametrize("damage", [lose_rows, damage_number])
def test_lost_measurements_are_named_beside_the_curves(server, runs, damage):
    path = runs / "first" / "diffusion" / "metrics.jsonl"
    damage(path.parent)
    listing(server)
    found = ask(server, "/api/curves?metric=train_loss&groups=0;1").content
    assert [len(curve["x"]) for curve in found["curves"]] == [6, 0]
    (problem,) = found["problems"]
    assert str(path) in problem


def test_agents_have_positions_labels_and_values_through_time(server, runs):
    folder = runs / "first" / "diffusion"
    with open(folder / "metrics.jsonl", "ab") as file:
        for step in (30, 40, 50):
            row = {"step": step, "replica": 1, "test_loss_error": 0.1}
            file.write(lines_of([row | {"agent": k, "test_loss": k / 4} for k in (0, 2)]))
    (folder / "partition.csv").write_text("replica,agent,label,samples\n1,0,3,5\n1,2,7,6\n1,2,3,1\n0,1,9,9\n")
    (folder / "attackers.csv").write_text("replica,agent\n1,2\n")
    writer = TrajectoryWriter(folder, 10, 50)
    for frame in range(6):
        agents = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, frame]])
        writer.add(torch.zeros(2, 2), torch.cat([agents * 0, agents]))
    listing(server)
    found = ask(server, "/api/agents?run=1&replica=1").content
    assert len(found["positions"]) == 3 and found["attackers"] == [2] and len(found["edges"]) == 3
    assert found["labels"] == [3, 7] and found["mix"] == [[5, 0], [0, 0], [1, 6]]
    assert found["values"]["test_loss"] == {"steps": [30, 40, 50], "frames": [[0.0, None, 0.5]] * 3}
    assert [*found["values"]] == ["test_loss", "distance"]
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(lines_of([{"step": 60, "replica": 1, "agent": 1, "test_loss": 9.0}]))
    listing(server)
    assert ask(server, "/api/agents?run=1&replica=1").content["values"]["test_loss"]["frames"][-1] == [None, 9.0, None]
    assert found["values"]["distance"]["steps"] == [0, 10, 20, 30, 40, 50]
    assert found["values"]["distance"]["frames"] == [[0.0, 5.0, float(frame)] for frame in range(6)]


def test_arrows_lead_from_senders_to_receivers(server, runs):
    (runs / "first" / "diffusion" / "topology.csv").write_text(
        "receiver,sender,weight\n0,1,0.5\n0,0,0.5\n1,2,1\n2,0,1\n"
    )
    listing(server)
    found = ask(server, "/api/agents?run=1").content
    assert found["directed"] and sorted(found["edges"]) == [[0, 2, 1.0], [1, 0, 0.5], [2, 1, 1.0]]


def test_of_many_edges_the_lightest_are_left_out(server, runs):
    lines = [f"{k},{j},{0.001 if {j, k} == {3, 5} else 0.01}" for k in range(80) for j in range(80) if j != k]
    (runs / "first" / "diffusion" / "topology.csv").write_text("\n".join(["receiver,sender,weight", *lines]))
    listing(server)
    found = ask(server, "/api/agents?run=1").content
    assert len(found["edges"]) == 3000 and found["edges_left_out"] == 160
    assert {weight for *_, weight in found["edges"]} == {0.01}


def test_a_run_without_a_graph_says_so(server, runs):
    (runs / "first" / "diffusion" / "topology.csv").unlink()
    listing(server)
    answer = ask(server, "/api/agents?run=1")
    assert answer.status == 200 and "topology.csv" in answer.content["missing"]


def test_a_failed_run_shows_its_reason_its_traceback_and_the_ends_of_its_logs(server, runs):
    folder = plant(runs / "third" / "bad", rows_of(1), state="failed", error="no room", traceback="Traceback: …")
    (folder.parent / "slurm-1.out").write_bytes(b"x" * 100_000 + b"\xff the end")
    (folder.parent / "linked.log").symlink_to("/etc/passwd")
    (folder.parent / "report.html").write_text("<p>report</p>")
    (number,) = (run["number"] for run in listing(server)["runs"] if run["id"] == "third/bad")
    found = ask(server, f"/api/run?run={number}").content
    assert found["status"]["error"] == "no room" and found["traceback"] == "Traceback: …"
    assert any("no room" in sentence for sentence in found["incidents"])
    assert list(found["logs"]) == ["third/slurm-1.out"] and found["logs"]["third/slurm-1.out"].endswith("� the end")
    assert found["files"] == ["third/report.html"] and found["worker"].startswith("nobody: the run has ended (failed)")


def test_who_works_on_a_run(runs):
    index = StudyIndex(runs)
    index.refresh(99)
    entries = {entry.id: entry for entry in index.entries()}
    now, lock = entries["second/now"], runs / "second" / ".lock"
    for holder, sentence, gone in (
        ("", "nobody: no process has locked the folder", True),
        (f"process {os.getpid()} on {socket.gethostname()}\n", f"process {os.getpid()} on", False),
        # more than a system numbers
        (f"process {2**22 + 1} on {socket.gethostname()}\n", f"nobody: process {2**22 + 1} on", True),
        (f"process {2**22 + 1} on another-machine\n", f"process {2**22 + 1} on another-machine", False),
    ):
        lock.write_text(holder)
        assert worker_of(index, now).startswith(sentence)
        assert abandoned(index, entries.values()) == ([now.number] if gone else [])
    assert worker_of(index, entries["first/diffusion"]) == "nobody: the run has ended (done)"
    (runs / "second" / "experiment.yaml").write_text(sealed_yaml({"runs": ["now"]}))
    alone = StudyIndex(now.path)
    alone.refresh(99)
    assert worker_of(alone, alone.entries()[0]).startswith("unknown: the lock is in the folder of the experiment")
    assert abandoned(alone, alone.entries()) == []
